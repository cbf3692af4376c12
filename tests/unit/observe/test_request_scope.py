"""Which ids of clients are taken, and who inherits the request at hand."""

from __future__ import annotations

import asyncio

import pytest

from llorch.observe.request_scope import (
    MAX_ID_CHARS,
    RequestScope,
    current_request_id,
    current_scope,
    request_id_from,
)

GOOD = ["a", "0b9f-77", "trace:1/2+3=@4", "req_01.B", "x" * MAX_ID_CHARS]
BAD = ["", " ", "a b", "a\n", "a\nERROR forged", "é", "a\x00", 'a"', "[a]", "x" * (MAX_ID_CHARS + 1)]


@pytest.mark.parametrize("given", GOOD)
def test_a_well_formed_id_of_a_client_is_kept(given: str) -> None:
    assert request_id_from([given]) == given


@pytest.mark.parametrize("given", [[], *([bad] for bad in BAD), ["a", "b"]])
def test_any_other_is_replaced_by_a_new_one(given: list[str]) -> None:
    made = request_id_from(given)
    assert made not in given
    assert len(made) == 32
    assert made != request_id_from(given)


def test_tasks_and_threads_work_for_the_request_that_started_them() -> None:
    async def answer(name: str) -> tuple[str, str]:
        current_scope.set(RequestScope(name))
        await asyncio.sleep(0)
        return current_request_id(), await asyncio.to_thread(current_request_id)

    async def work() -> None:
        found = await asyncio.gather(answer("a"), answer("b"))
        assert list(found) == [("a", "a"), ("b", "b")]
        assert current_request_id() == ""

    asyncio.run(work())
