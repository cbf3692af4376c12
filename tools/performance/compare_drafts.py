#!/usr/bin/env python3
"""What do drafts win where a text repeats itself, and what do they cost where it does not?

    python -m tools.performance.compare_drafts MODEL.gguf -t 2

One user; generations with and without drafts take turns, step by step, so that what else the machine does slows both.
The answers are the same, so the ratio is that of the times.
In "copied" and "told" the model is made to write a given text, which works with random weights too: once the passage
that stands in the prompt, once a story that does not. In "greedy" and "sampled" it writes what it likes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llorch.engine.engine import Engine
from llorch.engine.events import EndEvent, ErrorEvent, TokenEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.open_model import OpenModel, open_model
from llorch.settings import Settings
from llorch.text.tokenizer import Tokenizer

PASSAGE = """The harbour office opens at seven. Ships that arrive during the night anchor behind the
breakwater and wait for the pilot, who comes out in a small grey boat as soon as there is light enough to
read the numbers on the buoys. Each captain reports the name of the ship, its draught, the cargo and the
number of people on board. The clerk writes all of it into a ledger with a green cover, because the insurers
still want paper, and types it a second time for the customs.
"""
STORY = """When my grandmother was nine she found a fiddle in the attic, without strings and with a crack
down its back. Nobody could say whose it had been. She carried it to the cooper, who glued barrels and knew
about thin wood, and he kept it for a month. In the meantime she sold eggs to pay for the strings, and
learned the notes from a hymn book by whistling them. On the day she fetched it home the whole street heard
her, and most of them closed their windows. She did not mind. By the next winter they asked her to play at
weddings, and by the one after that she had stopped counting what she earned.
"""


class Dictated:
    """A constraint that leaves one token at a time: those of a text."""

    def __init__(self, token_ids: list[int], n_vocab: int) -> None:
        self._rest = token_ids[::-1]
        self._n_words = -(-n_vocab // 32)

    def allowed(self) -> NDArray[np.uint32] | None:
        """The next token of the text; all of them behind it."""
        if not self._rest:
            return None
        words = np.zeros(self._n_words, np.uint32)
        words[self._rest[-1] // 32] = 1 << (self._rest[-1] % 32)
        return words

    def accept(self, token_id: int) -> None:
        """Go on."""
        self._rest.pop()


@dataclass(frozen=True, slots=True)
class Task:
    """What is generated."""

    name: str
    prompt: str
    temperature: float
    dictated: str | None = None


TASKS = (
    Task("copied", f"Repeat this text:\n{PASSAGE}\nThe text again:\n", 0, PASSAGE),
    Task("told", f"Tell a story that has nothing to do with this text:\n{PASSAGE}\nThe story:\n", 0, STORY),
    Task("greedy", "Once upon a time, in a town by the sea,", 0),
    Task("sampled", "Once upon a time, in a town by the sea,", 0.8),
)


def request_of(task: Task, tokenizer: Tokenizer, n_vocab: int, n_tokens: int, seed: int) -> Request:
    """The request of a task, of at most `n_tokens` tokens."""
    constraint = None
    if task.dictated is not None:
        ids = list(tokenizer.encode(task.dictated, add_bos=False))
        n_tokens = min(n_tokens, len(ids))
        constraint = lambda: Dictated(ids[:n_tokens], n_vocab)  # noqa: E731
    return Request(
        task.name,
        tuple(tokenizer.encode(task.prompt)),
        SamplingParams(temperature=task.temperature, seed=seed),
        n_tokens,
        ignore_eos=constraint is None,
        constraint=constraint,
    )


class Run:
    """A generation under way.

    Attributes:
        seconds: what its steps took, that of the first token excepted.
        end: its last event.
    """

    def __init__(self, engine: Engine, request: Request) -> None:
        self.seconds = 0.0
        self.end: EndEvent | None = None
        self._engine = engine
        self._has_begun = False
        engine.add(request)

    def step(self) -> None:
        """One step, unless the generation has ended."""
        if self.end is not None:
            return
        begun_s = time.perf_counter()
        events = [step_event.event for step_event in self._engine.step()]
        if self._has_begun:
            self.seconds += time.perf_counter() - begun_s
        self._has_begun = self._has_begun or any(isinstance(event, TokenEvent) for event in events)
        if isinstance(events[-1] if events else None, ErrorEvent):
            raise RuntimeError("the generation failed; the log says why")
        self.end = next((event for event in events if isinstance(event, EndEvent)), None)


def compare(loaded: OpenModel, task: Task, n_rounds: int, n_tokens: int) -> str:
    """A row of the table."""
    engines = [Engine(loaded, Settings(parallel=1, ctx_size=1024, draft=draft)) for draft in ("off", "ngram")]
    ratios = []
    drafted = accepted = generated = 0
    for i in range(n_rounds):
        request = request_of(task, loaded.tokenizer, loaded.config.n_vocab, n_tokens, seed=i)
        without, with_drafts = runs = [Run(engine, request) for engine in engines]
        while without.end is None or with_drafts.end is None:
            for run in runs:
                run.step()
            runs.reverse()
        if without.end.token_ids != with_drafts.end.token_ids:
            raise RuntimeError("drafts changed the answer")
        ratios.append(without.seconds / with_drafts.seconds)
        generated += len(without.end.token_ids)
        timings = with_drafts.end.timings
        drafted, accepted = drafted + timings.drafted_tokens, accepted + timings.accepted_tokens
    spread = f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f}"
    return f"| {task.name} | {spread} | {generated} | {drafted} | {accepted} |"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-t", "--threads", type=int, default=0)
    parser.add_argument("-r", "--rounds", type=int, default=7)
    parser.add_argument("-n", "--tokens", type=int, default=120)
    args = parser.parse_args()
    with open_model(args.model, n_threads=args.threads) as loaded:
        print(
            "| task | times as fast | of all rounds | tokens | drafted | accepted |\n|---|---|---|---|---|---|"
        )
        for task in TASKS:
            print(compare(loaded, task, args.rounds, args.tokens), flush=True)


if __name__ == "__main__":
    main()
