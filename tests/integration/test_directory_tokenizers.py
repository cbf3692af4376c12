"""Vocabularies of directories against transformers' own tokenizer: ids, and prompts of the chat template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llorch.chat.choose import choose_chat_template
from llorch.formats.hugging_face.tokenizer import tokenizer_metadata
from llorch.text.tokenizer import load_tokenizer
from tools.hf_tokenizer_json import main

pytestmark = pytest.mark.slow

TEXTS = (
    "Once upon a time, there was a little dog.", "  two  spaces\n\n\ttab ", "Zoë’s naïve café — 猫 🙂 12345", "</s> x",
    "don't WE'LL they've", "<|im_start|>user\nhi<|im_end|>\n",
)  # fmt: skip
MESSAGES = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Hi! 猫"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "And now?"},
]


def both(directory: Path, n_vocab: int) -> tuple[dict[str, Any], Any]:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(str(directory))
    return dict(tokenizer_metadata(directory, n_vocab, {})), theirs


def check_ids(keys: dict[str, Any], theirs: Any) -> None:
    ours = load_tokenizer(keys)
    for text in TEXTS:
        assert ours.encode(text, parse_special=True) == theirs.encode(text), text


def test_tinystories_has_the_ids_of_transformers(model_path: Callable[[str], Path]) -> None:
    check_ids(*both(model_path("tinystories-656k"), 2048))


@pytest.mark.parametrize(
    ("stem", "n_vocab"), [("ggml-vocab-llama-spm.gguf", 32000), ("ggml-vocab-llama-bpe.gguf", 128256)]
)
def test_llama_2_and_3_have_the_ids_of_transformers(
    stem: str, n_vocab: int, tmp_path: Path, model_path: Callable[[str], Path]
) -> None:
    main([str(model_path(stem)), str(tmp_path)])
    check_ids(*both(tmp_path, n_vocab))


@pytest.mark.smollm2
@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.jinja"])
def test_smollm2_has_the_ids_and_the_prompt_of_transformers(
    place: str, tmp_path: Path, smollm2: Path
) -> None:
    main([str(smollm2), str(tmp_path)])
    if place.endswith(".jinja"):
        other = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}\n{% endfor %}"
        (tmp_path / place).write_text(other)
    keys, theirs = both(tmp_path, 49152)
    check_ids(keys, theirs)
    template, _ = choose_chat_template(keys, load_tokenizer(keys))
    expected = theirs.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert template.render(MESSAGES) == expected
