"""Quality of the demo model: its held-out loss, and texts sampled from it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sentencepiece import SentencePieceProcessor
from torch import Tensor

from tools.demo.data import BOS, EOS, IGNORED, pad
from tools.demo.model import DemoModel

PROMPTS = (
    "Once upon a time",
    "One day, a little girl named Lily",
    "The dog was",
    "Tom and his sister",
    "In a small village",
    "Tell me a story about a dragon.\n",
    "It was raining",
    "Once upon a time",
)


def loss_of(model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean cross entropy of the targets that are not ignored, in nats."""
    logits = model(inputs)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


@torch.inference_mode()
def evaluate(model: DemoModel, pairs: list[tuple[list[int], list[int]]]) -> float:
    """Compute the mean loss per token of stories, each read alone from its own BOS, in float32.

    Args:
        model: The model.
        pairs: Inputs and targets of each story.

    Returns:
        Nats per token.
    """
    n_row = model.config.n_ctx_train
    ordered = sorted((pair for pair in pairs if len(pair[0]) <= n_row), key=lambda pair: len(pair[0]))
    total, n_token = 0.0, 0
    for start in range(0, len(ordered), 16):
        inputs, targets = pad(ordered[start : start + 16])
        n_here = int((targets != IGNORED).sum())
        total += loss_of(model, inputs, targets).item() * n_here
        n_token += n_here
    return total / n_token


@torch.inference_mode()
def generate(model: DemoModel, token_ids: list[int], n_predict: int, generator: torch.Generator) -> list[int]:
    """Sample a continuation at temperature 0.8 from the 40 likeliest tokens.

    Args:
        model: The model.
        token_ids: The prompt, with its BOS.
        n_predict: Most tokens to add.
        generator: Source of the random numbers.

    Returns:
        Prompt and continuation, with its EOS if there is one.
    """
    token_ids = list(token_ids)
    for _ in range(n_predict):
        logits = model(torch.tensor([token_ids[-model.config.n_ctx_train :]]))[0, -1].float()
        values, candidates = logits.topk(40)
        chosen = torch.multinomial(F.softmax(values / 0.8, dim=-1), 1, generator=generator)
        token_ids.append(int(candidates[chosen]))
        if token_ids[-1] == EOS:
            break
    return token_ids


def samples(model: DemoModel, tokenizer: SentencePieceProcessor, seed: int) -> list[dict[str, str | bool]]:
    """Write one sample text for each prompt, and say whether it ended by itself."""
    generator = torch.Generator().manual_seed(seed)
    texts: list[dict[str, str | bool]] = []
    for prompt in PROMPTS:
        token_ids = generate(model, [BOS, *tokenizer.encode(prompt)], 320, generator)
        texts.append({"prompt": prompt, "text": tokenizer.decode(token_ids), "ended": token_ids[-1] == EOS})
    return texts
