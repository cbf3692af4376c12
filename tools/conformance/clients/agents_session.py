"""OpenAI's Agents SDK (`openai-agents`) with its default model class, which speaks the Responses API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import agents
import openai
from openai.types.responses import ResponseTextDeltaEvent

from tools.conformance.checks import Check, Target, expect, expect_equal, main
from tools.conformance.clients.openai_structure import Place

GREEDY = agents.ModelSettings(temperature=0, max_tokens=400)


def _agent(target: Target, **fields: Any) -> agents.Agent[None]:
    """An agent whose model is a name, as the SDK's examples have it."""
    fields = {"name": "agent", "instructions": "Be terse.", "model_settings": GREEDY, **fields}
    return agents.Agent(model=target.model, **fields)


def _done(target: Target, run: Awaitable[Any]) -> Any:
    """What a run gives, in an event loop and with a client of its own."""

    async def work() -> Any:
        async with openai.AsyncOpenAI(base_url=target.v1, api_key=target.key, max_retries=0) as client:
            agents.set_default_openai_client(client, use_for_tracing=False)
            return await run

    agents.set_tracing_disabled(True)
    return asyncio.run(work())


async def _streamed(agent: agents.Agent[None], asked: str) -> tuple[str, Any]:
    """The text of a streamed run, and its result."""
    result = agents.Runner.run_streamed(agent, asked)
    text = ""
    async for event in result.stream_events():
        if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent):
            text += event.data.delta
    return text, result


def answer(target: Target) -> None:
    """An agent answers, streamed and whole alike, and its usage is counted."""
    whole = _done(target, agents.Runner.run(_agent(target), "Say hi."))
    text, streamed = _done(target, _streamed(_agent(target), "Say hi."))
    expect(bool(whole.final_output), "no words")
    expect_equal("streamed", (text, streamed.final_output), (whole.final_output, whole.final_output))
    usage = whole.context_wrapper.usage
    expect_equal("total_tokens", usage.total_tokens, usage.input_tokens + usage.output_tokens)
    expect(usage.output_tokens > 0, "no usage")


def next_turn(target: Target) -> None:
    """What a run said goes into the next one."""
    first = _done(target, agents.Runner.run(_agent(target), "Say hi."))
    turns = [*first.to_input_list(), {"role": "user", "content": "Again."}]
    second = _done(target, agents.Runner.run(_agent(target), turns))
    counts = [run.context_wrapper.usage.input_tokens for run in (first, second)]
    expect(counts[1] > counts[0], f"input tokens {counts}")


def tool(target: Target) -> None:
    """A function is called, its result is read, and an answer comes; streamed, too."""
    cities: list[str] = []

    @agents.function_tool
    def get_weather(city: str) -> str:
        """The weather of a city."""
        cities.append(city)
        return "blue sky"

    settings = agents.ModelSettings(temperature=0, max_tokens=400, tool_choice="required")
    agent = _agent(target, tools=[get_weather], model_settings=settings)
    result = _done(target, agents.Runner.run(agent, "What is the weather in Paris?"))
    kinds = [item.type for item in result.new_items]
    expect_equal("items", kinds[:2], ["tool_call_item", "tool_call_output_item"])
    expect(bool(result.final_output), "no words after the result")
    again = _agent(target, tools=[get_weather], model_settings=settings)
    text, streamed = _done(target, _streamed(again, "What is the weather in Rome?"))
    expect(text.endswith(streamed.final_output), f"streamed {text!r}")
    expect(len(cities) >= 2, f"calls for {cities}")


def structured(target: Target) -> None:
    """An `output_type` gives an instance; a handoff to such an agent, too."""
    place = _agent(target, name="placer", output_type=Place)
    result = _done(target, agents.Runner.run(place, "A village?"))
    expect(isinstance(result.final_output, Place), "no instance came back")
    settings = agents.ModelSettings(
        temperature=0, max_tokens=400, tool_choice="required", parallel_tool_calls=False
    )
    first = _agent(target, name="first", handoffs=[place], model_settings=settings)
    result = _done(target, agents.Runner.run(first, "A village?"))
    expect_equal("last agent", result.last_agent.name, "placer")
    expect(isinstance(result.final_output, Place), "no instance came back from the second agent")


CHECKS: list[Check] = [answer, next_turn, tool, structured]

if __name__ == "__main__":
    main(CHECKS)
