"""Any bytes: a GGUF file is refused with a clear error, or all its arrays and tensors lie inside it."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llorch.errors import GGUFError
from llorch.formats.gguf.file import GGUFFile
from llorch.quant.types import SUPPORTED
from tests.support import gguf_bytes as raw
from tests.support.mutants import mutants, overwrite
from tests.support.tiny_models import write_tiny_llama

N_MUTANTS = 9000
MAX_SECONDS = 1.0
"""Of CPU time, which a busy machine does not stretch; what hangs meets the time limit of the test run."""

# Every example overwrites the same file.
on_disk = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)


def open_and_read_everything(path: Path) -> bool:
    """True when the file opens; then every array is decoded and every tensor byte is read."""
    message = None
    start = time.thread_time()
    try:
        with GGUFFile(path) as file:
            end = path.stat().st_size
            for key in file.metadata:
                file.metadata[key]
            placed = sorted(file.tensor_infos.values(), key=lambda info: info.offset)
            for before, after in itertools.pairwise(placed):
                assert before.offset + before.n_bytes <= after.offset
            for tensor in file.tensors.values():
                info = file.tensor_infos[tensor.name]
                assert 0 < info.offset <= info.offset + info.n_bytes <= end
                assert info.offset % file.alignment == 0
                assert tensor.data.shape == (info.n_bytes,)
                assert tensor.n_elements == info.n_bytes // tensor.type.block_bytes * tensor.type.block_size
                assert tensor.n_bytes == tensor.n_elements // tensor.shape[-1] * tensor.row_bytes
                tensor.data.sum()
    except GGUFError as error:
        message = str(error)
    finally:
        assert time.thread_time() - start < MAX_SECONDS
    if message is not None:
        assert str(path) in message
        assert message.isprintable()
    return message is None


@pytest.fixture(scope="module")
def tiny_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_tiny_llama(
        path, n_embd=32, n_ff=32, n_vocab=270, types={"attn_q.weight": "BF16", "ffn_up.weight": "F16"}
    )
    return path.read_bytes()


@pytest.mark.parametrize("region", ["start", "header", "whole"])
def test_no_mutant_crashes_hangs_or_fails_otherwise(tmp_path: Path, tiny_content: bytes, region: str) -> None:
    path = tmp_path / "mutant.gguf"
    overwrite(path, tiny_content)
    with GGUFFile(path) as file:
        header_bytes = min(info.offset for info in file.tensor_infos.values())
    reach = {"start": 600, "header": header_bytes, "whole": len(tiny_content)}[region]
    n_opened = 0
    for content in mutants(tiny_content, N_MUTANTS // 3, seed=reach, reach=reach):
        overwrite(path, content)
        n_opened += open_and_read_everything(path)
    assert 0 < n_opened < N_MUTANTS // 3


@on_disk
@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "random.gguf"
    overwrite(path, content)
    assert not open_and_read_everything(path)
    overwrite(path, b"GGUF" + raw.u32(3) + content)
    open_and_read_everything(path)


words = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
small = st.integers(0, 40)
names = st.text(max_size=8) | st.sampled_from(["general.alignment", "split.count", "split.no"])
kinds = st.integers(0, 13) | st.integers(0, 2**32 - 1)
hostile_pairs = st.one_of(
    st.builds(
        lambda name, kind, tail: raw.string(name) + raw.u32(kind) + tail, names, kinds, st.binary(max_size=24)
    ),
    st.builds(
        lambda name, kind, n, tail: raw.string(name) + raw.u32(raw.ARRAY) + raw.u32(kind) + raw.u64(n) + tail,
        names, kinds, small | words, st.binary(max_size=64),
    ),
    st.builds(lambda name, n: raw.pair(name, raw.UINT32, n % 2**32), names, small | words),
)  # fmt: skip
hostile_infos = st.builds(
    lambda name, dims, kind, offset, n_dims: raw.info(name, dims, kind, offset, n_dims=n_dims),
    st.text(max_size=4),
    st.lists(small | words, max_size=5),
    st.sampled_from([*SUPPORTED, raw.IQ2_XXS]) | kinds,
    st.integers(0, 8).map(lambda n: n * 32) | words,
    st.none() | st.integers(0, 6),
)


@on_disk
@given(
    pairs=st.lists(hostile_pairs, max_size=3),
    infos=st.lists(hostile_infos, max_size=3),
    n_keys=st.none() | words,
    n_tensors=st.none() | words,
    data=st.binary(max_size=300),
)
def test_hostile_structures_are_refused_or_harmless(
    tmp_path: Path,
    pairs: list[bytes],
    infos: list[bytes],
    n_keys: int | None,
    n_tensors: int | None,
    data: bytes,
) -> None:
    path = tmp_path / "hostile.gguf"
    content = raw.GGUFBytes(pairs=pairs, infos=infos, n_keys=n_keys, n_tensors=n_tensors, data=data)
    overwrite(path, content.build())
    open_and_read_everything(path)


RANGES: dict[int, st.SearchStrategy[Any]] = {
    raw.UINT8: st.integers(0, 2**8 - 1), raw.INT8: st.integers(-(2**7), 2**7 - 1),
    raw.UINT16: st.integers(0, 2**16 - 1), raw.INT16: st.integers(-(2**15), 2**15 - 1),
    raw.UINT32: st.integers(0, 2**32 - 1), raw.INT32: st.integers(-(2**31), 2**31 - 1),
    raw.UINT64: st.integers(0, 2**64 - 1), raw.INT64: st.integers(-(2**63), 2**63 - 1),
    raw.FLOAT32: st.floats(width=32, allow_nan=False), raw.FLOAT64: st.floats(allow_nan=False),
    raw.BOOL: st.booleans(), raw.STRING: st.text(max_size=20).map(str.encode),
}  # fmt: skip
typed_values = st.one_of(
    *(st.tuples(st.just(kind), st.just(False), items) for kind, items in RANGES.items()),
    *(st.tuples(st.just(kind), st.just(True), st.lists(items, max_size=5)) for kind, items in RANGES.items()),
)
valid_names = st.text(min_size=1, max_size=16).filter(lambda name: "\0" not in name and "." not in name)


@on_disk
@given(metadata=st.dictionaries(valid_names, typed_values, max_size=6), version=st.sampled_from([2, 3]))
def test_well_formed_metadata_comes_back_as_written(
    tmp_path: Path, metadata: dict[str, tuple[int, bool, Any]], version: int
) -> None:
    pairs = [
        raw.array(key, kind, items) if is_array else raw.pair(key, kind, items)
        for key, (kind, is_array, items) in metadata.items()
    ]
    path = tmp_path / "valid.gguf"
    overwrite(path, raw.GGUFBytes(version=raw.u32(version), pairs=pairs).build())
    with GGUFFile(path) as file:
        assert list(file.metadata) == list(metadata)
        for key, (kind, is_array, items) in metadata.items():
            found = file.metadata[key]
            if isinstance(found, np.ndarray):
                found = found.tolist()
            if kind == raw.STRING and not is_array:
                items = items.decode()
            assert found == items


@on_disk
@given(
    shapes=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), max_size=4),
    alignment=st.sampled_from([8, 16, 32, 256]),
    seed=st.integers(0, 2**32 - 1),
)
def test_well_formed_tensors_come_back_as_written(
    tmp_path: Path, shapes: list[list[int]], alignment: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    arrays = {f"t{i}": rng.standard_normal(shape).astype(np.float32) for i, shape in enumerate(shapes)}
    infos, data = [], b""
    for name, values in arrays.items():
        data += bytes(-len(data) % alignment)
        infos.append(raw.info(name, values.shape[::-1], offset=len(data)))
        data += values.tobytes()
    key = raw.pair("general.alignment", raw.UINT32, alignment)
    path = tmp_path / "valid.gguf"
    overwrite(path, raw.GGUFBytes(pairs=[key], infos=infos, data=data, alignment=alignment).build())
    with GGUFFile(path) as file:
        tensors = file.tensors
        assert list(tensors) == list(arrays)
        for name, values in arrays.items():
            assert tensors[name].shape == values.shape
            assert tensors[name].data.view(np.float32).tolist() == values.ravel().tolist()
