"""llama-server's flags that `llorch serve` has no setting for: taken where they change nothing, refused with a way out.

Flags that mean the same as a setting are spellings of it in `llorch.fields.table`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

_MEANS = {
    ("--mmap",): ("weights", "mapped"),
    ("--no-mmap",): ("weights", "packed"),
    ("--verbose", "--log-verbose"): ("log_level", "debug"),
    ("--log-jsonl",): ("log_format", "json"),
}
"""Flags that stand for a value of a setting."""

_TAKEN: dict[int | str, str] = {
    0: "-cb --cont-batching --jinja --slots --props --metrics --warmup --no-warmup -kvu "
    "--kv-unified --no-context-shift --log-prefix --no-log-prefix --log-timestamps --no-log-timestamps --perf "
    "--no-perf --offline --repack -kvo --kv-offload -nkvo --no-kv-offload --no-host --no-mmproj "
    "--cache-idle-slots --embedding --embeddings",
    1: "-ngl --gpu-layers --n-gpu-layers -dev --device -sm --split-mode -mg --main-gpu -ts --tensor-split "
    "--threads-http -sps --slot-prompt-similarity --poll",
    "?": "-fa --flash-attn --log-colors -fit --fit",
}
"""Flags for what llorch does anyway, or has nothing of (a GPU), by the number of their values."""

_IN_REQUESTS = "each request says it"
_IN_FILE = "the model file says it"
_PROXY = "a proxy in front of the server does that"
_REFUSED = {
    "--mlock": "--weights packed keeps the weights in memory of their own, which is not locked",
    "-tb --threads-batch": "--threads counts for prompts, too",
    "-ub --ubatch-size": "--batch-size is the size of one forward pass",
    "-ctk --cache-type-k -ctv --cache-type-v": "--kv-type is the type of keys and values",
    "--no-slots": "GET /slots shows no text, and an API key guards it",
    "-hf -hfr --hf-repo -hff --hf-file -mu --model-url": "`llorch pull` fetches models; then --model has their name",
    "-md --model-draft --spec-draft-model --spec-type": "--draft ngram drafts without a second model",
    "--lora --lora-scaled --control-vector": "llorch has no adapters",
    "-mm --mmproj -mmu --mmproj-url": "llorch reads no images",
    "--rerank --reranking": "llorch generates texts and makes vectors of them",
    "--embd-normalize": f"{_IN_REQUESTS} (embd_normalize)",
    "--api-prefix": _PROXY,
    "--path": "llorch serves its own page",
    "--grammar --grammar-file": f"{_IN_REQUESTS} (grammar)",
    "-j --json-schema -jf --json-schema-file": f"{_IN_REQUESTS} (json_schema, response_format)",
    "-s --seed --ignore-eos -r --reverse-prompt -l --logit-bias --samplers --sampler-seq": _IN_REQUESTS,
    "--mirostat --mirostat-lr --mirostat-ent --dynatemp-range --dynatemp-exp --typical --typical-p": _IN_REQUESTS,
    "--xtc-probability --xtc-threshold --top-nsigma --top-n-sigma": _IN_REQUESTS,
    "--dry-multiplier --dry-base --dry-allowed-length --dry-penalty-last-n --dry-sequence-breaker": _IN_REQUESTS,
    "--adaptive-target --adaptive-decay": _IN_REQUESTS,
    "--context-shift --keep": 'a full context ends the text with "length"; nothing is thrown away',
    "--rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx --override-kv": _IN_FILE,
    "--slot-save-path --cache-reuse -cram --cache-ram": "prefixes are kept in what the KV cache has left",
    "--log-file": "the log goes to standard error",
    "--log-disable": "--log-level error is the least that is logged",
    "-nocb --no-cont-batching --no-jinja -nr --no-repack": "llorch always does it",
    "-C --cpu-mask -Cr --cpu-range --prio": "taskset, numactl and nice do that; --threads follows the affinity",
    "--cpu-strict": "--pin-threads binds every compute thread to a core of its own",
}
"""Other flags, and what to do instead."""


class _Flag(argparse.Action):
    """A flag that is no setting of its own."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Do what the flag stands for: nothing."""


class _Mean(_Flag):
    """Gives a setting a value."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Set it."""
        setattr(namespace, *self.const)


class _Refuse(_Flag):
    """Ends the program with one line that says what to do instead."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Refuse the flag."""
        parser.error(f"{option_string} is a flag of llama-server that llorch does not take: {self.const}")


def add_llama_server_flags(parser: argparse.ArgumentParser) -> None:
    """Add them all, without a word in the help."""
    hidden: dict[str, Any] = {"dest": "llama_server", "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    for flags, meaning in _MEANS.items():
        parser.add_argument(*flags, action=_Mean, nargs=0, const=meaning, **hidden)
    for n_values, names in _TAKEN.items():
        parser.add_argument(*names.split(), action=_Flag, nargs=n_values, **hidden)
    for names, way_out in _REFUSED.items():
        parser.add_argument(*names.split(), action=_Refuse, nargs="*", const=way_out, **hidden)
