"""The bits of the demo model's logits: whoever changes them must say so, or old receipts would seem forged."""

from __future__ import annotations

import pytest

from llorch.engine.engine import Engine, open_configured
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.kernels import paths
from llorch.receipts.schema import ARITHMETIC
from llorch.settings import Settings
from tests.support.receipts import receipts

PROMPT = (1, *(3 + i * 37 % 4000 for i in range(40)))
SHA256 = {1: "2839f05d69afefaef3af4ee7f87faea10b3437c34ecd1171d205fa865c128b31"}
"""Of the logits of eight greedy tokens, by revision of the arithmetic."""


@pytest.mark.skipif(paths.sums() != "llorch", reason="floats are added in another order")
def test_a_change_of_the_logits_bits_is_a_new_revision_of_the_arithmetic() -> None:
    with open_configured(Settings(model="demo", threads=1)) as loaded:
        asked = Request("job", PROMPT, SamplingParams(temperature=0), 8, ignore_eos=True, hashes_logits=True)
        [receipt] = receipts(loaded, Engine(loaded, Settings(ctx_size=64, parallel=1)), asked)
    assert receipt["logits"]["sha256"] == SHA256[ARITHMETIC], (
        "the logits have other bits than before: raise llorch.receipts.schema.ARITHMETIC and add their hash here"
    )
