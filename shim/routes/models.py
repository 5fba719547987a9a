"""GET /v1/models and /v1/models/{id}."""

from typing import Literal

from fastapi import APIRouter
from grpc import aio
from pydantic import BaseModel

from mlx_grpc.v1 import models_pb2 as wire
from shim.context import Context
from shim.errors import ApiError, from_grpc
from shim.params import Params

_DEADLINE_S = 10.0
_PARAMS = Params("prompt", {"name": "model"})


class Model(BaseModel):
    """OpenAI's model object; `created` is in seconds since 1970."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "mlx-grpc"


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]


def router(context: Context) -> APIRouter:
    """Make the routes of models."""
    routes = APIRouter()

    @routes.get("/v1/models")
    async def list_models() -> ModelList:
        """Tell the models of the service, the default one first."""
        try:
            answer = await context.replicas.ask(
                lambda replica: replica.models.ListModels(wire.ListModelsRequest(), timeout=_DEADLINE_S)
            )
        except aio.AioRpcError as error:
            raise from_grpc(error, _PARAMS) from error
        return ModelList(data=[_model(model) for model in answer.models])

    # A path, since ids may hold slashes.
    @routes.get("/v1/models/{model:path}")
    async def get_model(model: str) -> Model:
        """Tell one model."""
        if not model:  # the service would take that for the default one
            raise ApiError(404, "a model's id is needed", param="model", code="model_not_found")
        try:
            answer = await context.replicas.ask(
                lambda replica: replica.models.GetModel(wire.GetModelRequest(name=model), timeout=_DEADLINE_S)
            )
        except aio.AioRpcError as error:
            raise from_grpc(error, _PARAMS) from error
        return _model(answer.model)

    return routes


def _model(model: wire.Model) -> Model:
    return Model(id=model.name, created=model.created.seconds)
