"""GenerationService: prompts and conversations in, streams of events out."""

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from grpc import aio

from mlx_grpc.v1 import generation_pb2 as pb
from mlx_grpc.v1 import generation_pb2_grpc as pb_grpc
from service.errors import ContextTooLong, InvalidField, under
from service.pool.facts import ModelFacts
from service.pool.generation import Generation
from service.pool.pool import ModelPool
from service.servicers import convert
from service.servicers.aside import aside
from service.servicers.drain import Drain
from service.servicers.events import Response, to_response
from service.servicers.request_log import logged
from service.text.parser import Parser
from service.types import Ask, check_tokens

Context = aio.ServicerContext[Any, Any]


class GenerationServicer(pb_grpc.GenerationServiceServicer):
    """Serves both generating calls over the models of a pool."""

    def __init__(self, pool: ModelPool, drain: Drain) -> None:
        self._pool = pool
        self._drain = drain

    def Chat(self, request: pb.ChatRequest, context: Context) -> AsyncIterator[pb.ChatResponse]:  # noqa: N802 - the wire's name
        """See generation.proto."""
        return self._answer(request, context, pb.ChatResponse, self._start_chat)

    def Generate(self, request: pb.GenerateRequest, context: Context) -> AsyncIterator[pb.GenerateResponse]:  # noqa: N802
        """See generation.proto."""
        return self._answer(request, context, pb.GenerateResponse, self._start_text)

    async def _answer(
        self,
        request: Any,
        context: Context,
        response: type[Response],
        start: Callable[[Any, Ask], Awaitable[Generation]],
    ) -> AsyncIterator[Response]:
        """The life of a generating call."""
        # Named before anything can fail, so that the log and a bug's status agree on the names.
        request.request_id = request.request_id or uuid.uuid4().hex
        request.model = request.model or self._pool.models[0].name
        with logged(request) as entry, self._drain.admitted():
            ask = convert.to_ask(request)
            entry.generation = generation = await start(request, ask)
            # A call can end while its handler is blocked in a write, where no exception may reach it for long.
            context.add_done_callback(lambda _: generation.close())  # type: ignore[arg-type] # the stubs want a class
            try:
                while events := await generation.take():
                    for event in events:
                        if (message := to_response(event, ask, response)) is not None:
                            yield message
            finally:
                generation.close()

    async def _start_chat(self, request: pb.ChatRequest, ask: Ask) -> Generation:
        arrived = time.monotonic()
        messages = convert.to_messages(request.messages)
        model = self._pool.get(ask.model)
        facts = await model.ready()
        _check_tokens(ask, facts)
        kwargs = convert.to_mapping(request.chat_template_kwargs)
        chat = await aside(request, lambda: facts.format.render(messages, kwargs=kwargs, limit=facts.context_length))
        parser = Parser(facts.tokenizer, ask.stopping, facts.format.markup, reasoning_open=chat.reasoning_open)
        return Generation(model, facts, chat.ids, parser, ask.sampling, ask.stopping, arrived=arrived)

    async def _start_text(self, request: pb.GenerateRequest, ask: Ask) -> Generation:
        arrived = time.monotonic()
        _check_prompt(request)
        model = self._pool.get(ask.model)
        facts = await model.ready()
        _check_tokens(ask, facts)
        prompt, text = await aside(request, lambda: _prompt(request, facts))
        parser = Parser(facts.tokenizer, ask.stopping)
        echo = text if ask.echo else ""
        return Generation(model, facts, prompt, parser, ask.sampling, ask.stopping, echo=echo, arrived=arrived)


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


def _prompt(request: pb.GenerateRequest, facts: ModelFacts) -> tuple[list[int], str]:
    """The prompt as token ids and as text."""
    if request.WhichOneof("prompt") == "text":
        return facts.tokenizer.encode(request.text, add_special=True, limit=facts.context_length), request.text
    if (count := len(request.token_ids.ids)) > facts.context_length:
        raise ContextTooLong(facts.context_length, count)
    ids = list(request.token_ids.ids)
    check_tokens("token_ids.ids", ids, facts.loaded.vocab_size)
    return ids, facts.tokenizer.decode(ids, skip_special=True)
