"""The tutorial's Python runs from top to bottom and prints what the page says."""

from __future__ import annotations

import contextlib
import io
import re

from tests.conftest import REPOSITORY

BLOCK = re.compile(r"^```(python|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_tutorial_prints_what_it_says() -> None:
    blocks = BLOCK.findall((REPOSITORY / "docs" / "tutorial.md").read_text("utf-8"))
    assert [kind for kind, _ in blocks] == ["python", "text"] * (len(blocks) // 2)
    names: dict[str, object] = {"__name__": "tutorial"}
    for (_, source), (_, expected) in zip(blocks[::2], blocks[1::2], strict=True):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(source, "docs/tutorial.md", "exec"), names)
        assert out.getvalue() == expected
    names["model"].close()  # type: ignore[attr-defined]
