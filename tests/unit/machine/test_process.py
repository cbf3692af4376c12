"""Which process threads and locks belong to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llorch.machine.process import OwningProcess
from tests.support.processes import run_python

FORKED = """
import os
from llorch.errors import ForkedError
from llorch.machine.process import OwningProcess

owner = OwningProcess()
child = os.fork()
if child == 0:
    try:
        owner.check()
    except ForkedError as error:
        assert f"loaded by process {os.getppid()}" in str(error)
        assert "load it anew" in str(error)
        OwningProcess().check()
        os._exit(0 if not owner.is_current else 1)
    os._exit(2)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), owner.is_current)
"""


def test_the_process_that_made_it_may_go_on() -> None:
    owner = OwningProcess()
    assert owner.is_current
    owner.check()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_is_told_whose_it_is(tmp_path: Path) -> None:
    assert run_python(FORKED, tmp_path) == ["0 True"]
