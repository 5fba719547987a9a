"""Tools, and whether they are called."""

from typing import Any

import pytest

from mlx_grpc.v1 import generation_pb2 as wire
from shim import translate
from shim.errors import ApiError
from shim.reading import read
from shim.schemas import ChatRequest

Json = dict[str, Any]
TOOL: Json = {"type": "function", "function": {"name": "f"}}
MODES = {
    "none": wire.TOOL_CHOICE_MODE_NONE,
    "auto": wire.TOOL_CHOICE_MODE_AUTO,
    "required": wire.TOOL_CHOICE_MODE_REQUIRED,
}


def chat(**fields: object) -> wire.ChatRequest:
    body: Json = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    return translate.chat(read(ChatRequest, body | fields), "").wires[0]


@pytest.mark.parametrize("choice", MODES)
def test_a_choice_in_one_word_arrives(choice: str) -> None:
    """So does the same word as an object's type."""
    assert chat(tools=[TOOL], tool_choice=choice).tool_choice == wire.ToolChoice(mode=MODES[choice])


def test_nothing_is_made_of_what_is_absent() -> None:
    """A tool without description, parameters and strictness has none on the wire, and calls may be parallel."""
    request = chat(tools=[TOOL | {"function": {"name": "f", "parameters": None, "strict": None}}])
    assert list(request.tools) == [wire.Tool(name="f")]
    assert not request.tools[0].HasField("strict")
    assert not request.HasField("parallel_tool_calls")
    assert not request.HasField("tool_choice")


def test_parallel_calls_are_said_beside_tools_only() -> None:
    """Many clients say it without any, which asks for nothing."""
    assert chat(tools=[TOOL], parallel_tool_calls=True).parallel_tool_calls
    assert chat(tools=[TOOL], parallel_tool_calls=False).HasField("parallel_tool_calls")
    assert not chat(parallel_tool_calls=False).HasField("parallel_tool_calls")


def test_a_choice_that_needs_tools_arrives_without_them() -> None:
    """It is the service's to refuse."""
    assert chat(tool_choice="required").tool_choice.mode == wire.TOOL_CHOICE_MODE_REQUIRED
    assert not chat(tools=[], tool_choice="auto").HasField("tool_choice")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type", "unsupported_parameter"),
        ({"tools": [{"type": "search"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [TOOL, {"type": "function"}]}, "tools[1].function", "missing_required_parameter"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
         "tools[0].function.parameters", "invalid_type"),
        ({"tools": {}}, "tools", "invalid_type"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice",
         "unsupported_parameter"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice.function", "missing_required_parameter"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": 5}}},
         "tool_choice.function.name", "invalid_type"),
    ],
)  # fmt: skip
def test_what_is_no_function_is_refused_by_name(fields: Json, param: str, code: str) -> None:
    """Other types of tools and of choices are named."""
    with pytest.raises(ApiError) as refused:
        chat(**fields)
    error = refused.value.body["error"]
    assert (error["param"], error["code"]) == (param, code)
