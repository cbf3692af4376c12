"""Make the embedded model `demo`: write its corpus, train its tokenizer and its weights, export a GGUF file.

    python -m tools.demo.train --minutes 47 --out llorch/assets/demo.gguf

needs `torch`, `sentencepiece`, `gguf`, and `numpy`, none of which llorch needs to run. The learning rate follows the
elapsed share of the time, so a slower machine trains fewer steps but always ends with a finished model;
with `--steps` it follows the steps instead, and the same seed repeats the run. Every few minutes the weights are
saved beside the log in `--work`: `--resume` goes on from them, `--export-only` makes a GGUF file of them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from tools.demo.corpus import stories
from tools.demo.data import batches, encode, train_tokenizer
from tools.demo.evaluate import evaluate, loss_of, samples
from tools.demo.model import DemoConfig, DemoModel, read_gguf, write_gguf

DESCRIPTION = "Writes short children's stories; trained only on stories that llorch generated."
OUT = Path("llorch/assets/demo.gguf")
WORK = Path(tempfile.gettempdir()) / "llorch-demo"
N_HELD_OUT = 1000
SAVE_EVERY_S = 240
# Rounding 8-bit blocks moves the held-out loss in the fourth decimal; a wrong tensor moves it in the first.
LOSS_TOLERANCE = 0.01


def train(
    model: DemoModel, pairs: list[tuple[list[int], list[int]]], args: argparse.Namespace
) -> dict[str, float]:
    """Train the model until its time, or its steps, are up.

    Muon moves the matrices of the blocks and AdamW the rest; both warm up over the first hundredth and fall
    linearly to a thirtieth from the first third on.

    Args:
        model: The model, changed in place.
        pairs: Inputs and targets of each story.
        args: The command line; `args.work` receives the log and, every few minutes, what resuming needs.

    Returns:
        Steps, tokens, and seconds of the whole run, and its running loss.
    """
    log, saved_path = args.work / "train.jsonl", args.work / "demo.pt"
    matrices = [p for name, p in model.named_parameters() if name.startswith("blk") and p.ndim == 2]
    others = [p for name, p in model.named_parameters() if not (name.startswith("blk") and p.ndim == 2)]
    muon = torch.optim.Muon(matrices, lr=args.lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=args.lr, betas=(0.9, 0.95), weight_decay=0.01)
    generator = torch.Generator().manual_seed(args.seed)
    counts = {"step": 0, "tokens": 0, "seconds": 0.0, "cpu_seconds": 0.0, "loss": 0.0}
    if args.resume:
        state = torch.load(saved_path)
        model.load_state_dict(state["model"])
        muon.load_state_dict(state["muon"])
        adamw.load_state_dict(state["adamw"])
        generator.set_state(state["generator"])
        counts = state["counts"]
    else:
        log.unlink(missing_ok=True)
    ahead = batches(pairs, args.batch, generator)
    started = saved = time.monotonic() - counts["seconds"]
    cpu_started = time.process_time() - counts["cpu_seconds"]
    while True:
        counts["seconds"] = time.monotonic() - started
        counts["cpu_seconds"] = time.process_time() - cpu_started
        progress = counts["step"] / args.steps if args.steps else counts["seconds"] / (60 * args.minutes)
        is_done = progress >= 1
        if is_done or time.monotonic() - saved > SAVE_EVERY_S:
            state = {"model": model.state_dict(), "muon": muon.state_dict(), "adamw": adamw.state_dict()}
            torch.save(state | {"generator": generator.get_state(), "counts": counts}, saved_path)
            saved = time.monotonic()
        if is_done:
            return counts
        rate = args.lr * min(1.0, progress / 0.01 + 0.05, 1 - (1 - 1 / 30) * (progress - 1 / 3) * 1.5)
        for group in (*muon.param_groups, *adamw.param_groups):
            group["lr"] = rate
        batch = next(ahead, None)
        if batch is None:
            ahead = batches(pairs, args.batch, generator)
            continue
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, *batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step()
        adamw.step()
        model.zero_grad(set_to_none=True)
        share = 0.05 if counts["step"] else 1.0
        counts["loss"] += share * (loss.item() - counts["loss"])
        if counts["step"] % 20 == 0:
            entry = json.dumps({name: round(value, 4) for name, value in counts.items()} | {"lr": rate})
            with log.open("a", encoding="utf-8") as file:
                file.write(entry + "\n")
            print(entry, flush=True)
        counts["step"] += 1
        counts["tokens"] += batch[0].numel()


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=47, help="time for training alone")
    parser.add_argument("--steps", type=int, default=0, help="train so many steps instead")
    parser.add_argument("--seed", type=int, default=1, help="seed of corpus, weights, and samples")
    parser.add_argument("--out", type=Path, default=OUT, help="GGUF file to write, a JSON report beside it")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for tokenizer, log, and weights")
    parser.add_argument("--n-story", type=int, default=60000, help="stories in the corpus")
    parser.add_argument("--batch", type=int, default=4096, help="most tokens a step")
    parser.add_argument("--lr", type=float, default=4e-3, help="highest learning rate")
    parser.add_argument("--resume", action="store_true", help="go on from what was last saved in --work")
    parser.add_argument("--export-only", action="store_true", help="export the weights last saved in --work")
    return parser.parse_args()


def main() -> None:
    """Run the whole recipe."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)

    config = DemoConfig()
    seen: set[str] = set()
    corpus = list(stories(args.seed, args.n_story, seen))
    held_out = list(stories(args.seed + 1, N_HELD_OUT, seen))
    tokenizer = train_tokenizer([story.text for story in corpus[:30000]], config.n_vocab, args.work)
    model = DemoModel(config)
    if args.export_only:
        state = torch.load(args.work / "demo.pt")
        model.load_state_dict(state["model"])
        counts = state["counts"]
    else:
        learnt = [encode(story, tokenizer) for story in corpus]
        print(f"{len(corpus)} stories, {sum(len(inputs) for inputs, _ in learnt)} tokens", flush=True)
        counts = train(model, learnt, args)

    pairs = [encode(story, tokenizer) for story in held_out]
    loss = evaluate(model, pairs)
    write_gguf(args.out, model, tokenizer, DESCRIPTION)
    exported = read_gguf(args.out)
    exported_loss = evaluate(exported, pairs)
    if abs(exported_loss - loss) > LOSS_TOLERANCE:
        raise SystemExit(f"{args.out}: held-out loss {exported_loss:.4f}, but {loss:.4f} before quantising")
    report = {
        "n_params": sum(parameter.numel() for parameter in model.parameters()),
        "file_bytes": args.out.stat().st_size,
        "config": asdict(config),
        "corpus": {
            "n_story": len(corpus),
            "n_word": sum(len(story.text.split()) for story in corpus),
            "n_held_out": len(held_out),
        },
        "held_out": {
            "loss": loss,
            "loss_q8_0": exported_loss,
            "perplexity_q8_0": float(np.exp(exported_loss)),
        },
        "run": counts,
        "seed": args.seed,
        "versions": {name: version(name) for name in ("torch", "sentencepiece", "gguf", "numpy")},
        "sampling": {"temperature": 0.8, "top_k": 40},
        "samples": samples(exported, tokenizer, args.seed),
        "log": [json.loads(line) for line in (args.work / "train.jsonl").read_text().splitlines()][::10],
    }
    text = json.dumps(report, indent=2, ensure_ascii=False)
    args.out.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
