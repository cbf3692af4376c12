"""Origins of web pages, as the header Origin and the setting `cors_origins` have them.

Source: RFC 6454, section 7; a browser leaves out the port that the scheme has anyway, and the last slash.
"""

from __future__ import annotations

import re

from llorch.fields.hosts import ANY, canonical_host, listed_texts

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\[\]:/?#@]+)(:[0-9]{1,5})?/?", re.IGNORECASE)
_PORTS = {"http": ":80", "https": ":443"}


def origin_list(value: object) -> tuple[str, ...]:
    """`value` of the setting `cors_origins` as a tuple of origins, each as a browser writes it.

    Args:
        value: origins in a list, or in one string with commas between them; ``"*"`` stands for all.

    Raises:
        ValueError: it is no list of texts, or one of them is no origin; the message names it.
    """
    return tuple(map(_origin, listed_texts(value, "origins")))


def _origin(text: str) -> str:
    if text == ANY:
        return ANY
    found = _ORIGIN.fullmatch(text)
    name = None if found is None else canonical_host(found[2].strip("[]"))
    if found is None or name is None:
        raise ValueError(
            f'{text[:80]!a} is no origin: expected a scheme and a host, as in "https://chat.example"'
        )
    scheme, port = found[1].lower(), found[3] or ""
    host = f"[{name}]" if ":" in name else name
    return f"{scheme}://{host}" + ("" if port == _PORTS.get(scheme) else port)
