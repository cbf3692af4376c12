"""Pickles in a directory: never opened, and the message says how to write their weights as safetensors."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile_directories import good, model, open_everything, refused

__all__ = ["good", "model"]


class Bomb:
    """What runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


PICKLES = ["pytorch_model.bin", "model.pt", "model.pth", "consolidated.00.pth", "model.ckpt", "weights.pkl",
           "pytorch_model-00001-of-00002.bin"]  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_is_never_opened_and_the_message_says_how_to_convert_it(model: Path, name: str) -> None:
    (model / "model.safetensors").unlink()
    trace = model.parent / "trace"
    (model / name).write_bytes(pickle.dumps(Bomb(trace)))
    pattern = f"{name}: is a pickle, .* never opens it; write its weights as safetensors .*save_pretrained"
    refused(model, pattern)
    refused(model / name, pattern)
    assert not trace.exists()
    pickle.loads((model / name).read_bytes())
    assert trace.exists(), "the pickle would have run a command"


def test_a_pickle_that_is_a_pipe_is_not_even_looked_at(model: Path) -> None:
    (model / "model.safetensors").unlink()
    os.mkfifo(model / "pytorch_model.bin")
    refused(model, "is a pickle")


def test_a_pickle_beside_safetensors_does_no_harm(model: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(model.parent / "trace")))
    open_everything(model)
    assert not (model.parent / "trace").exists()


def test_a_pickle_that_is_called_safetensors_is_refused(model: Path) -> None:
    (model / "model.safetensors").write_bytes(pickle.dumps(Bomb(model.parent / "trace")))
    refused(model, "is not a safetensors file|its header")
    assert not (model.parent / "trace").exists()
