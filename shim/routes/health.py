"""GET /health."""

import asyncio
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from grpc import StatusCode, aio
from pydantic import BaseModel

from mlx_grpc.v1.admin_pb2 import GetServerInfoRequest
from mlx_grpc.v1.models_pb2 import MODEL_STATE_READY, MODEL_STATE_UNLOADED, ListModelsRequest, ModelState
from shim.client import Replica
from shim.context import Context
from shim.openapi import Error

_DEADLINE_S = 1.5
_OK = "ok"
# A model that is not in memory is loaded when it is asked for.
_SERVING = {MODEL_STATE_READY, MODEL_STATE_UNLOADED}


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
    async def health() -> JSONResponse:
        """Answer 200 where a replica takes requests, else 503 with the state of each."""
        replicas = context.replicas.all
        states = await asyncio.gather(*map(_state, replicas))
        if _OK in states:
            return JSONResponse({"status": "ok"})
        reasons = {replica.target: state for replica, state in zip(replicas, states, strict=True)}
        return JSONResponse({"status": "unavailable", "replicas": reasons}, 503)

    return routes


async def _state(replica: Replica) -> str:
    try:
        info = await replica.admin.GetServerInfo(GetServerInfoRequest(), timeout=_DEADLINE_S)
        models = (await replica.models.ListModels(ListModelsRequest(), timeout=_DEADLINE_S)).models
    except aio.AioRpcError as error:
        return "does not answer in time" if error.code() is StatusCode.DEADLINE_EXCEEDED else "cannot be reached"
    if info.draining:
        return "draining"
    if any(model.state in _SERVING for model in models):
        return _OK
    states = [f"{model.name} {ModelState.Name(model.state).removeprefix('MODEL_STATE_').lower()}" for model in models]
    return f"no model is ready: {', '.join(states) or 'none configured'}"
