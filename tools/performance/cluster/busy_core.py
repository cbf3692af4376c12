"""A process that keeps its cores busy as a replica does: it decodes until its standard input ends.

Arguments: MODEL N_THREADS. It prints a line when it has begun.
"""

from __future__ import annotations

import sys
import threading

from llorch.engine.engine import open_configured
from llorch.settings import Settings
from tools.performance.cluster.step_clock import SHORT, TimedEngine

_N_SEQUENCES = 4


def main() -> None:
    """Decode, from an empty context again whenever it is full."""
    settings = Settings(model=sys.argv[1], threads=int(sys.argv[2]))
    is_over = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        is_over.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    with open_configured(settings, with_chat_template=False) as loaded:
        engine = TimedEngine(loaded, _N_SEQUENCES, 256, loaded.llama.n_batch)
        engine.begin_answers(_N_SEQUENCES, SHORT)
        print("busy", flush=True)
        while not is_over.is_set():
            if not engine.has_work:
                engine.begin_answers(_N_SEQUENCES, SHORT)
            engine.step()


if __name__ == "__main__":
    main()
