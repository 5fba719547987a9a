"""LoraService: the LoRAs of the models."""

import re
from typing import Any

from grpc import aio

from mlx_grpc.v1 import loras_pb2 as pb
from mlx_grpc.v1 import loras_pb2_grpc as pb_grpc
from service.config import ServiceConfig
from service.errors import InvalidField
from service.pool.allowed import allowed_path
from service.pool.loras import Lora, LoraState
from service.pool.pool import ModelPool

Context = aio.ServicerContext[Any, Any]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class LoraServicer(pb_grpc.LoraServiceServicer):
    """Puts LoRAs on the models of a pool, and takes them off."""

    def __init__(self, config: ServiceConfig, pool: ModelPool) -> None:
        self._folders = config.model_folders
        self._pool = pool

    async def ListLoras(self, request: pb.ListLorasRequest, context: Context) -> pb.ListLorasResponse:  # noqa: ARG002, N802
        """See loras.proto."""
        models = [self._pool.get(request.model)] if request.model else self._pool.models
        return pb.ListLorasResponse(loras=[_describe(model.name, lora) for model in models for lora in model.loras.all])

    async def LoadLora(self, request: pb.LoadLoraRequest, context: Context) -> pb.LoadLoraResponse:  # noqa: ARG002, N802
        """See loras.proto."""
        if not _NAME.fullmatch(request.name):
            raise InvalidField("name", "must have 1 to 64 letters, digits, underscores, hyphens and dots")
        if not request.path:
            raise InvalidField("path", "must not be empty")
        path = allowed_path(request.path, self._folders)
        with self._pool.enter(request.model) as lease:
            await lease.ready()
            lora = await lease.model.loras.load(request.name, str(path))
            return pb.LoadLoraResponse(lora=_describe(lease.model.name, lora))

    async def UnloadLora(self, request: pb.UnloadLoraRequest, context: Context) -> pb.UnloadLoraResponse:  # noqa: ARG002, N802
        """See loras.proto."""
        await self._pool.get(request.model).loras.unload(request.name)
        return pb.UnloadLoraResponse()


def _describe(model: str, lora: Lora) -> pb.Lora:
    return pb.Lora(
        name=lora.name,
        model=model,
        path=lora.path,
        rank=lora.rank,
        bytes=lora.bytes,
        in_use=lora.in_use,
        draining=lora.state is LoraState.DRAINING,
        error=lora.error,
    )
