"""Origins of the setting `cors_origins` become what browsers send."""

from __future__ import annotations

import pytest

from llorch.errors import SettingsError
from llorch.fields.origins import origin_list
from llorch.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://chat.example", "https://chat.example"),
        ("HTTPS://Chat.Example/", "https://chat.example"),
        ("https://chat.example:443", "https://chat.example"),
        ("http://chat.example:80/", "http://chat.example"),
        ("http://chat.example:443", "http://chat.example:443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("*", "*"),
    ],
)
def test_an_origin_is_written_as_browsers_do(text: str, origin: str) -> None:
    assert origin_list(text) == (origin,)


@pytest.mark.parametrize(
    "text",
    [
        "chat.example", "https://", "https://chat.example/path", "https://a@chat.example", "https://*.example",
        "null", "https://chat.example:port", "//chat.example", "https://chat.example?x", "https://chät.example",
        "http://::1",
    ],
)  # fmt: skip
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        origin_list([text])


def test_a_list_and_a_string_with_commas_mean_the_same() -> None:
    both = ("https://a.example", "https://b.example")
    assert origin_list("https://a.example, https://b.example,") == both
    assert Settings(cors_origins=[*both]).cors_origins == both  # type: ignore[arg-type]
    assert (
        load_settings(overrides={"cors_origins": "https://a.example,https://b.example"}).cors_origins == both
    )


def test_a_bad_origin_ends_the_start_with_its_rule() -> None:
    with pytest.raises(SettingsError, match=r"flag --cors-origins: expected origins such as"):
        load_settings(overrides={"cors_origins": "chat.example"})
