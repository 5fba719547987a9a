"""The tools of a chat request and whether they are called, to the wire."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

from mlx_grpc.v1 import generation_pb2 as wire
from shim.errors import bad_request
from shim.fields import Fields, Schema, told, unsupported, wrong_type, wrong_value
from shim.values import json_text

_MODES = {
    "none": wire.TOOL_CHOICE_MODE_NONE,
    "auto": wire.TOOL_CHOICE_MODE_AUTO,
    "required": wire.TOOL_CHOICE_MODE_REQUIRED,
    "function": wire.TOOL_CHOICE_MODE_FUNCTION,
}


def _tool_type(value: object) -> object:
    if value == "custom":
        raise unsupported("custom is not supported; function is the only type of tools")
    return value


def _choice(value: object) -> object:
    if value in ("none", "auto", "required"):
        return {"type": value}
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "function":
        return value
    if kind in ("allowed_tools", "custom"):
        raise unsupported(f"{kind} is not supported")
    wrong = wrong_value if isinstance(value, str | dict) else wrong_type
    raise wrong("must be none, auto, required or an object that names a function")


class Function(Fields):
    """A function that the model may call."""

    name: Annotated[str, told(pattern="^[A-Za-z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(Fields):
    """A tool; functions are the only type."""

    type: Annotated[Literal["function"], BeforeValidator(_tool_type)]
    function: Function


class FunctionName(Fields):
    """The function to call."""

    name: str


class ToolChoice(Fields):
    """Whether tools are called; the strings of OpenAI's API are read as the type."""

    type: Literal["none", "auto", "required", "function"]
    function: FunctionName | None = None


class NamedChoice(Fields):
    """The function that has to be called."""

    type: Literal["function"]
    function: FunctionName


Choice = Annotated[
    ToolChoice, BeforeValidator(_choice, json_schema_input_type=Literal["none", "auto", "required"] | NamedChoice)
]


def to_wire(tools: list[Tool]) -> list[wire.Tool]:
    """Translate tools; ApiError 400 names parameters that cannot be written."""
    return [_tool(tool.function, f"tools[{place}].function") for place, tool in enumerate(tools)]


def choice_to_wire(choice: ToolChoice) -> wire.ToolChoice:
    """Translate whether they are called; ApiError 400 where no function is named."""
    if choice.type == "function" and choice.function is None:
        raise bad_request("tool_choice.function is required.", "tool_choice.function", "missing_required_parameter")
    return wire.ToolChoice(mode=_MODES[choice.type], function_name=choice.function.name if choice.function else "")


def _tool(function: Function, path: str) -> wire.Tool:
    return wire.Tool(
        name=function.name,
        description=function.description or "",
        parameters_json="" if function.parameters is None else json_text(function.parameters, f"{path}.parameters"),
        strict=function.strict,
    )
