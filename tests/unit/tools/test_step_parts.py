"""Taking a step apart: every operation, and nothing but the step."""

from __future__ import annotations

import pytest

from llorch.open_model import open_model
from tools.performance import step_parts


@pytest.mark.parametrize("shape", [(1, 70, 0), (3, 1, 64)])
def test_the_operations_of_one_thread_make_up_the_step(shape: tuple[int, int, int]) -> None:
    with open_model("demo", with_tokenizer=False, n_threads=1) as model:
        parts = step_parts.take_apart(model.llama, *shape, n_times=1)
        names = {name for name, _ in model.llama.labels}
    step = parts.pop(step_parts.STEP)
    assert set(parts) == names
    assert sum(parts.values()) == pytest.approx(step)
    assert min(parts.values()) >= 0


def test_the_table_has_a_line_for_each_operation(capsys: pytest.CaptureFixture[str]) -> None:
    assert step_parts.main(["-m", "demo", "-t", "2", "-r", "1"]) == 0
    head, _, step, *lines = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["ms", *step_parts.SHAPES]
    assert step.startswith("| step |")
    assert {"norm", "attend", "swiglu", "output"} <= {line.split("|")[1].strip() for line in lines}


def test_a_model_that_is_not_there_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert step_parts.main(["-m", "/nowhere.gguf"]) == 2
    assert "nowhere.gguf" in capsys.readouterr().err
