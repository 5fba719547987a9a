"""AdminService: what the server is, how it is set up, and what operators do to it."""

import asyncio
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from google.protobuf.duration_pb2 import Duration
from grpc import aio

from mlx_grpc.v1 import admin_pb2 as pb
from mlx_grpc.v1 import admin_pb2_grpc as pb_grpc
from service.config import ServiceConfig
from service.pool.pool import ModelPool
from service.servicers.drain import Drain

Context = aio.ServicerContext[Any, Any]


class AdminServicer(pb_grpc.AdminServiceServicer):
    """Looks after the server. `addresses` are those that it listens on, with their real ports."""

    def __init__(self, config: ServiceConfig, pool: ModelPool, drain: Drain, addresses: Sequence[str]) -> None:
        self._config = config
        self._pool = pool
        self._drain = drain
        self._addresses = addresses
        self._started = time.monotonic()

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, context: Context) -> pb.GetServerInfoResponse:  # noqa: ARG002, N802
        """See admin.proto."""
        uptime = Duration()
        uptime.FromNanoseconds(int((time.monotonic() - self._started) * 1e9))
        budget = self._pool.budget
        engine = self._pool.hello
        return pb.GetServerInfoResponse(
            version=version("mlx-grpc"),
            mlx_version=engine.mlx_version if engine else "",
            mlx_lm_version=engine.mlx_lm_version if engine else "",
            device=engine.device if engine else "",
            uptime=uptime,
            draining=self._drain.begun,
            models=[model.name for model in self._pool.models],
            addresses=self._addresses,
            max_running=self._config.max_running,
            max_queued=self._config.max_queued,
            max_request_bytes=self._config.max_request_bytes,
            memory_bytes=budget.total,
            memory_reserved_bytes=budget.total - budget.free,
        )

    async def ClearCache(self, request: pb.ClearCacheRequest, context: Context) -> pb.ClearCacheResponse:  # noqa: ARG002, N802
        """See admin.proto."""
        models = [self._pool.get(request.model)] if request.model else self._pool.models
        cleared = await asyncio.gather(*(model.clear_cache() for model in models))
        return pb.ClearCacheResponse(
            entries=sum(each.entries for each in cleared), bytes=sum(each.bytes for each in cleared)
        )
