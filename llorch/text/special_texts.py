"""Tokens that are known by their text, whatever the file says about them, because many files are wrong.

Source: llama.cpp `llama_vocab::impl::load`.
"""

from __future__ import annotations


def _texts(*texts: str) -> frozenset[bytes]:
    return frozenset(text.encode() for text in texts)


END_TEXTS = _texts(
    "</s>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|calls|>",
    "<|flush|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
    "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
    "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]",
    "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>",
)  # fmt: skip
"""Tokens that end a generation."""

CONTROL_TEXTS = END_TEXTS | _texts(
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
    "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
    "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>",
    "<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>", "<|prefix|>", "<|suffix|>", "<|middle|>",
)  # fmt: skip
"""Tokens that are control tokens."""

END_IS_NO_END = (_texts("<|call|>", "<|calls|>"), _texts("<|return|>", "<|flush|>"))
"""``<|end|>`` ends a message, not a generation, where one of each of these ends a generation."""

S_IS_NO_END = (_texts("<|tool_response>", "<|plamo:eos|>"),)
"""``</s>`` is an ordinary token where one of these ends a generation."""

KEEP_SPACE_TEXTS = _texts("<unk>", "<s>", "<|endoftext|>")
"""Special tokens that leave white space alone where others swallow it."""
