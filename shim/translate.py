"""OpenAI's requests, to the wire."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic

import orjson
from google.protobuf.struct_pb2 import Struct

from mlx_grpc.v1 import generation_pb2 as wire
from shim import schemas
from shim.client import Q
from shim.errors import bad_request
from shim.form import Form
from shim.params import Params

_ROLES = {
    "system": wire.ROLE_SYSTEM,
    "developer": wire.ROLE_DEVELOPER,
    "user": wire.ROLE_USER,
    "assistant": wire.ROLE_ASSISTANT,
    "tool": wire.ROLE_TOOL,
}
_TOOL_CHOICES = {
    "none": wire.TOOL_CHOICE_MODE_NONE,
    "auto": wire.TOOL_CHOICE_MODE_AUTO,
    "required": wire.TOOL_CHOICE_MODE_REQUIRED,
    "function": wire.TOOL_CHOICE_MODE_FUNCTION,
}
_COMPLETION_MAX_TOKENS = 16
# A protobuf message may nest 100 deep, and each level of a Struct takes three of them.
_STRUCT_DEPTH = 24


@dataclass(frozen=True, slots=True)
class Translated(Generic[Q]):
    """A request on its way to the service, with what the answer needs to know of it."""

    wire: Q
    params: Params
    form: Form


def chat(request: schemas.ChatRequest, request_id: str) -> Translated[wire.ChatRequest]:
    """Translate a chat request; ApiError 400 names a field that has no place on the wire."""
    _refuse_unserved(request)
    message = wire.ChatRequest(
        model=request.model,
        request_id=request_id,
        messages=[_message(each) for each in request.messages],
        sampling=_sampling(request),
        stopping=_stopping(request),
        output=_chat_output(request),
        n=request.n,
        priority=request.priority,
    )
    if request.max_completion_tokens is not None:
        message.stopping.max_tokens = request.max_completion_tokens
    if request.reasoning_effort is not None:
        message.reasoning.effort = request.reasoning_effort
    if request.chat_template_kwargs:
        message.chat_template_kwargs.CopyFrom(_struct(request.chat_template_kwargs, "chat_template_kwargs"))
    _set_tools(message, request)
    _set_constraint(message, request.response_format)
    return _translated(message, request, "messages")


def completion(request: schemas.CompletionRequest, request_id: str) -> Translated[wire.GenerateRequest]:
    """Translate a completion request; ApiError 400 names a field that has no place on the wire."""
    if request.best_of not in (None, 1):
        raise bad_request("best_of: only 1 is supported.", "best_of", "unsupported_parameter")
    if request.suffix is not None:
        raise _unserved("suffix")
    message = wire.GenerateRequest(
        model=request.model,
        request_id=request_id,
        sampling=_sampling(request),
        stopping=_stopping(request),
        output=wire.OutputOptions(
            echo=bool(request.echo),
            logprobs=request.logprobs is not None,
            top_logprobs=request.logprobs or None,
            prompt_logprobs=request.logprobs if request.echo else None,
        ),
        n=request.n,
        priority=request.priority,
    )
    if isinstance(request.prompt, str):
        message.text = request.prompt
    else:
        message.token_ids.CopyFrom(wire.TokenIds(ids=request.prompt))
    if request.max_tokens is None:
        message.stopping.max_tokens = _COMPLETION_MAX_TOKENS
    return _translated(message, request, "prompt", {"top_logprobs": "logprobs", "prompt_logprobs": "logprobs"})


def _translated(
    message: Q,
    request: schemas.GenerationRequest,
    prompt: str,
    aliases: Mapping[str, str] | None = None,
) -> Translated[Q]:
    names = dict(aliases or {})
    if isinstance(request, schemas.ChatRequest) and request.max_completion_tokens is not None:
        names["max_tokens"] = "max_completion_tokens"
    if request.include_stop is None:
        names["include_stop"] = "include_stop_str_in_output"
    if request.prompt_cache_key:
        message.cache.salt = request.prompt_cache_key
    options = request.stream_options
    form = Form(
        choices=request.n or 1,
        stream=bool(request.stream),
        include_usage=bool(options and options.include_usage),
        logprobs=message.output.logprobs,
    )
    return Translated(message, Params(prompt, names), form)


def _unserved(name: str) -> Exception:
    return bad_request(f"{name} is not supported.", name, "unsupported_parameter")


def _refuse_unserved(request: schemas.ChatRequest) -> None:
    for name in ("functions", "function_call", "audio", "web_search_options"):
        if getattr(request, name) is not None:
            raise _unserved(name)


def _sampling(request: schemas.GenerationRequest) -> wire.SamplingParams:
    return wire.SamplingParams(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        repetition_penalty=request.repetition_penalty,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        logit_bias=request.logit_bias,
        seed=request.seed,
    )


def _stopping(request: schemas.GenerationRequest) -> wire.Stopping:
    include_stop = request.include_stop_str_in_output if request.include_stop is None else request.include_stop
    return wire.Stopping(
        max_tokens=request.max_tokens,
        min_tokens=request.min_tokens,
        stop=request.stop,
        stop_token_ids=request.stop_token_ids,
        ignore_eos=bool(request.ignore_eos),
        include_stop=bool(include_stop),
    )


def _chat_output(request: schemas.ChatRequest) -> wire.OutputOptions:
    # Many clients send a zero beside `logprobs: false`.
    if request.top_logprobs and not request.logprobs:
        raise bad_request("top_logprobs: needs logprobs to be true.", "top_logprobs", "invalid_value")
    return wire.OutputOptions(logprobs=bool(request.logprobs), top_logprobs=request.top_logprobs or None)


def _message(message: schemas.Message) -> wire.ChatMessage:
    return wire.ChatMessage(
        role=_ROLES[message.role],
        content=[wire.ContentPart(text=part.text) for part in message.content or ()],
        name=message.name or "",
        tool_call_id=message.tool_call_id or "",
        tool_calls=[
            wire.ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in message.tool_calls or ()
        ],
        reasoning=message.reasoning_content or "",
    )


def _set_tools(message: wire.ChatRequest, request: schemas.ChatRequest) -> None:
    tools, choice = request.tools or [], request.tool_choice
    message.tools.extend(_tool(tool.function, f"tools[{place}]") for place, tool in enumerate(tools))
    if tools and request.parallel_tool_calls is not None:
        message.parallel_tool_calls = request.parallel_tool_calls
    # Without tools these two say what is so anyway.
    if choice is None or (not tools and choice.type in ("none", "auto")):
        return
    if choice.type == "function" and choice.function is None:
        raise bad_request("tool_choice.function is required.", "tool_choice.function", "missing_required_parameter")
    message.tool_choice.mode = _TOOL_CHOICES[choice.type]
    if choice.function is not None:
        message.tool_choice.function_name = choice.function.name


def _tool(function: schemas.Function, path: str) -> wire.Tool:
    parameters = "" if function.parameters is None else _json(function.parameters, f"{path}.function.parameters")
    return wire.Tool(
        name=function.name,
        description=function.description or "",
        parameters_json=parameters,
        strict=function.strict,
    )


def _set_constraint(message: wire.ChatRequest, response_format: schemas.ResponseFormat | None) -> None:
    if response_format is None or response_format.type == "text":
        return
    if response_format.type == "json_object":
        message.constraint.json_object = True
        return
    param = "response_format.json_schema"
    if response_format.json_schema is None:
        raise bad_request(f"{param} is required.", param, "missing_required_parameter")
    message.constraint.json_schema = _json(response_format.json_schema.schema_, f"{param}.schema")


def _json(value: dict[str, object], param: str) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:  # what could be read may still be too deep to write
        raise bad_request(f"{param} is nested too deeply.", param, "invalid_value") from error


def _struct(value: dict[str, object], param: str) -> Struct:
    if _is_deeper(value, _STRUCT_DEPTH):
        raise bad_request(f"{param} is nested more than {_STRUCT_DEPTH} deep.", param, "invalid_value")
    struct = Struct()
    struct.update(value)  # type: ignore[arg-type]  # any JSON value will do
    return struct


def _is_deeper(value: object, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return bool(inner) and (depth == 0 or any(_is_deeper(each, depth - 1) for each in inner))
