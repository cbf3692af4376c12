"""The thread that loads a model and computes for the service; it touches nothing of asyncio."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import TypeAlias

from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import ErrorEvent
from llorch.engine.ledger import Ledger, Stage
from llorch.engine.session import Session
from llorch.errors import EngineStoppedError, InputError, LlorchError
from llorch.machine.file_watch import FileWatch
from llorch.open_model import OpenModel
from llorch.progress import Progress, ignore_progress
from llorch.settings import Settings

logger = logging.getLogger(__name__)

STOPPED = ErrorEvent("engine_stopped", "the server is shutting down", retriable=True)
FAILED = ErrorEvent("engine_failed", "the engine failed and takes no more requests", retriable=True)

Opener: TypeAlias = Callable[[Settings, Progress], OpenModel]
"""Opens the model of the settings."""


class _LoadingStoppedError(LlorchError):
    """The service was stopped before the model was loaded."""


class ComputeThread:
    """Opens a model, then pumps its session until it is stopped.

    When it ends, also by a failure, every open request of the ledger gets a last event.

    Attributes:
        loaded: the model, once it is ready.
        session: where requests go, once it is ready.
        failure: why the stage is ``"failed"``.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        progress: Progress = ignore_progress,
        opener: Opener = open_configured,
    ) -> None:
        """Nothing is loaded before `start`.

        Args:
            settings: how to run.
            ledger: says who gets which event, and whether to go on.
            progress: called on the thread while the model is compiled and loaded.
            opener: opens the model.
        """
        self.loaded: OpenModel | None = None
        self.session: Session | None = None
        self.failure: BaseException | None = None
        self._settings = settings
        self._ledger = ledger
        self._progress = progress
        self._opener = opener
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llorch-compute", daemon=True)

    def start(self) -> None:
        """Begin to compile and load; returns at once."""
        self._thread.start()

    def wait_until_ready(self, timeout_s: float | None = None) -> None:
        """Block until requests are taken.

        Raises:
            LlorchError: what kept the model from being loaded (`InputError` for a bad file).
            EngineStoppedError: the service was stopped meanwhile, or is not ready in time.
        """
        if not self._settled.wait(timeout_s):
            raise EngineStoppedError(f"the model is not ready after {timeout_s:g} s ({self._ledger.stage})")
        if self.failure is not None:
            raise self.failure
        if self._ledger.stage != "ready":
            raise EngineStoppedError("the engine was stopped")

    def stop(self) -> None:
        """Abort everything and end the thread after the step under way. The ledger must take no more requests."""
        if self.session is not None:  # else the stage ends the loading
            self.session.stop()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread, if it was started."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            with contextlib.ExitStack() as stack:
                loaded = stack.enter_context(contextlib.closing(self._opener(self._settings, self._report)))
                engine = stack.enter_context(contextlib.closing(Engine(loaded, self._settings)))
                self.session = Session(engine, self._ledger.deliver)
                self.loaded = loaded
                self._enter("ready")
                self._settled.set()
                with self._watch(loaded):
                    while self.session.pump(wait=True):
                        pass
        except _LoadingStoppedError:
            pass
        except BaseException as error:
            if not isinstance(error, InputError):
                logger.error("the compute thread failed", exc_info=error)
            self.failure = error
            self._ledger.close("failed", FAILED)
        else:
            self._ledger.close("stopped", STOPPED)
        finally:
            self._settled.set()

    def _watch(self, loaded: OpenModel) -> contextlib.AbstractContextManager[object]:
        """Watches the file of a model that computes with weights where they lie in it."""
        if loaded.llama.residence.kind != "mapped":
            return contextlib.nullcontext()
        return FileWatch(loaded.source.changed, self._end_for_change)

    def _end_for_change(self, change: str) -> None:
        """Tell every open request that its answer is worth nothing, and let go of the file."""
        message = f"the model file was changed while it was in use ({change}); restart the server"
        logger.error("%s", message)
        self._ledger.close("model_changed", ErrorEvent("model_changed", message, retriable=True))
        self.stop()

    def _report(self, what: str, done: int, total: int) -> None:
        self._enter("compiling" if what == "compiling" else "loading")
        self._progress(what, done, total)

    def _enter(self, stage: Stage) -> None:
        """Go on to `stage`, unless the service is being stopped."""
        if not self._ledger.advance(stage):
            raise _LoadingStoppedError
