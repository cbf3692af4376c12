"""Tokens of the demo corpus: training the tokenizer, and putting stories into batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor

from tools.demo.corpus import Story

UNK, BOS, EOS = 0, 1, 2
IGNORED = -100
N_POOL = 1024


def train_tokenizer(texts: list[str], n_vocab: int, folder: Path) -> sentencepiece.SentencePieceProcessor:
    """Train a Llama-2 style tokenizer: BPE with byte fallback.

    Args:
        texts: Stories to learn the pieces from.
        n_vocab: Number of pieces.
        folder: Where `demo.model` is written.

    Returns:
        The tokenizer.
    """
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(text.replace("\n\n", " ") for text in texts), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "demo"),
        model_type="bpe",
        vocab_size=n_vocab,
        byte_fallback=True,
        unk_id=UNK,
        bos_id=BOS,
        eos_id=EOS,
        pad_id=-1,
        add_dummy_prefix=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        character_coverage=1.0,
        num_threads=2,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "demo.model"))


def encode(story: Story, tokenizer: sentencepiece.SentencePieceProcessor) -> tuple[list[int], list[int]]:
    """Turn a story into token ids and targets; the tokens of a request are no targets.

    Args:
        story: The story.
        tokenizer: The tokenizer.

    Returns:
        `BOS request newline story EOS`, and the token that follows each of its tokens but the last.
    """
    prefix = tokenizer.encode(f"{story.request}\n") if story.request else []
    token_ids = [BOS, *tokenizer.encode(story.request + "\n" * bool(story.request) + story.text), EOS]
    n_silent = len(prefix)
    return token_ids[:-1], [IGNORED] * n_silent + token_ids[1 + n_silent :]


def batches(
    pairs: list[tuple[list[int], list[int]]], n_token: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Put stories of about the same length into batches, in another order at each call.

    A story stands alone in its row, so its BOS is at position 0 and the only names it can see are its own; with
    several stories in a row the model took far longer to keep to the names of one.

    Args:
        pairs: Inputs and targets of each story.
        n_token: Most tokens of a batch, padding included.
        generator: Source of the order.

    Yields:
        int64 inputs and targets (n_story, n_longest); what follows a story's end is ignored.
    """
    order = torch.randperm(len(pairs), generator=generator).tolist()
    for start in range(0, len(order), N_POOL):
        pool = sorted((pairs[i] for i in order[start : start + N_POOL]), key=lambda pair: len(pair[0]))
        cuts: list[list[tuple[list[int], list[int]]]] = [[]]
        for pair in pool:
            if (len(cuts[-1]) + 1) * len(pair[0]) > n_token:
                cuts.append([])
            cuts[-1].append(pair)
        for i in torch.randperm(len(cuts), generator=generator).tolist():
            yield pad(cuts[i])


def pad(pairs: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Make one batch of some stories, the shorter ones padded with ignored tokens."""
    width = max(len(inputs) for inputs, _ in pairs)
    inputs = torch.tensor([[*inputs, *[EOS] * (width - len(inputs))] for inputs, _ in pairs])
    targets = torch.tensor([[*targets, *[IGNORED] * (width - len(targets))] for _, targets in pairs])
    return inputs, targets
