"""Quantisation and norm of rows of any float32, down to single bits."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from llorch.quant.codecs.q8_0 import quantize_activation_q8_0
from tests.support import kernel_calls, naive
from tests.support.naive import bits

finite = st.integers(0, 2**32 - 1).filter(lambda word: word & 0x7F800000 != 0x7F800000)
blocks = arrays(np.uint32, st.tuples(st.integers(1, 3), st.just(64)), elements=finite).map(
    lambda words: words.view(np.float32)
)
close_floats = st.floats(-4, 4, width=32, allow_subnormal=True)


@given(x=blocks)
@settings(max_examples=80)
def test_any_finite_bits_are_quantized_like_the_codec(x: NDArray[np.float32]) -> None:
    made_q, made_d, _ = kernel_calls.q8_0_of(kernel_calls.prepare(x, kernel_calls.Q8_0_FORM))
    q, d = quantize_activation_q8_0(x)
    np.testing.assert_array_equal(made_q, q)
    np.testing.assert_array_equal(bits(made_d), bits(d))


@given(x=arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 70)), elements=close_floats))
@settings(max_examples=80)
def test_norms_equal_the_twin(x: NDArray[np.float32]) -> None:
    weight = np.linspace(-1, 2, x.shape[1]).astype(np.float32)
    out = kernel_calls.rms_norm(x, weight, 1e-5).rows.view(len(x))
    np.testing.assert_array_equal(bits(out), bits(naive.rms_norm(x, weight, 1e-5)))
