"""How a client's program states what it found: one line per check, exit code 1 after a difference.

Standard library only: the programs run in an environment that has the clients and not llorch.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


class DifferenceError(Exception):
    """The server does not do what the client's documentation promises."""


@dataclass(frozen=True)
class Target:
    """The server under test.

    Attributes:
        url: ``http://host:port``, without a path.
        model: its name, as `/v1/models` has it.
        key: an API key that it accepts.
        model_path: the GGUF file that it serves.
    """

    url: str
    model: str
    key: str
    model_path: str

    @property
    def v1(self) -> str:
        """Base of OpenAI's routes."""
        return f"{self.url}/v1"

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON answer to a bare request, for what a client has no call for."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def token_ids(self, text: str) -> list[int]:
        """Token ids of `text` with the special ones that a prompt of this model begins with."""
        ids: list[int] = self.post("/tokenize", {"content": text, "add_special": True})["tokens"]
        return ids


Check = Callable[[Target], None]
"""Its docstring says what is right; it raises when that is not so."""


def expect(is_right: bool, what: str) -> None:
    """Raise unless `is_right`."""
    if not is_right:
        raise DifferenceError(what)


def expect_equal(what: str, got: object, wanted: object) -> None:
    """Raise, with both values, unless they are equal."""
    if got != wanted:
        raise DifferenceError(f"{what}: expected {wanted!r}, got {got!r}")


def expect_error(
    kind: type[BaseException], what: str, call: Callable[..., Any], /, *args: Any, **fields: Any
) -> Any:
    """The exception of this `kind` that ``call(*args, **fields)`` raises."""
    try:
        call(*args, **fields)
    except kind as error:
        return error
    except Exception as error:
        raise DifferenceError(f"{what}: expected {kind.__name__}, got {error!r}") from None
    raise DifferenceError(f"{what}: expected {kind.__name__}, got an answer")


def run_checks(checks: Sequence[Check], argv: list[str] | None = None) -> int:
    """Run all checks against the server of the command line; the exit code."""
    parser = argparse.ArgumentParser()
    for name in ("url", "model", "key", "model-path"):
        parser.add_argument(f"--{name}", required=True)
    target = Target(**vars(parser.parse_args(argv)))
    n_different = 0
    for check in checks:
        began_s = time.monotonic()
        says = (check.__doc__ or check.__name__).splitlines()[0]
        try:
            check(target)
        except DifferenceError as error:
            n_different += 1
            print(f"  DIFFERENT  {says}\n             {error}", flush=True)
        except Exception as error:
            n_different += 1
            print(f"  DIFFERENT  {says}\n             line {_line_of(error)}: {error!r}", flush=True)
        else:
            print(f"  ok         {says} ({time.monotonic() - began_s:.1f} s)", flush=True)
    print(f"  {len(checks) - n_different} of {len(checks)} checks hold", flush=True)
    return 1 if n_different else 0


def _line_of(error: BaseException) -> int | None:
    """The line of a program of ours where `error` arose, or came through."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if "conformance/clients" in frame.filename), None)


def main(checks: Sequence[Check]) -> None:
    """Run `checks` and end the process."""
    sys.exit(run_checks(checks))
