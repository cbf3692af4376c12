"""How probable tokens were, in OpenAI's two shapes."""

from __future__ import annotations

import json
import math

from llorch.engine.events import EndTokenEvent, TokenEvent, TokenLogprobs
from llorch.server.routes.openai.logprobs import LEAST_LOGPROB, CompletionLogprobs, chat_logprobs, token_text
from llorch.text.vocab import TokenType
from tests.support.vocabularies import make_tokenizer

TOKENIZER = make_tokenizer(["▁ab", "ab", "▁", "a", "b"], special=[("a", TokenType.USER_DEFINED)])
A_SPACE_AB, AB, A, SAME_A = 259, 260, 262, 264
FIRST_BYTE, SECOND_BYTE = 3 + 0xC3, 3 + 0xA9  # é


def entries(*tokens: tuple[int, TokenLogprobs | None], has_echo: bool = True) -> dict[str, list[object]]:
    return CompletionLogprobs(TOKENIZER, (1, A_SPACE_AB), has_echo=has_echo).entries(tokens)


def test_the_first_token_of_a_prompt_has_no_probability() -> None:
    arrays = entries((1, None), (A_SPACE_AB, TokenLogprobs(-0.5, ((A_SPACE_AB, -0.5), (AB, -2.0)))))
    assert arrays == {
        "tokens": ["<s>", " ab"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [None, {" ab": -0.5, "ab": -2.0}],
        "text_offset": [0, 0],
    }


def test_the_chosen_token_is_always_among_the_top() -> None:
    assert entries((AB, TokenLogprobs(-9.0, ((A, -0.1),))))["top_logprobs"] == [{"a": -0.1, "ab": -9.0}]


def test_of_two_tokens_that_spell_the_same_the_likelier_one_counts() -> None:
    for chosen, logprob in ((A, -0.1), (SAME_A, -3.0), (A, -7.0)):
        top = ((A, -0.1), (SAME_A, -3.0))
        (found,) = entries((chosen, TokenLogprobs(logprob, top)))["top_logprobs"]
        assert found == {"a": -0.1}


def test_the_most_probable_token_has_the_same_number_in_both_places() -> None:
    logprob = -0.1234567890123456789
    arrays = json.loads(json.dumps(entries((A, TokenLogprobs(logprob, ((A, logprob), (AB, -4.0)))))))
    assert max(arrays["top_logprobs"][0].values()) == arrays["token_logprobs"][0] == logprob


def test_impossible_tokens_have_a_number_that_json_can_say() -> None:
    arrays = entries((A, TokenLogprobs(-math.inf, ((AB, 0.0), (A, -math.inf)))))
    assert arrays["token_logprobs"] == [LEAST_LOGPROB]
    assert arrays["top_logprobs"] == [{"ab": 0.0, "a": LEAST_LOGPROB}]


def test_offsets_count_the_characters_that_the_text_has() -> None:
    likely = TokenLogprobs(-1.0)
    tokens = [(A_SPACE_AB, likely), (FIRST_BYTE, likely), (SECOND_BYTE, likely), (AB, likely)]
    assert entries(*tokens)["text_offset"] == [0, 2, 2, 3]
    assert entries(*tokens, has_echo=False)["text_offset"] == [0, 3, 3, 4]  # the space belongs to the answer


def test_pieces_of_characters_are_spelt_in_bytes() -> None:
    assert token_text("é".encode()[:1]) == "bytes:\\xc3"
    assert entries((FIRST_BYTE, TokenLogprobs(-1.0)))["tokens"] == ["bytes:\\xc3"]


def test_chats_list_tokens_with_their_bytes_and_without_the_end() -> None:
    events: list[TokenEvent | EndTokenEvent] = [
        TokenEvent(0, FIRST_BYTE, "", TokenLogprobs(-1.0, ((AB, -0.5), (FIRST_BYTE, -math.inf)))),
        TokenEvent(1, None, "rest"),
        EndTokenEvent(2, TokenLogprobs(0.0)),
    ]
    assert chat_logprobs(TOKENIZER, events) == {
        "content": [
            {
                "token": "bytes:\\xc3",
                "logprob": -1.0,
                "bytes": [0xC3],
                "top_logprobs": [
                    {"token": "ab", "logprob": -0.5, "bytes": [97, 98]},
                    {"token": "bytes:\\xc3", "logprob": LEAST_LOGPROB, "bytes": [0xC3]},
                ],
            }
        ],
        "refusal": None,
    }
