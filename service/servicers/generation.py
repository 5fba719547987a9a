"""GenerationService: prompts and conversations in, streams of events out."""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, aclosing
from typing import Any

from grpc import aio

from mlx_grpc.v1 import generation_pb2 as pb
from mlx_grpc.v1 import generation_pb2_grpc as pb_grpc
from service.errors import ContextTooLong, InvalidField, under
from service.pool.facts import ModelFacts
from service.pool.generation import Generation
from service.pool.pool import ModelPool
from service.pool.prompt import Prompt, boundaries
from service.servicers import convert
from service.servicers.aside import aside
from service.servicers.drain import Drain
from service.servicers.events import EventWriter, Response, loading
from service.servicers.origin import origin_of
from service.servicers.request_log import logged
from service.text.answer import AnswerForm
from service.text.grammar import of_constraint
from service.types import Ask, check_tokens

Context = aio.ServicerContext[Any, Any]
ReadPrompt = Callable[[ModelFacts], Prompt]
"""Makes the prompt of a request for a model, which takes as long as the request is large."""


class GenerationServicer(pb_grpc.GenerationServiceServicer):
    """Serves both generating calls over the models of a pool."""

    def __init__(self, pool: ModelPool, drain: Drain) -> None:
        self._pool = pool
        self._drain = drain

    def Chat(self, request: pb.ChatRequest, context: Context) -> AsyncIterator[pb.ChatResponse]:  # noqa: N802 - the wire's name
        """See generation.proto."""
        return self._answer(request, context, pb.ChatResponse, _chat_prompt)

    def Generate(self, request: pb.GenerateRequest, context: Context) -> AsyncIterator[pb.GenerateResponse]:  # noqa: N802
        """See generation.proto."""
        return self._answer(request, context, pb.GenerateResponse, _text_prompt)

    async def _answer(
        self, request: Any, context: Context, response: type[Response], read: Callable[[Any, Ask], ReadPrompt]
    ) -> AsyncIterator[Response]:
        """The life of a generating call."""
        # Named before anything can fail, so that the log and a bug's status agree on the names.
        request.request_id = request.request_id or uuid.uuid4().hex
        request.model = request.model or self._pool.models[0].name
        with logged(request) as entry, self._drain.admitted(), ExitStack() as held:
            origin = origin_of(context)
            entry.caller = origin.caller
            ask = convert.to_ask(request)
            prompt_of = read(request, ask)
            lease = held.enter_context(self._pool.enter(ask.model))
            if ask.lora:
                held.enter_context(lease.model.loras.acquire(ask.lora))
            if ask.output.progress:
                async with aclosing(lease.progress()) as stages:
                    async for progress in stages:
                        yield loading(response, progress)
            facts = await lease.ready()
            _check_tokens(ask, facts)
            prompt = await aside(request, lambda: prompt_of(facts))
            entry.generation = generation = Generation(lease.model, facts, prompt, ask, origin)
            # A call can end while its handler is blocked in a write, where no exception may reach it for long.
            context.add_done_callback(lambda _: generation.close())  # type: ignore[arg-type] # the stubs want a class
            context.add_done_callback(lambda _: held.close())  # type: ignore[arg-type]
            writer = EventWriter(ask, response, facts.tokenizer.bytes_of)
            try:
                while said := await generation.take():
                    for choice, event in said:
                        if (message := writer.message(choice, event)) is not None:
                            yield message
            finally:
                generation.close()


def _chat_prompt(request: pb.ChatRequest, ask: Ask) -> ReadPrompt:
    messages = convert.to_messages(request.messages)
    use = convert.to_tool_use(request, ask)
    reasoning = convert.to_reasoning(request.reasoning)
    kwargs = convert.to_mapping(request.chat_template_kwargs)

    def read(facts: ModelFacts) -> Prompt:
        form = facts.format
        chat = form.render(messages, tools=use.shown, kwargs=kwargs, reasoning=reasoning, limit=facts.context_length)
        answer = form.answer(chat, use=use, constraint=ask.constraint, reasoning=reasoning, kwargs=kwargs)
        return Prompt(chat.ids, answer=answer, boundaries=boundaries(chat.ids, form.stop_ids))

    return read


def _text_prompt(request: pb.GenerateRequest, ask: Ask) -> ReadPrompt:
    _check_prompt(request)

    def read(facts: ModelFacts) -> Prompt:
        limit = facts.context_length
        grammar = of_constraint(ask.constraint, facts.tokenizer) if ask.constraint else None
        answer = AnswerForm(grammar=grammar)
        if request.WhichOneof("prompt") == "text":
            ids = facts.tokenizer.encode(request.text, add_special=True, limit=limit)
            if not ids:
                raise InvalidField("text", "must have at least one token")
            return Prompt(ids, text=request.text if ask.output.echo else "", answer=answer)
        if (count := len(request.token_ids.ids)) > limit:
            raise ContextTooLong(limit, count)
        ids = list(request.token_ids.ids)
        check_tokens("token_ids.ids", ids, facts.loaded.vocab_size)
        text = facts.tokenizer.decode(ids, skip_special=True) if ask.output.echo else ""
        return Prompt(ids, text=text, answer=answer)

    return read


def _check_tokens(ask: Ask, facts: ModelFacts) -> None:
    """Refuse token ids outside the model's vocabulary."""
    with under("sampling"):
        ask.sampling.check_tokens(facts.loaded.vocab_size)
    with under("stopping"):
        ask.stopping.check_tokens(facts.loaded.vocab_size)


def _check_prompt(request: pb.GenerateRequest) -> None:
    match request.WhichOneof("prompt"):
        case "text" if not request.text:
            raise InvalidField("text", "must not be empty")
        case "token_ids" if not request.token_ids.ids:
            raise InvalidField("token_ids", "must not be empty")
        case None:
            raise InvalidField("prompt", "must be given, as text or as token_ids")
        case _:
            pass
