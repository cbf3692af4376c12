"""How much there is to read: the path of a token stays so small that one person can know all of it."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import llorch

PACKAGE = Path(llorch.__file__).parent
PATH_OF_A_TOKEN = ("formats/gguf", "quant", "kernels", "model", "text", "engine")
BESIDE_IT = ("kernels/clock.py", "kernels/peaks.py", "kernels/stamp_log.py")
"""What only measures: no token passes it."""
MOST_LINES = 12_000
SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def lines_of_code(source: str) -> int:
    """Lines that hold more than blanks, comments and docstrings."""
    words = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }  # fmt: skip
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in SILENT
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(code - words)


def test_lines_of_code_are_counted_without_blanks_comments_and_docstrings() -> None:
    source = (
        '"""A module."""\n\n# A comment.\nx = (  # said\n    1,\n)\n\n\n'
        'def f() -> str:\n    """One\n    more."""\n    return "#"\n'
    )
    assert lines_of_code(source) == 5


def test_the_path_of_a_token_has_at_most_twelve_thousand_lines_of_code() -> None:
    files = [file for part in PATH_OF_A_TOKEN for file in sorted((PACKAGE / part).rglob("*.py"))]
    beside_it = {PACKAGE / name for name in BESIDE_IT}
    assert beside_it < set(files)
    assert len(files) > 100
    assert (
        sum(lines_of_code(file.read_text("utf-8")) for file in files if file not in beside_it) <= MOST_LINES
    )
