"""GET /health."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from grpc import StatusCode, aio
from pydantic import BaseModel

from mlx_grpc.v1 import models_pb2 as wire
from mlx_grpc.v1.admin_pb2 import GetServerInfoRequest
from shim.context import Context
from shim.logs import record_of
from shim.openapi import Error
from shim.replica import Replica

_DEADLINE_S = 1.5
_OK = "ok"
# A model that is not in memory is loaded when it is asked for, and requests wait for one that is on its way.
_SERVING = {
    wire.MODEL_STATE_READY,
    wire.MODEL_STATE_UNLOADED,
    wire.MODEL_STATE_DOWNLOADING,
    wire.MODEL_STATE_LOADING,
    wire.MODEL_STATE_WARMING,
}


class Healthy(BaseModel):
    """A replica takes requests."""

    status: Literal["ok"]


class Unhealthy(BaseModel):
    """None does; `replicas` tells why, by address."""

    status: Literal["unavailable"]
    replicas: dict[str, str]


def router(context: Context) -> APIRouter:
    """Make the route of the health check."""
    routes = APIRouter()

    @routes.get("/health", response_model=Healthy, responses={503: {"model": Unhealthy | Error}})
    async def health(http: Request) -> JSONResponse:
        """Answer 200 where a replica takes requests for at least one model, else 503 with the state of each.

        A model counts that is in memory, or comes when it is asked for, unless the service tells an error of it:
        one that has failed, could not be loaded, is started again or does not answer has one. A model that is
        being unloaded does not count.
        """
        replicas = context.replicas.all
        states = await asyncio.gather(*map(_state, replicas))
        if _OK in states:
            record_of(http).routine = True
            return JSONResponse({"status": "ok"})
        reasons = {replica.target: state for replica, state in zip(replicas, states, strict=True)}
        return JSONResponse({"status": "unavailable", "replicas": reasons}, 503)

    return routes


async def _state(replica: Replica) -> str:
    try:
        info = await replica.admin.GetServerInfo(GetServerInfoRequest(), timeout=_DEADLINE_S)
        models = (await replica.models.ListModels(wire.ListModelsRequest(), timeout=_DEADLINE_S)).models
    except aio.AioRpcError as error:
        return "does not answer in time" if error.code() is StatusCode.DEADLINE_EXCEEDED else "cannot be reached"
    if info.draining:
        return "draining"
    if any(model.state in _SERVING and not model.error for model in models):
        return _OK
    return f"no model takes requests: {', '.join(map(_words, models)) or 'none configured'}"


def _words(model: wire.Model) -> str:
    return f"{model.name} {wire.ModelState.Name(model.state).removeprefix('MODEL_STATE_').lower()}"
