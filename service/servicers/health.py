"""grpc.health.v1: whether the server and each model take calls.

Not the library's servicer: there a second watcher of a name hears nothing more once the first one has left, and one
that does not read holds up every change.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as pb_grpc

Context = aio.ServicerContext[Any, Any]

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["Health"].full_name

_Response = pb.HealthCheckResponse


class HealthServicer(pb_grpc.HealthServicer):  # type: ignore[misc] # the library has no types
    """Answers with what it was last told."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {}
        self._changed = asyncio.Event()

    def update(self, serving: Mapping[str, bool]) -> None:
        """Take the state of all names that there are; those that watch hear of it."""
        self._serving = dict(serving)
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: pb.HealthCheckRequest, context: Context) -> pb.HealthCheckResponse:  # noqa: N802 - the wire's name
        """See grpc.health.v1. NOT_FOUND for a name that there is not."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service!r}")
        return _Response(status=self._status(request.service))

    async def Watch(  # noqa: N802 - the wire's name
        self,
        request: pb.HealthCheckRequest,
        context: Context,  # noqa: ARG002 - the wire's signature
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        """See grpc.health.v1. A name that is not known yet may become so."""
        last = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != last:
                yield _Response(status=status)
                last = status
            await changed.wait()

    def _status(self, name: str) -> int:
        match self._serving.get(name):
            case True:
                return int(_Response.SERVING)
            case False:
                return int(_Response.NOT_SERVING)
            case None:
                return int(_Response.SERVICE_UNKNOWN)
