"""A hook of MkDocs: links that leave docs/ lead to the repository, or become words where its address is not known.

`repo_url` in mkdocs.yml, or `--config-file` of another one, is the address.
"""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)]+)\)")


def on_page_markdown(markdown: str, *, config: Any, **others: object) -> str:
    """Rewrite the links of a page before it is rendered."""
    repository = str(config.repo_url or "").rstrip("/")

    def elsewhere(link: re.Match[str]) -> str:
        words, path = link.groups()
        return f"[{words}]({repository}/blob/main/{path})" if repository else words

    return OUTSIDE.sub(elsewhere, markdown)
