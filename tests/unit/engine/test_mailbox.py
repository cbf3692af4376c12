"""Events of a request wait for their reader, all that came together at once."""

from __future__ import annotations

import asyncio

from llorch.engine.events import TokenEvent
from llorch.engine.mailbox import ChoiceEvent, Mailbox

ONE, TWO, THREE = ((k, TokenEvent(k, k, "a")) for k in range(3))


def test_a_reader_gets_all_that_has_come_in_its_order() -> None:
    async def main() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())
        mailbox.put([ONE])
        mailbox.put([TWO])
        assert await mailbox.take() == [ONE, TWO]
        reader = asyncio.create_task(mailbox.take())
        await asyncio.sleep(0)
        mailbox.put([THREE])
        mailbox.put([ONE])
        assert await reader == [THREE, ONE]

    asyncio.run(main())


def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    async def main() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())
        reader = asyncio.create_task(mailbox.take())
        await asyncio.sleep(0)
        mailbox.put([ONE])
        reader.cancel()
        await asyncio.wait([reader])
        mailbox.put([TWO])
        assert await mailbox.take() == [ONE, TWO]

    asyncio.run(main())


def test_a_shortcut_is_asked_while_the_reader_waits_and_may_refuse() -> None:
    seen: list[list[ChoiceEvent]] = []

    def shortcut(events: list[ChoiceEvent]) -> bool:
        seen.append(events)
        return events == [TWO]

    async def main() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())
        mailbox.shortcut = shortcut
        mailbox.put([ONE])
        assert await mailbox.take() == [ONE]
        mailbox.put([TWO])  # nobody waits
        assert await mailbox.take() == [TWO]
        assert seen == []
        reader = asyncio.create_task(mailbox.take())
        await asyncio.sleep(0)
        mailbox.put([TWO])
        mailbox.put([THREE])
        mailbox.put([TWO])  # behind one that the reader is to get
        assert await reader == [THREE, TWO]
        assert seen == [[TWO], [THREE]]

    asyncio.run(main())
