"""`instructions` and the items of `input` as the messages of a chat, and where in the body each message stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llorch.chat.messages import MAX_MESSAGES
from llorch.errors import FieldError
from llorch.fields.kinds import described
from llorch.server.routes.openai.messages import plain_messages
from llorch.server.routes.openai.responses.fields import INPUT

_ROLES = ("user", "assistant", "system", "developer")
_TEXTS = ("input_text", "output_text", "text")
_MEDIA = ("input_image", "input_file", "input_audio", "computer_screenshot")
_KINDS = ("message", "function_call", "function_call_output", "reasoning")
_OTHER_KINDS = (
    "item_reference", "custom_tool_call", "custom_tool_call_output", "file_search_call", "web_search_call",
    "computer_call", "computer_call_output", "code_interpreter_call", "image_generation_call", "local_shell_call",
    "local_shell_call_output", "shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output",
    "mcp_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "compaction",
)  # fmt: skip
"""Types of OpenAI's items that this server does not have; their names may be shown."""


def read_turns(body: Mapping[str, Any], max_chars: int) -> tuple[list[dict[str, Any]], list[FieldError]]:
    """The messages that `instructions` and `input` are, as chat templates take them, and all that is wrong with them.

    Args:
        body: a JSON object.
        max_chars: most characters of all of them together.
    """
    turns = _Turns()
    instructions, given = body.get("instructions"), body.get("input")
    if isinstance(instructions, str) and instructions:
        turns.add({"role": "system", "content": instructions}, "instructions", "")
    if isinstance(given, str):
        turns.add({"role": "user", "content": given}, "input", "")
    elif isinstance(given, list) and 1 <= len(given) <= MAX_MESSAGES:
        for i, item in enumerate(given):
            turns.take(item, f"input[{i}]")
        if not turns.has_input and not turns.faults:
            turns.fault("input", "a message, a function_call or a function_call_output in it", given)
    elif given is None:
        turns.faults.append(FieldError("input", INPUT.rule, "input is required"))
    else:
        turns.fault("input", INPUT.rule, given)
    if turns.faults:
        return [], turns.faults
    messages, faults = plain_messages(turns.messages, max_chars)
    return messages, [turns.named(fault) for fault in faults]


class _Turns:
    """Makes messages of items.

    Attributes:
        messages: as in a body of `POST /v1/chat/completions`.
        faults: what is wrong with the items themselves.
        has_input: an item became a message, or a part of one.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.faults: list[FieldError] = []
        self.has_input = False
        self._places = {"messages": "input"}
        """Fields of the chat, and the fields of this body that they were made of."""
        self._call_ids = set[str]()
        self._is_calling = False
        """The latest item was a call, or a message of the assistant behind one."""

    def fault(self, field: str, rule: str, value: object, *, got: str = "") -> None:
        """Note that `field` does not have a value of this rule."""
        message = f"{field}: expected {rule}; got {got or described(value)}"
        self.faults.append(FieldError(field, rule, message))

    def named(self, fault: FieldError) -> FieldError:
        """A fault of the chat with the name of the field that the client wrote."""
        head, tail = fault.field, ""
        while head not in self._places:
            cut = max(head.rfind("."), head.rfind("["))
            if cut < 0:
                return fault
            head, tail = head[:cut], head[cut:] + tail
        name = self._places[head] + tail
        return FieldError(name, fault.constraint, fault.message.replace(fault.field, name, 1))

    def add(self, message: dict[str, Any], place: str, content: str = ".content") -> str:
        """Append a message that was made of the item at `place`; its name in the chat.

        Args:
            message: the message.
            place: a field of the body.
            content: behind that, where the message's content stands.
        """
        name = f"messages[{len(self.messages)}]"
        self.messages.append(message)
        self._places[name] = place
        self._places[f"{name}.content"] = place + content
        return name

    def take(self, item: object, place: str) -> None:
        """Make a message of an item, or a part of the message before it."""
        if not isinstance(item, dict):
            self.fault(place, f"an object of type {', '.join(_KINDS[:-1])}", item)
            return
        kind = item.get("type")
        if kind is None:
            kind = "item_reference" if "id" in item and "role" not in item else "message"
        if kind == "message":
            self._take_message(item, place)
        elif kind == "function_call":
            self._take_call(item, place)
        elif kind == "function_call_output":
            self._take_output(item, place)
        elif kind != "reasoning":  # this server writes none; those of other models are left out
            rule = f"one of {', '.join(_KINDS)}"
            got = f"{kind!r}, which this server does not have" if kind in _OTHER_KINDS else described(kind)
            if kind == "item_reference":
                got = "'item_reference'; nothing is stored on this server, so send the item itself"
            self.fault(f"{place}.type", rule, kind, got=got)

    def _take_message(self, item: Mapping[str, Any], place: str) -> None:
        role = item.get("role")
        if role not in _ROLES:
            got = "another word" if isinstance(role, str) else ""
            self.fault(f"{place}.role", f"one of {', '.join(_ROLES)}", role, got=got)
            return
        content = self._content(item.get("content"), f"{place}.content")
        self.has_input = True
        if role == "assistant" and self._is_calling:
            self._join(content, place)
            return
        self._is_calling = False
        if content is None:
            self.fault(f"{place}.content", "a string, or a list of parts", None)
        self.add({"role": role, "content": content}, place)

    def _join(self, content: Any, place: str) -> None:
        """Append text to the message that has the calls in front of it: templates know one message an answer."""
        message, name = self.messages[-1], f"messages[{len(self.messages) - 1}].content"
        before = message["content"]
        if not isinstance(before, list):
            before = [] if before is None else self._parts(before, self._places[name], name, 0)
        parts = self._parts(content, f"{place}.content", name, len(before))
        message["content"] = [*before, *parts]

    def _parts(self, content: Any, place: str, name: str, first: int) -> list[Any]:
        """The content at `place` as parts, which become those of the content `name` from number `first` on."""
        if isinstance(content, list):
            self._places |= {f"{name}[{first + i}]": f"{place}[{i}]" for i in range(len(content))}
            return content
        self._places |= {f"{name}[{first}]": place, f"{name}[{first}].text": place}
        return [{"type": "text", "text": content}]

    def _content(self, value: object, place: str) -> Any:
        """The content of a message as chats have it."""
        if not isinstance(value, list):
            return value
        return [self._part(part, f"{place}[{i}]") for i, part in enumerate(value)]

    def _part(self, value: object, place: str) -> object:
        if not isinstance(value, dict):
            self.fault(place, '{"type": "input_text", "text": ...}', value)
            return value
        kind = value.get("type")
        if kind in _TEXTS:
            return {"type": "text", "text": value.get("text")}
        if kind != "refusal":
            got = f"{kind!r}, which this model cannot read" if kind in _MEDIA else ""
            self.fault(f"{place}.type", "input_text or output_text", kind, got=got)
        return value

    def _take_call(self, item: Mapping[str, Any], place: str) -> None:
        self.has_input = True
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call_id = self._call_id(item, place)
        call = {"id": call_id, "type": "function", "function": function}
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self.add({"role": "assistant", "content": None}, place)
        message = self.messages[-1]
        calls = message.setdefault("tool_calls", [])
        name = f"messages[{len(self.messages) - 1}].tool_calls[{len(calls)}]"
        calls.append(call)
        self._places |= {name: place, f"{name}.function": place, f"{name}.id": f"{place}.call_id"}
        self._call_ids.add(call_id)
        self._is_calling = True

    def _take_output(self, item: Mapping[str, Any], place: str) -> None:
        self.has_input, self._is_calling = True, False
        call_id = self._call_id(item, place)
        if call_id and call_id not in self._call_ids:
            message = f"{place}.call_id: no function_call before it has this call_id; nothing is stored on this server"
            self.faults.append(FieldError(f"{place}.call_id", "the call_id of a function_call", message))
        content = self._content(item.get("output"), f"{place}.output")
        name = self.add({"role": "tool", "content": content, "tool_call_id": call_id}, place, ".output")
        self._places[f"{name}.tool_call_id"] = f"{place}.call_id"

    def _call_id(self, item: Mapping[str, Any], place: str) -> str:
        call_id = item.get("call_id")
        if isinstance(call_id, str) and call_id:
            return call_id
        self.fault(f"{place}.call_id", "the name of a call", call_id)
        return ""
