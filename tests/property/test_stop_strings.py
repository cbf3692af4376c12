"""Stop strings: the outcome is that of a search character by character, however the text is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llorch.text.detokenizer import StopStrings

letters = st.text("ab", max_size=4)


@given(st.lists(letters.filter(bool), max_size=4), st.lists(letters, max_size=12))
def test_any_cut_gives_what_a_search_character_by_character_gives(stop: list[str], pieces: list[str]) -> None:
    text = "".join(pieces)
    expected, expected_stop = text, None
    for end in range(1, len(text) + 1):
        found = [s for s in stop if text[:end].endswith(s)]
        if found:
            expected_stop = max(found, key=len)
            expected = text[: end - len(expected_stop)]
            break
    strings = StopStrings(stop)
    given_out = ""
    for piece in pieces:
        given_out += strings.push(piece)
        assert expected.startswith(given_out)  # nothing that must be taken back
        if strings.matched is not None:
            break
    else:
        given_out += strings.finish()
    assert given_out == expected
    assert strings.matched == expected_stop


@given(st.lists(letters.filter(bool), min_size=1, max_size=4), st.lists(letters, max_size=12))
def test_only_a_possible_beginning_of_a_stop_string_is_held_back(stop: list[str], pieces: list[str]) -> None:
    strings = StopStrings(stop)
    given_out, seen = "", ""
    for piece in pieces:
        seen += piece
        given_out += strings.push(piece)
        if strings.matched is not None:
            return
        held = seen[len(given_out) :]
        assert not held or any(s.startswith(held) for s in stop)
