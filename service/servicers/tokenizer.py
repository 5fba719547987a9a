"""TokenizerService: a model's own tokenizer and chat template."""

from typing import Any

from grpc import aio

from mlx_grpc.v1 import tokenizer_pb2 as pb
from mlx_grpc.v1 import tokenizer_pb2_grpc as pb_grpc
from service.pool.facts import ModelFacts
from service.pool.pool import ModelPool
from service.servicers import convert
from service.servicers.aside import aside
from service.types import MAX_DETOKENIZED, check_count, check_tokens

Context = aio.ServicerContext[Any, Any]


class TokenizerServicer(pb_grpc.TokenizerServiceServicer):
    """Tokenizes for the models of a pool."""

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool

    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:  # noqa: ARG002, N802
        """See tokenizer.proto."""
        facts = await self._facts(request.model)
        encode = facts.tokenizer.encode
        ids = await aside(request, lambda: encode(request.text, add_special=request.add_special))
        return pb.TokenizeResponse(ids=ids)

    async def Detokenize(self, request: pb.DetokenizeRequest, context: Context) -> pb.DetokenizeResponse:  # noqa: ARG002, N802
        """See tokenizer.proto."""
        facts = await self._facts(request.model)
        check_count("ids", len(request.ids), MAX_DETOKENIZED)
        check_tokens("ids", request.ids, facts.loaded.vocab_size)
        text = await aside(request, lambda: facts.tokenizer.decode(request.ids, skip_special=False))
        return pb.DetokenizeResponse(text=text)

    async def RenderChat(self, request: pb.RenderChatRequest, context: Context) -> pb.RenderChatResponse:  # noqa: ARG002, N802
        """See tokenizer.proto."""
        messages = convert.to_messages(request.messages)
        tools = convert.to_tools(request.tools, request.tool_choice).shown
        reasoning = convert.to_reasoning(request.reasoning)
        kwargs = convert.to_mapping(request.chat_template_kwargs)
        facts = await self._facts(request.model)
        render = facts.format.render
        chat = await aside(request, lambda: render(messages, tools=tools, kwargs=kwargs, reasoning=reasoning))
        return pb.RenderChatResponse(text=chat.text, ids=chat.ids)

    async def _facts(self, model: str) -> ModelFacts:
        """What is known of a model, which is loaded if it has to be."""
        with self._pool.enter(model) as lease:
            return await lease.ready()
