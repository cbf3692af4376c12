"""Which texts name a host, which hosts are this machine, and how lists of them are written."""

from __future__ import annotations

import re

import pytest

from llorch.fields.hosts import canonical_host, host_list, host_of, is_address, is_loopback

HERE = [
    ("localhost", "localhost"),
    ("localhost:80", "localhost"),
    ("localhost:", "localhost"),
    ("LocalHost.:1", "localhost"),
    ("app.localhost", "app.localhost"),
    ("127.0.0.1", "127.0.0.1"),
    ("127.9.9.9:1", "127.9.9.9"),
    ("[::1]", "::1"),
    ("[::1]:80", "::1"),
    ("[::1]:", "::1"),
    ("[0:0:0:0:0:0:0:1]:65535", "::1"),
    ("[::ffff:127.0.0.1]:1", "127.0.0.1"),
]
ELSEWHERE = [
    ("evil.example:80", "evil.example"),
    ("EVIL.example.", "evil.example"),
    ("localhost.evil.example", "localhost.evil.example"),
    ("127.0.0.1.evil.example", "127.0.0.1.evil.example"),
    ("my_service", "my_service"),
    ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ("10.0.0.1", "10.0.0.1"),
    ("0.0.0.0", "0.0.0.0"),
    ("[::]:80", "::"),
    ("[2001:DB8::1]", "2001:db8::1"),
    ("a" * 63 + ".example", "a" * 63 + ".example"),
]
NO_HOSTS = [
    "", " ", ":80", ".", "..", "localhost..", ".localhost", "localhost:80:80", "localhost:x",
    "localhost:-1", "localhost: 80",
    "localhost:65536", "localhost:123456", "a@localhost", "localhost/", "localhost?", "local host",
    "localhost\t", " localhost",
    "::1", "[::1", "::1]", "[::1]evil", "[::1].evil.example", "[::1]x:80", "[::1]:x",
    "[::1]:80:80", "[::1]:65536", "[[::1]]",
    "[]", "[]:80", "[127.0.0.1]", "[localhost]", "[::1%lo]", "[fe80::1%25eth0]", "[::1]]",
    "[ ::1]", "[::g]", "127.0.0.256",
    "127.0.0.01", "127.1", "2130706433", "évil.example", "localhost\xa0", "١٢٧.0.0.1",
    "localhost:１", "-a.example", "a-.example",
    "a..b", "a" * 64, ".".join(["a" * 60] * 5), "*", "*.example", "a,b", "a\x00", "a%2eb",
    "ｌocalhost", "\udcff",
]  # fmt: skip


@pytest.mark.parametrize(("header", "host"), [*HERE, *ELSEWHERE])
def test_a_host_header_names_a_host_whatever_its_port(header: str, host: str) -> None:
    assert host_of(header) == host
    assert canonical_host(host) == host
    assert is_loopback(host) == ((header, host) in HERE)
    assert is_address(host) == (re.fullmatch(r"[0-9a-f.:]*[.:][0-9a-f.:]*", host) is not None)


@pytest.mark.parametrize("header", NO_HOSTS)
def test_a_host_header_that_is_read_strictly_names_none(header: str) -> None:
    assert host_of(header) is None
    assert header == "::1" or canonical_host(header) is None
    assert header == "::1" or not is_loopback(header)


@pytest.mark.parametrize(
    ("value", "hosts"),
    [
        ("", ()),
        (" , ", ()),
        ([], ()),
        ("llm.example", ("llm.example",)),
        ("LLM.example., 10.0.0.5 ,[2001:DB8::1],::1", ("llm.example", "10.0.0.5", "2001:db8::1", "::1")),
        (["a", "b"], ("a", "b")),
        ("*", ("*",)),
    ],
)
def test_a_list_of_hosts_is_a_list_or_one_string(value: object, hosts: tuple[str, ...]) -> None:
    assert host_list(value) == hosts


@pytest.mark.parametrize(
    "value", ["a b", "llm.example:80", "http://a", "[::1]:80", "*.example", "[]", "ä.example", ["a", "b c"]]
)
def test_what_is_no_host_is_named(value: str | list[str]) -> None:
    bad = value if isinstance(value, str) else value[-1]
    with pytest.raises(ValueError, match="is no host name or address") as caught:
        host_list(value)
    assert ascii(bad) in str(caught.value)


@pytest.mark.parametrize("value", [5, True, {"a": 1}, ["a", 1], None])
def test_what_is_no_list_of_texts_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected host names in a list"):
        host_list(value)
