"""OpenAI's requests, to the wire."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from mlx_grpc.v1 import generation_pb2 as wire
from shim import conversation, schemas, tools
from shim.client import Q
from shim.errors import bad_request
from shim.fields import Prompt
from shim.form import Form
from shim.formats import constraint_of
from shim.params import Params
from shim.values import struct

_COMPLETION_MAX_TOKENS = 16
_MAX_CHOICES = 128
_MAX_REQUEST_ID = 128
_MAX_COPIED_BYTES = 4 << 20
"""Of what several prompts share, in all of their calls."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Translated(Generic[Q]):
    """A request on its way to the service, with what the answer needs to know of it."""

    request_id: str
    wires: tuple[Q, ...]
    """The calls that it takes, one for each prompt."""
    params: Params
    form: Form

    @property
    def model(self) -> str:
        """The model that is asked, as the client named it."""
        return self.form.model


def chat(request: schemas.ChatRequest, request_id: str) -> Translated[wire.ChatRequest]:
    """Translate a chat request; ApiError 400 names a field that has no place on the wire."""
    message = wire.ChatRequest(
        model=request.model,
        request_id=request_id,
        messages=conversation.to_wire(request.messages),
        sampling=_sampling(request),
        stopping=_stopping(request),
        output=_chat_output(request),
        n=request.n,
        priority=request.priority,
    )
    names: dict[str, str] = {}
    if request.max_completion_tokens is not None:
        message.stopping.max_tokens = request.max_completion_tokens
        names["max_tokens"] = "max_completion_tokens"
    if request.chat_template_kwargs:
        message.chat_template_kwargs.CopyFrom(struct(request.chat_template_kwargs, "chat_template_kwargs"))
    _set_reasoning(message, request, names)
    _set_tools(message, request)
    names |= _set_shared(message, request)
    form = _form(request, message, told_tier=request.service_tier is not None)
    return Translated(request_id, (message,), Params("messages", names), form)


def completion(request: schemas.CompletionRequest, request_id: str) -> Translated[wire.GenerateRequest]:
    """Translate a completion request, whose prompts take a call each; ApiError 400 as above."""
    _check_completion(request)
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
    if request.max_tokens is None:
        message.stopping.max_tokens = _COMPLETION_MAX_TOKENS
    names = _set_shared(message, request) | {"top_logprobs": "logprobs", "prompt_logprobs": "logprobs"}
    if (len(request.prompt) - 1) * message.ByteSize() > _MAX_COPIED_BYTES:
        reason = "has too many prompts for the size of the other fields, which are sent with each"
        raise bad_request(f"prompt: {reason}.", "prompt", "invalid_value")
    calls = tuple(_with_prompt(message, prompt, place) for place, prompt in enumerate(request.prompt))
    if len(calls) == 1:
        calls[0].request_id = request_id
    return Translated(request_id, calls, Params("prompt", names), _form(request, message, prompts=len(calls)))


def _check_completion(request: schemas.CompletionRequest) -> None:
    choices = request.n or 1
    if request.best_of is not None and request.best_of != choices:
        reason = "only the number of choices that are returned is supported"
        raise bad_request(f"best_of: {reason}.", "best_of", "unsupported_parameter")
    # With one prompt the number is the service's to judge.
    if len(request.prompt) > 1 and len(request.prompt) * choices > _MAX_CHOICES:
        reason = f"has more than {_MAX_CHOICES} prompts, each of the n choices counted"
        raise bad_request(f"prompt: {reason}.", "prompt", "invalid_value")


def _with_prompt(message: wire.GenerateRequest, prompt: Prompt, place: int) -> wire.GenerateRequest:
    """Copy a request for one of several prompts, each of which has a name of its own in the service's log."""
    call = wire.GenerateRequest()
    call.CopyFrom(message)
    suffix = f"-{place}"
    call.request_id = message.request_id[: _MAX_REQUEST_ID - len(suffix)] + suffix
    if isinstance(prompt, str):
        call.text = prompt
    else:
        call.token_ids.CopyFrom(wire.TokenIds(ids=prompt))
    return call


def _set_shared(message: wire.ChatRequest | wire.GenerateRequest, request: schemas.GenerationRequest) -> dict[str, str]:
    """Set what both kinds have, and give the names that this client used for it."""
    names: dict[str, str] = {}
    if request.include_stop is None:
        names["include_stop"] = "include_stop_str_in_output"
    if request.prompt_cache_key:
        message.cache.salt = request.prompt_cache_key
    if (found := constraint_of(request)) is not None:
        names["response_format"], constraint = found
        message.constraint.CopyFrom(constraint)
    return names


def _form(
    request: schemas.GenerationRequest,
    message: wire.ChatRequest | wire.GenerateRequest,
    prompts: int = 1,
    *,
    told_tier: bool = False,
) -> Form:
    options = request.stream_options
    if options is not None and not request.stream:
        reason = "is only allowed where stream is true"
        raise bad_request(f"stream_options: {reason}.", "stream_options", "invalid_value")
    return Form(
        model=request.model,
        choices=(request.n or 1) * prompts,
        stream=bool(request.stream),
        include_usage=bool(options and options.include_usage),
        logprobs=message.output.logprobs,
        echo=message.output.echo,
        service_tier=told_tier,
    )


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


def _set_reasoning(message: wire.ChatRequest, request: schemas.ChatRequest, names: dict[str, str]) -> None:
    nested = request.reasoning or schemas.Reasoning()
    effort = _one_of({"reasoning_effort": request.reasoning_effort, "reasoning.effort": nested.effort})
    if effort is not None:
        names["reasoning_effort"], message.reasoning.effort = effort
    budget = _one_of({"thinking_budget": request.thinking_budget, "reasoning.max_tokens": nested.max_tokens})
    if budget is not None:
        names["thinking_budget"], message.reasoning.budget = budget


def _one_of(fields: Mapping[str, T | None]) -> tuple[str, T] | None:
    """Find which of several names a client used; ApiError 400 where two of them say different things."""
    said = [(name, value) for name, value in fields.items() if value is not None]
    if any(value != said[0][1] for _, value in said):
        first, second = said[0][0], said[-1][0]
        raise bad_request(f"{second}: contradicts {first}.", second, "invalid_value")
    return said[0] if said else None


def _set_tools(message: wire.ChatRequest, request: schemas.ChatRequest) -> None:
    choice = request.tool_choice
    message.tools.extend(tools.to_wire(request.tools or []))
    if request.tools and request.parallel_tool_calls is not None:
        message.parallel_tool_calls = request.parallel_tool_calls
    # Without tools these two say what is so anyway.
    if choice is not None and (request.tools or choice.type not in ("none", "auto")):
        message.tool_choice.CopyFrom(tools.choice_to_wire(choice))
