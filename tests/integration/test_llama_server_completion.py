"""`POST /completion` as llama-server's clients know it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.support.live_server import LiveServer

PARTIAL = {"index", "content", "tokens", "stop", "id_slot", "tokens_predicted", "tokens_evaluated"}
LAST = PARTIAL | {
    "model", "generation_settings", "prompt", "has_new_line", "truncated", "stop_type", "stopping_word",
    "tokens_cached", "timings",
}  # fmt: skip
TIMINGS = {
    "cache_n", "prompt_n", "prompt_ms", "prompt_per_token_ms", "prompt_per_second",
    "predicted_n", "predicted_ms", "predicted_per_token_ms", "predicted_per_second",
}  # fmt: skip


def completed(server: LiveServer, path: str = "/completion", /, **body: object) -> Any:
    answer = server.post(path, json={"temperature": 0, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def streamed(server: LiveServer, **body: object) -> list[dict[str, Any]]:
    """The objects of a stream: nothing but `data:` lines and empty ones."""
    with server.stream("/completion", json={"temperature": 0, "stream": True, **body}) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: {") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def generated(server: LiveServer, **body: object) -> Any:
    return server.post("/generate", json={"temperature": 0, "stream": False, **body}).json()


def test_it_continues_a_text_as_the_native_path_does(server: LiveServer) -> None:
    native = generated(server, prompt="Hello world", max_tokens=7)
    answer = completed(server, prompt="Hello world", n_predict=7, return_tokens=True)
    assert set(answer) == LAST
    assert answer["content"] == native["text"]
    assert answer["tokens"] == native["token_ids"]
    assert (answer["tokens_evaluated"], answer["tokens_predicted"]) == (native["usage"]["prompt_tokens"], 7)
    assert (answer["stop"], answer["stop_type"], answer["stopping_word"]) == (True, "limit", "")
    assert (answer["truncated"], answer["model"], answer["index"]) == (False, "tiny llama", 0)
    assert answer["prompt"] == "<s> Hello world"
    assert set(answer["timings"]) == TIMINGS
    assert answer["timings"]["predicted_n"] == 7
    assert completed(server, "/completions", prompt="Hello world", n_predict=7)["tokens"] == []


def test_no_tokens_are_a_way_to_have_a_prompt_in_the_cache(server: LiveServer) -> None:
    body = {"prompt": [1, *range(50, 150)], "n_predict": 0}
    first, again = completed(server, **body), completed(server, **body)
    for answer in (first, again):
        assert (answer["content"], answer["tokens_predicted"], answer["stop_type"]) == ("", 0, "limit")
    assert (first["timings"]["cache_n"], again["timings"]["cache_n"]) == (0, 96)
    assert completed(server, **{**body, "n_predict": 1})["timings"]["cache_n"] == 96
    assert completed(server, **body, cache_prompt=False)["timings"]["cache_n"] == 0


def test_a_stream_is_objects_with_stop_false_and_one_with_stop_true_and_no_done(server: LiveServer) -> None:
    whole = completed(server, prompt="Hello", n_predict=6, ignore_eos=True, return_tokens=True)
    *partial, last = streamed(server, prompt="Hello", n_predict=6, ignore_eos=True)
    assert all(set(one) == PARTIAL and one["stop"] is False for one in partial)
    assert "".join(one["content"] for one in partial) == whole["content"]
    assert [token_id for one in partial for token_id in one["tokens"]] == whole["tokens"]
    assert (last["stop"], last["content"], last["tokens"]) == (True, "", [])
    assert last["tokens_predicted"] == 6


def test_a_prompt_is_text_ids_or_both_and_an_object_may_hold_it(server: LiveServer) -> None:
    tokens = server.post("/tokenize", json={"content": "Hello", "add_special": True}).json()["tokens"]
    text = completed(server, prompt="Hello", n_predict=4)["content"]
    assert completed(server, prompt=tokens, n_predict=4)["content"] == text
    assert completed(server, prompt=[tokens[0], *tokens[1:]], n_predict=4)["content"] == text
    assert completed(server, prompt={"prompt_string": "Hello"}, n_predict=4)["content"] == text
    mixed = completed(server, prompt=["Hello", 300, "you"], n_predict=1)
    assert mixed["prompt"].startswith("<s> Hello")
    assert mixed["tokens_evaluated"] > len(tokens) + 1


def test_several_prompts_have_an_array_of_answers_in_their_order(server: LiveServer) -> None:
    alone = [completed(server, prompt=prompt, n_predict=5)["content"] for prompt in ("Hello", "Once")]
    both = completed(server, prompt=["Hello", "Once"], n_predict=5)
    assert [one["content"] for one in both] == alone
    assert [one["index"] for one in both] == [0, 1]
    texts = {0: "", 1: ""}
    stream = streamed(server, prompt=["Hello", "Once"], n_predict=5)
    for one in stream:
        texts[one["index"]] += one["content"]
    assert list(texts.values()) == alone
    assert sum(one["stop"] for one in stream) == 2


def test_n_cmpl_gives_several_answers_of_seeds_in_a_row(server: LiveServer) -> None:
    two = completed(server, prompt="Hello", n_predict=8, n_cmpl=2, seed=5, temperature=1)
    for one, seed in zip(two, (5, 6), strict=True):
        assert one["generation_settings"]["seed"] == seed
        alone = completed(server, prompt="Hello", n_predict=8, seed=seed, temperature=1)
        assert one["content"] == alone["content"]


def test_control_tokens_in_a_prompt_are_recognised_and_bos_is_never_doubled(server: LiveServer) -> None:
    plain = completed(server, prompt="Hello", n_predict=1)
    assert completed(server, prompt="<s>Hello", n_predict=1)["tokens_evaluated"] == plain["tokens_evaluated"]
    assert (
        completed(server, prompt="Hello</s>", n_predict=1)["tokens_evaluated"]
        == plain["tokens_evaluated"] + 1
    )


def test_a_stop_string_ends_the_text_and_is_named(server: LiveServer) -> None:
    text = completed(server, prompt="Hello", n_predict=8)["content"]
    word = text[3:6]
    answer = completed(server, prompt="Hello", n_predict=8, stop=[word])
    assert (answer["stop_type"], answer["stopping_word"]) == ("word", word)
    assert answer["content"] == text[: text.index(word)]
    assert completed(server, prompt="Hello", n_predict=8, stop=word)["content"] == answer["content"]


def test_parameters_reach_the_sampler_under_their_names_here(server: LiveServer) -> None:
    body = {"prompt": "Hello", "temperature": 1.5, "top_k": 7, "seed": 3}
    ours = completed(
        server,
        **body,
        n_predict=20,
        repeat_penalty=1.4,
        repeat_last_n=9,
        presence_penalty=0.3,
        return_tokens=True,
    )
    native = generated(
        server, **body, max_tokens=20, repetition_penalty=1.4, penalty_last_n=9, presence_penalty=0.3
    )
    assert ours["tokens"] == native["token_ids"]
    settings = ours["generation_settings"]
    assert (settings["repeat_penalty"], settings["repeat_last_n"], settings["seed"]) == (1.4, 9, 3)


@pytest.mark.parametrize("samplers", [["top_k", "temperature"], "kt", ["dry", "top-k", "xtc", "temp"]])
def test_samplers_left_out_are_off(server: LiveServer, samplers: object) -> None:
    body = {"prompt": "Hello", "temperature": 1.2, "top_k": 50, "seed": 1}
    ours = completed(
        server, **body, n_predict=20, samplers=samplers, top_p=0.1, min_p=0.5, return_tokens=True
    )
    native = generated(server, **body, max_tokens=20, top_p=1, min_p=0, penalty_last_n=0)
    assert ours["tokens"] == native["token_ids"]


RARE: list[dict[str, Any]] = [
    {"mirostat": 2, "mirostat_tau": 3.0, "mirostat_eta": 0.3},
    {"mirostat": 1},
    {"dry_multiplier": 4.0, "dry_allowed_length": 1, "dry_sequence_breakers": ["."]},
    {"xtc_probability": 0.7, "xtc_threshold": 0.05},
    {"typical_p": 0.4},
    {"top_n_sigma": 0.7},
    {"dynatemp_range": 0.5, "dynatemp_exponent": 2.0},
    {"samplers": ["temperature", "top_p", "penalties"], "top_p": 0.6, "repeat_penalty": 1.5},
]


@pytest.mark.parametrize("fields", RARE)
def test_rare_steps_choose_as_those_of_the_native_route_and_have_an_effect(
    server: LiveServer, fields: dict[str, Any]
) -> None:
    body = {"prompt": "Once upon a time, once upon a time", "temperature": 1.5, "seed": 4}
    ours = completed(server, **body, **fields, n_predict=40, return_tokens=True)
    spelled = {
        "repetition_penalty" if name == "repeat_penalty" else name: value for name, value in fields.items()
    }
    assert ours["tokens"] == generated(server, **body, **spelled, max_tokens=40)["token_ids"]
    assert ours["tokens"] != completed(server, **body, n_predict=40, return_tokens=True)["tokens"]
    settings = ours["generation_settings"]
    assert {name: settings[name] for name in fields} == fields


@pytest.mark.parametrize("seed", [None, -1, 2**32 - 1])
def test_a_seed_that_means_random_is_made_and_told(server: LiveServer, seed: int | None) -> None:
    body = {"prompt": "Hello", "temperature": 2.0, "n_predict": 16}
    seeds = {completed(server, **body, seed=seed)["generation_settings"]["seed"] for _ in range(2)}
    assert len(seeds) == 2
    assert not seeds & {-1, 2**32 - 1}


@pytest.mark.parametrize("as_object", [False, True])
def test_logit_bias_takes_ids_texts_and_false(server: LiveServer, as_object: bool) -> None:
    first = completed(server, prompt="Hello", n_predict=1, return_tokens=True)["tokens"][0]
    pairs: list[list[Any]] = [[str(first) if as_object else first, False]]
    bias = dict(pairs) if as_object else pairs
    second = completed(server, prompt="Hello", n_predict=1, logit_bias=bias, return_tokens=True)["tokens"][0]
    assert second != first
    (piece,) = server.post("/tokenize", json={"content": "a"}).json()["tokens"][-1:]
    forced = completed(server, prompt="Hello", n_predict=1, logit_bias=[["a", 100]], return_tokens=True)
    assert forced["tokens"] == [piece]


def test_response_fields_picks_members_and_leads_into_objects(server: LiveServer) -> None:
    names = ["content", "generation_settings/n_predict", "timings/prompt_n", "nothing", "content/x"]
    answer = completed(server, prompt="Hello", n_predict=3, response_fields=names)
    assert set(answer) == {"content", "generation_settings/n_predict", "timings/prompt_n"}
    assert answer["generation_settings/n_predict"] == 3


def test_values_beyond_the_ends_of_the_samplers_count_as_the_ends(server: LiveServer) -> None:
    settings = completed(server, prompt="a", n_predict=1, temperature=-3, top_k=-1, top_p=7, min_p=-0.5)[
        "generation_settings"
    ]
    assert (settings["temperature"], settings["top_k"], settings["top_p"], settings["min_p"]) == (0, 0, 1, 0)


def test_fields_of_other_clients_and_null_ones_change_nothing(server: LiveServer) -> None:
    text = completed(server, prompt="Hello", n_predict=4)["content"]
    more = {
        "cache_prompt": False, "id_slot": 3, "mirostat": 0, "mirostat_tau": 7.5, "typical_p": 1.0, "tfs_z": 1,
        "xtc_probability": 0, "dry_multiplier": 0, "dry_base": 2, "grammar": "", "json_schema": None, "lora": [],
        "n_keep": 12, "penalize_nl": False, "top_n_sigma": -1, "model": "gpt", "anything": {"else": [1]},
        "t_max_predict_ms": 0, "post_sampling_probs": False, "stop": None, "seed": None, "image_data": [],
    }  # fmt: skip
    assert completed(server, prompt="Hello", n_predict=4, **more)["content"] == text
    assert completed(server, prompt="Hello", max_tokens=4)["content"] == text


def test_probabilities_stand_beside_each_token_whole_and_streamed(server: LiveServer) -> None:
    whole = completed(server, prompt="Hello", n_predict=4, n_probs=3, return_tokens=True)
    entries = whole["completion_probabilities"]
    assert [entry["id"] for entry in entries] == whole["tokens"]
    for entry in entries:
        assert set(entry) == {"id", "token", "bytes", "logprob", "top_logprobs"}
        assert len(entry["top_logprobs"]) == 3
        assert entry["top_logprobs"][0]["logprob"] == max(top["logprob"] for top in entry["top_logprobs"])
        assert {key: entry[key] for key in ("id", "token", "bytes", "logprob")} in entry["top_logprobs"]
    *partial, last = streamed(server, prompt="Hello", n_predict=4, n_probs=3)
    assert [one["completion_probabilities"][0] for one in partial if one["tokens"]] == entries
    assert "completion_probabilities" not in last


def test_probabilities_after_sampling_are_those_of_what_it_left(server: LiveServer) -> None:
    asked = {
        "prompt": "Hello",
        "n_predict": 6,
        "n_probs": 10,
        "seed": 5,
        "temperature": 1.2,
        "top_k": 3,
        "min_p": 0,
    }
    plain = completed(server, **asked, return_tokens=True)
    whole = completed(server, **asked, return_tokens=True, post_sampling_probs=True)
    assert whole["tokens"] == plain["tokens"]
    assert whole["generation_settings"]["post_sampling_probs"] is True
    entries = whole["completion_probabilities"]
    for entry, before in zip(entries, plain["completion_probabilities"], strict=True):
        assert set(entry) == {"id", "token", "bytes", "prob", "top_probs"}
        tops = entry["top_probs"]
        assert [top["id"] for top in tops] == [top["id"] for top in before["top_logprobs"][: len(tops)]]
        assert 1 <= len(tops) <= 3
        assert sum(top["prob"] for top in tops) == pytest.approx(1, abs=1e-6)
        assert {name: entry[name] for name in ("id", "token", "bytes", "prob")} in tops
        ratios = [
            math.exp((top["logprob"] - before["top_logprobs"][0]["logprob"]) / 1.2)
            for top in before["top_logprobs"]
        ]
        assert [top["prob"] / tops[0]["prob"] for top in tops] == pytest.approx(ratios[: len(tops)], rel=1e-4)
    *partial, _ = streamed(server, **asked, post_sampling_probs=True)
    assert [one["completion_probabilities"][0] for one in partial if one["tokens"]] == entries
    greedy = completed(server, **asked | {"temperature": 0}, post_sampling_probs=True)
    for entry in greedy["completion_probabilities"]:
        assert [top["prob"] for top in entry["top_probs"]] == [entry["prob"]] == [1.0]
    assert "completion_probabilities" not in completed(
        server, prompt="Hello", n_predict=1, post_sampling_probs=True
    )


def test_a_stream_reports_how_much_of_the_prompt_is_read(server: LiveServer) -> None:
    prompt = [5 + i % 250 for i in range(200)]  # in steps of at most 64
    objects = streamed(server, prompt=prompt, n_predict=2, return_progress=True, cache_prompt=False)
    progress = [one["prompt_progress"] for one in objects if "prompt_progress" in one]
    assert len(progress) >= 3
    assert all(one["total"] == 200 and one["cache"] == 0 for one in progress)
    read = [one["processed"] for one in progress]
    assert read == sorted(read)
    assert read[-1] == 200
    assert "prompt_progress" in objects[0]


def test_a_stream_has_timings_with_each_token_if_asked(server: LiveServer) -> None:
    objects = streamed(server, prompt="Hello you", n_predict=3, timings_per_token=True)
    assert all(set(one["timings"]) == TIMINGS for one in objects)
    assert [one["timings"]["predicted_n"] for one in objects if one["tokens"]] == [1, 2, 3]
    timings = objects[1]["timings"]
    assert timings["prompt_n"] + timings["cache_n"] == objects[-1]["tokens_evaluated"]


def test_n_predict_0_reads_the_prompt_and_says_nothing(server: LiveServer) -> None:
    answer = completed(server, prompt="Hello", n_predict=0)
    assert (answer["content"], answer["tokens_predicted"], answer["stop_type"]) == ("", 0, "limit")
