"""Names and addresses of hosts, as a Host header and the setting `allowed_hosts` have them.

Source: RFC 9110, section 7.2 (``uri-host [ ":" port ]``); RFC 3986, section 3.2.2. Names are narrower here: labels of
ASCII letters, digits, hyphens and underscores, as DNS and container networks use them.
"""

from __future__ import annotations

import ipaddress
import re

ANY = "*"
"""Stands in `allowed_hosts` for every name."""

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT = re.compile(r"[0-9]{0,5}")
_MAX_NAME = 253


def canonical_host(text: str) -> str | None:
    """A name in lower case without the root's dot, or an address as `ipaddress` writes it; None if `text` is neither.

    An IPv6 address stands without brackets, and without a zone. One that stands for an IPv4 address becomes that.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        name = text.lower().removesuffix(".")
        labels = name.split(".")
        # A name whose last label is a number would be an address to a browser.
        is_name = text.isascii() and len(name) <= _MAX_NAME and not labels[-1].isdecimal()
        return name if is_name and all(_LABEL.fullmatch(label) for label in labels) else None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        return str(address.ipv4_mapped or address)
    return str(address)


def host_of(header: str) -> str | None:
    """The host that a Host header names, in canonical form; None if it names none."""
    if header.startswith("["):
        inside, bracket, rest = header[1:].partition("]")
        host = canonical_host(inside) if bracket and ":" in inside else None
        has_good_port = not rest or rest.startswith(":")
        port = rest[1:]
    else:
        name, _, port = header.partition(":")
        host, has_good_port = canonical_host(name), True
    is_port = has_good_port and _PORT.fullmatch(port) is not None and int(port or 0) < 1 << 16
    return host if is_port else None


def is_address(host: str) -> bool:
    """Whether `host` is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address, without a port) means this machine only."""
    name = canonical_host(host)
    if name is None:
        return False
    if is_address(name):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost" or name.endswith(".localhost")


def socket_path(host: str) -> str | None:
    """The path of a Unix socket, if the setting `host` is one: what llama-server takes for one, or has a slash."""
    path = host.removeprefix("unix:")
    return path if path != host or "/" in host or host.endswith(".sock") else None


def host_list(value: object) -> tuple[str, ...]:
    """`value` of the setting `allowed_hosts` as a tuple of canonical hosts.

    Args:
        value: names and addresses in a list, or in one string with commas between them.

    Raises:
        ValueError: it is no list of texts, or one of them is no host; the message names it.
    """
    return tuple(map(_listed, listed_texts(value, "host names")))


def listed_texts(value: object, what: str) -> list[str]:
    """The texts of a list, or of one string with commas between them; blanks around them and empty ones are left out.

    Raises:
        ValueError: it is neither; the message says `what` was expected.
    """
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"expected {what} in a list, or in one string with commas")
    return [part.strip() for part in parts if part.strip()]


def _listed(text: str) -> str:
    inside = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    host = ANY if text == ANY else canonical_host(inside)
    if host is None:
        raise ValueError(f"{text[:80]!a} is no host name or address (they stand here without a port)")
    return host
