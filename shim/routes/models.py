"""GET /v1/models and /v1/models/{id}."""

from collections.abc import Iterator
from typing import Literal

from fastapi import APIRouter
from grpc import StatusCode, aio
from pydantic import BaseModel

from mlx_grpc.v1 import models_pb2 as wire
from shim.client import Replicas
from shim.context import Context
from shim.errors import ApiError, from_grpc
from shim.names import SEPARATOR, split_name
from shim.params import Params

_DEADLINE_S = 10.0
_PARAMS = Params("prompt", {"name": "model"})


class Model(BaseModel):
    """OpenAI's model object; `created` is in seconds since 1970, 0 where it is not known.

    A LoRA of a model is one too, with that model as its `parent`.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "mlx-grpc"
    root: str
    """The model whose weights it has."""
    parent: str | None = None


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]


def router(context: Context) -> APIRouter:
    """Make the routes of models."""
    routes = APIRouter()

    @routes.get("/v1/models")
    async def list_models() -> ModelList:
        """Tell the models of the service, in memory or not, each with its LoRAs, and the default one first."""
        try:
            models = (await context.replicas.list_models()).models
        except aio.AioRpcError as error:
            raise from_grpc(error, _PARAMS) from error
        aliases = {model.name for model in models}
        loras = {model.name: [lora for lora in _loras(model) if lora.id not in aliases] for model in models}
        return ModelList(data=[each for model in models for each in (_model(model), *loras[model.name])])

    # A path, since ids may hold slashes.
    @routes.get("/v1/models/{model:path}")
    async def get_model(model: str) -> Model:
        """Tell one model, or one LoRA."""
        if not model:  # the service would take that for the default one
            raise ApiError(404, "a model's id is needed", param="model", code="model_not_found")
        try:
            return await _find(context.replicas, model)
        except aio.AioRpcError as error:
            raise from_grpc(error, _PARAMS) from error

    return routes


async def _find(replicas: Replicas, name: str) -> Model:
    try:
        return _model(await _get(replicas, name))
    except aio.AioRpcError as error:
        named = split_name(name)
        if error.code() is not StatusCode.NOT_FOUND or named is None:
            raise
        for lora in _loras(await _get(replicas, named.model)):
            if lora.id == name:
                return lora
        raise


async def _get(replicas: Replicas, name: str) -> wire.Model:
    answer = await replicas.ask(
        lambda replica: replica.models.GetModel(wire.GetModelRequest(name=name), timeout=_DEADLINE_S)
    )
    return answer.model


def _model(model: wire.Model) -> Model:
    return Model(id=model.name, created=model.created.seconds, root=model.name)


def _loras(model: wire.Model) -> Iterator[Model]:
    for name in model.loras:
        joined = f"{model.name}{SEPARATOR}{name}"
        yield Model(id=joined, created=model.created.seconds, root=model.name, parent=model.name)
