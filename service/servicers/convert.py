"""Requests from the wire to the service's types. A field that is not served yet is refused by its name."""

import json
import math
from collections.abc import Sequence

from google.protobuf.struct_pb2 import Struct, Value

from mlx_grpc.v1 import generation_pb2 as pb
from service.errors import InvalidField, under
from service.types import (
    MAX_JSON,
    MAX_KWARGS,
    MAX_MESSAGES,
    MAX_OPTIONS,
    MAX_PARTS,
    MAX_STOP_STRINGS,
    MAX_STOP_TOKENS,
    MAX_TOOLS,
    Ask,
    Cache,
    Constraint,
    Effort,
    Message,
    Output,
    Reasoning,
    Role,
    Rule,
    Sampling,
    Stopping,
    Tool,
    ToolCall,
    ToolMode,
    ToolUse,
    check_count,
)

_ROLES = {
    pb.ROLE_SYSTEM: Role.SYSTEM,
    pb.ROLE_DEVELOPER: Role.DEVELOPER,
    pb.ROLE_USER: Role.USER,
    pb.ROLE_ASSISTANT: Role.ASSISTANT,
    pb.ROLE_TOOL: Role.TOOL,
}

_MODES = {
    pb.TOOL_CHOICE_MODE_NONE: ToolMode.NONE,
    pb.TOOL_CHOICE_MODE_AUTO: ToolMode.AUTO,
    pb.TOOL_CHOICE_MODE_REQUIRED: ToolMode.REQUIRED,
    pb.TOOL_CHOICE_MODE_FUNCTION: ToolMode.FUNCTION,
}


def to_ask(request: pb.ChatRequest | pb.GenerateRequest) -> Ask:
    """The part that both generating calls share. Raises FieldError."""
    with under("sampling"):
        sampling = _sampling(request.sampling)
    with under("stopping"):
        stopping = _stopping(request.stopping)
    with under("output"):
        output = _output(request.output)
    if isinstance(request, pb.ChatRequest) and output.echo:
        raise InvalidField("output.echo", "is for Generate only")
    with under("cache"):
        cache = Cache(request.cache.salt, request.cache.bypass)
    with under("constraint"):
        constraint = _constraint(request.constraint) if request.HasField("constraint") else None
    return Ask(
        model=request.model,
        lora=request.lora,
        request_id=request.request_id,
        sampling=sampling,
        stopping=stopping,
        output=output,
        cache=cache,
        n=request.n if request.HasField("n") else 1,
        priority=request.priority,
        constraint=constraint,
    )


def to_messages(messages: Sequence[pb.ChatMessage]) -> list[Message]:
    """A conversation. Raises InvalidField."""
    if not messages:
        raise InvalidField("messages", "must not be empty")
    check_count("messages", len(messages), MAX_MESSAGES)
    check_count("messages", sum(len(m.content) + len(m.tool_calls) for m in messages), MAX_PARTS, "parts and calls")
    converted = []
    for index, message in enumerate(messages):
        with under(f"messages[{index}]"):
            converted.append(_message(message))
    return converted


def to_tools(tools: Sequence[pb.Tool], choice: pb.ToolChoice, *, parallel: bool = True) -> ToolUse:
    """Functions that a template may show, and how they are to be called. Raises InvalidField."""
    if choice.mode == pb.TOOL_CHOICE_MODE_UNSPECIFIED:
        mode = ToolMode.AUTO if tools else ToolMode.NONE
    elif (known := _MODES.get(choice.mode)) is not None:
        mode = known
    else:
        raise InvalidField("tool_choice.mode", "must be one of TOOL_CHOICE_MODE_NONE, AUTO, REQUIRED and FUNCTION")
    return _tool_use(tools, mode, choice.function_name, parallel=parallel)


def to_tool_use(request: pb.ChatRequest, ask: Ask) -> ToolUse:
    """The functions of a request and how they are to be called. Raises InvalidField."""
    parallel = request.parallel_tool_calls if request.HasField("parallel_tool_calls") else True
    use = to_tools(request.tools, request.tool_choice, parallel=parallel)
    if use.is_forced and ask.constraint is not None:
        raise InvalidField("constraint", "cannot be met by an answer that tool_choice makes a call")
    return use


def to_reasoning(message: pb.Reasoning) -> Reasoning:
    """How much to think. Raises InvalidField."""
    efforts = {effort.value: effort for effort in Effort}
    with under("reasoning"):
        if message.effort and message.effort not in efforts:
            raise InvalidField("effort", f"must be one of {', '.join(efforts)}")
        return Reasoning(
            effort=efforts.get(message.effort), budget=message.budget if message.HasField("budget") else None
        )


def to_mapping(struct: Struct) -> dict[str, object]:
    """The template's variables as Python values, with whole numbers as integers, which is what templates print.

    Raises InvalidField for more of them than anyone needs.
    """
    check_count("chat_template_kwargs", struct.ByteSize(), MAX_KWARGS, "bytes")
    return _mapping(struct)


def _mapping(struct: Struct) -> dict[str, object]:
    return {name: _value(value) for name, value in struct.fields.items()}


def _constraint(message: pb.Constraint) -> Constraint:
    match message.WhichOneof("rule"):
        case "json_schema":
            if not isinstance(_json(message.json_schema), dict | bool):
                raise InvalidField("json_schema", f"must be a JSON Schema of at most {MAX_JSON} characters, as JSON")
            return Constraint(Rule.JSON_SCHEMA, message.json_schema)
        case "json_object":
            if not message.json_object:
                raise InvalidField("json_object", "must be true, or left out")
            return Constraint(Rule.JSON_OBJECT)
        case "regex":
            return Constraint(Rule.REGEX, message.regex)
        case "grammar":
            return Constraint(Rule.GRAMMAR, message.grammar)
        case "choice":
            # One more than is allowed is enough to be refused for.
            return Constraint(Rule.CHOICE, options=tuple(message.choice.options[: MAX_OPTIONS + 1]))
        case _:
            raise InvalidField("rule", "must be one of json_schema, json_object, regex, grammar and choice")


def _tool_use(tools: Sequence[pb.Tool], mode: ToolMode, name: str, *, parallel: bool) -> ToolUse:
    check_count("tools", len(tools), MAX_TOOLS)
    for index, tool in enumerate(tools):
        if tool.parameters_json and not isinstance(_json(tool.parameters_json), dict):
            raise InvalidField(
                f"tools[{index}].parameters_json", f"must be a JSON object of at most {MAX_JSON} characters"
            )
    converted = tuple(Tool(tool.name, tool.description, tool.parameters_json, tool.strict) for tool in tools)
    return ToolUse(converted, mode, name, parallel)


def _sampling(message: pb.SamplingParams) -> Sampling:
    present = {field.name: value for field, value in message.ListFields() if field.name != "logit_bias"}
    return Sampling(**present, logit_bias=message.logit_bias)


def _stopping(message: pb.Stopping) -> Stopping:
    return Stopping(
        max_tokens=message.max_tokens if message.HasField("max_tokens") else None,
        min_tokens=message.min_tokens,
        # One more than is allowed is enough to be refused for.
        stop=tuple(message.stop[: MAX_STOP_STRINGS + 1]),
        stop_token_ids=tuple(message.stop_token_ids[: MAX_STOP_TOKENS + 1]),
        ignore_eos=message.ignore_eos,
        include_stop=message.include_stop,
    )


def _output(message: pb.OutputOptions) -> Output:
    return Output(
        logprobs=message.logprobs,
        top_logprobs=message.top_logprobs,
        prompt_logprobs=message.prompt_logprobs if message.HasField("prompt_logprobs") else None,
        token_ids=message.token_ids,
        echo=message.echo,
        progress=message.progress,
    )


def _message(message: pb.ChatMessage) -> Message:
    if (role := _ROLES.get(message.role)) is None:
        raise InvalidField("role", "must be one of ROLE_SYSTEM, DEVELOPER, USER, ASSISTANT and TOOL")
    for index, part in enumerate(message.content):
        if not part.HasField("part"):
            raise InvalidField(f"content[{index}]", "must have a text")
    if not message.content and not (role is Role.ASSISTANT and (message.tool_calls or message.reasoning)):
        raise InvalidField("content", "must not be empty")
    return Message(
        role=role,
        content="".join(part.text for part in message.content) if message.content else None,
        name=message.name,
        tool_call_id=message.tool_call_id,
        tool_calls=tuple(_tool_call(index, call) for index, call in enumerate(message.tool_calls)),
        reasoning=message.reasoning,
    )


def _tool_call(index: int, call: pb.ToolCall) -> ToolCall:
    if not call.name:
        raise InvalidField(f"tool_calls[{index}].name", "must not be empty")
    # What is no JSON object passes: a model may have written it, and clients send back what they got.
    check_count(f"tool_calls[{index}].arguments", len(call.arguments), MAX_JSON, "characters")
    return ToolCall(call.id, call.name, call.arguments or "{}")


def _json(text: str) -> object:
    """The value that a JSON text holds, None where it holds none or is longer than anyone needs."""
    if len(text) > MAX_JSON:
        return None
    try:
        value: object = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        if "\\u" in text:  # a half of a surrogate pair is no character
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(text)
    return number


def _value(value: Value) -> object:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _mapping(value.struct_value)
        case "list_value":
            return [_value(item) for item in value.list_value.values]
        case _:
            return None
