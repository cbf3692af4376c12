"""What every chunk and body of one answer shares: its head, the counts of tokens, the end of a stream."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llorch.engine.events import EndEvent, ErrorEvent, ProgressEvent
from llorch.server.choices import Outcome
from llorch.server.routes.openai.errors import event_error
from llorch.server.streaming import sse_frame
from llorch.server.timings import progress_json, timings_json
from llorch.version import __version__

FINGERPRINT = f"llorch-{__version__}"
DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Answer:
    """An answer in the making.

    Attributes:
        id: the same in all chunks.
        kind: OpenAI's `object`.
        model: the served model's name.
        n_choices: generations of it.
        n: of each prompt.
        includes_usage: whether a stream ends with the counts of tokens.
        created: seconds since 1970.
    """

    id: str
    kind: str
    model: str
    n_choices: int
    n: int = 1
    includes_usage: bool = False
    created: int = field(default_factory=lambda: int(time.time()))
    _ends: dict[int, EndEvent] = field(default_factory=dict)

    def body(self, choices: list[dict[str, Any]], outcomes: Sequence[Outcome], **more: object) -> bytes:
        """The whole answer as JSON."""
        ends = [outcome.end for outcome in outcomes]
        document = {**self._head(choices), "usage": self._usage(ends), **self._timings(ends), **more}
        return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

    def chunk(self, choice: dict[str, Any], **more: object) -> bytes:
        """A chunk with news of one choice."""
        return sse_frame({**self._head([choice]), **more})

    def progress(self, choice: dict[str, Any], event: ProgressEvent) -> bytes:
        """A chunk that says how much of the prompt has been read."""
        return self.chunk(choice, prompt_progress=progress_json(event))

    def end(self, k: int, choice: dict[str, Any], event: EndEvent) -> bytes:
        """The last chunk of choice `k`; and the end of the stream, where it is the last to end."""
        self._ends[k] = event
        if len(self._ends) < self.n_choices:
            return self.chunk(choice)
        ends = [self._ends[i] for i in range(self.n_choices)]
        timings = self._timings(ends)
        if not self.includes_usage:
            return self.chunk(choice, **timings) + DONE
        counts = sse_frame({**self._head([]), "usage": self._usage(ends), **timings})
        return self.chunk(choice) + counts + DONE

    def error(self, event: ErrorEvent) -> bytes:
        """The last frame of a stream that fails: no `[DONE]` follows."""
        return sse_frame(event_error(event))

    def _head(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": self.kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }

    def _usage(self, ends: Sequence[EndEvent]) -> dict[str, Any]:
        """Counts of tokens; a prompt counts once, whatever `n` is."""
        prompts = [end.usage for end in ends[:: self.n]]
        n_prompt = sum(usage.prompt_tokens for usage in prompts)
        n_completion = sum(end.usage.completion_tokens for end in ends)
        return {
            "prompt_tokens": n_prompt,
            "completion_tokens": n_completion,
            "total_tokens": n_prompt + n_completion,
            "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in prompts)},
        }

    def _timings(self, ends: Sequence[EndEvent]) -> dict[str, Any]:
        """Of a single generation; several ran side by side, and have no durations in common."""
        return {"timings": timings_json(ends[0].usage, ends[0].timings)} if len(ends) == 1 else {}
