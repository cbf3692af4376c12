"""Names that lead elsewhere, or hold what no name holds, are refused before anything is looked up."""

from __future__ import annotations

import pytest

from llorch.errors import InputError
from llorch.pulled.names import HubName, parts_of

BAD = [
    "", "a", "a/", "/b", "a/b/c", "../b", "a/..", ".a/b", "a/.b", "a b/c", "a/b\n", "a/b\0", "ä/b", "~/b", "-a/b",
    "a\\b/c", "a/b@", "a/b@..", "a/b@x/y", "a/b@-x", "x" * 97 + "/b", "https://host/a/b",
]  # fmt: skip
BAD_FILES = [
    "", "/etc/passwd", "../x.gguf", "x/../../y.gguf", "./x.gguf", "x//y.gguf", "x/.partial/y.gguf", ".x.gguf",
    "x\\..\\y.gguf", "C:x.gguf", "x\n.gguf", "x\0.gguf", "x\x1b[2J.gguf", "x" * 256 + ".gguf", "d/" * 500 + "x.gguf",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD + [f"a/b:{file}" for file in BAD_FILES])
def test_what_is_no_plain_name_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        HubName.parse(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("count", ["00000", "99999"])
def test_an_absurd_number_of_parts_is_refused(count: str) -> None:
    with pytest.raises(InputError, match="parts"):
        parts_of(f"x-00001-of-{count}.gguf")
