"""ModelService: what the pool holds."""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from mlx_grpc.v1 import models_pb2 as pb
from mlx_grpc.v1 import models_pb2_grpc as pb_grpc
from service.pool.model import Model, ModelState
from service.pool.pool import ModelPool

Context = aio.ServicerContext[Any, Any]


class ModelServicer(pb_grpc.ModelServiceServicer):
    """Describes the models of a pool."""

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: ARG002, N802
        """See models.proto."""
        return pb.ListModelsResponse(models=[_describe(model) for model in self._pool.models])

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:  # noqa: ARG002, N802
        """See models.proto."""
        return pb.GetModelResponse(model=_describe(self._pool.get(request.name)))


def _describe(model: Model) -> pb.Model:
    silent = model.state is ModelState.READY and not model.is_serving
    state = ModelState.LOADING if silent else model.state
    message = pb.Model(
        name=model.name,
        source=model.config.source,
        state=pb.ModelState.Value(f"MODEL_STATE_{state.value}"),
        error="its engine does not answer" if silent else model.error,
    )
    if (facts := model.facts) is not None:
        loaded = facts.loaded
        message.model_type = loaded.model_type
        message.adapter = facts.format.adapter.name
        message.context_length = facts.context_length
        message.vocab_size = loaded.vocab_size
        message.weights_bytes = loaded.weights_bytes
        message.kv_tokens = loaded.kv_tokens
        message.kv_bytes = loaded.kv_bytes
        message.stop_token_ids.extend(sorted(facts.format.stop_ids))
        message.has_chat_template = facts.format.template is not None
        message.has_reasoning = facts.format.markup is not None
        created = Timestamp()
        created.FromDatetime(datetime.fromtimestamp(int(loaded.created), UTC))
        message.created.CopyFrom(created)
    return message
