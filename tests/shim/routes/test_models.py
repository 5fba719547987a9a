"""GET /v1/models."""

import grpc
import httpx
import openai
import pytest

from mlx_grpc.v1 import models_pb2
from tests.shim.fakes import Failure, FakeService

TINY = {
    "id": "tiny", "object": "model", "created": 1700000000, "owned_by": "mlx-grpc", "root": "tiny", "parent": None,
}  # fmt: skip


async def test_the_sdk_lists_the_models(sdk: openai.AsyncOpenAI) -> None:
    """The official SDK reads the list, in the service's order."""
    models = (await sdk.models.list()).data
    assert [(model.id, model.object, model.created) for model in models] == [
        ("tiny", "model", 1700000000),
        ("org/big", "model", 0),
    ]
    assert models[0].owned_by


@pytest.mark.parametrize("path", ["org/big", "org%2Fbig"])
async def test_an_id_may_hold_slashes(http: httpx.AsyncClient, path: str) -> None:
    """A model whose id is a repository's name can be asked for, escaped or not."""
    assert (await http.get(f"/v1/models/{path}")).json()["id"] == "org/big"


async def test_a_model_that_is_not_in_memory_is_listed(http: httpx.AsyncClient, service: FakeService) -> None:
    """It is served to who asks for it; a model is its own root and has no parent."""
    service.models = [models_pb2.Model(name="tiny", state=models_pb2.MODEL_STATE_UNLOADED)]
    assert (await http.get("/v1/models")).json() == {"object": "list", "data": [TINY | {"created": 0}]}


async def test_loras_follow_their_model(sdk: openai.AsyncOpenAI, service: FakeService) -> None:
    """Each as `base:lora`, with the model as its parent and root, in the list and by itself."""
    service.models[0].loras.extend(["pirate", "poet"])
    models = (await sdk.models.list()).data
    assert [model.id for model in models] == ["tiny", "tiny:pirate", "tiny:poet", "org/big"]
    assert models[0].to_dict() == TINY
    assert models[1].to_dict() == TINY | {"id": "tiny:pirate", "parent": "tiny"}
    for model in models:
        assert await sdk.models.retrieve(model.id) == model


async def test_a_lora_is_hidden_by_a_model_of_its_name(http: httpx.AsyncClient, service: FakeService) -> None:
    """Who asks for the name gets the model, so it is listed once."""
    service.models[0].loras.append("pirate")
    service.models.append(models_pb2.Model(name="tiny:pirate"))
    listed = (await http.get("/v1/models")).json()["data"]
    assert [model["id"] for model in listed] == ["tiny", "org/big", "tiny:pirate"]
    one = (await http.get("/v1/models/tiny:pirate")).json()
    assert one == listed[2]
    assert one["parent"] is None


@pytest.mark.parametrize("name", ["tiny:nobody", "nobody:pirate", ":pirate", "tiny:", "tiny:pirate:"])
async def test_an_unknown_lora_is_404(http: httpx.AsyncClient, service: FakeService, name: str) -> None:
    """It has the code of an unknown model."""
    service.models[0].loras.append("pirate")
    response = await http.get(f"/v1/models/{name}")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


async def test_an_unknown_model_is_404(http: httpx.AsyncClient) -> None:
    """An id that the service does not know has OpenAI's code."""
    response = await http.get("/v1/models/none")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


async def test_no_id_is_404(http: httpx.AsyncClient) -> None:
    """It is not the default model, which is what the service would take it for."""
    response = await http.get("/v1/models/")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


async def test_a_failed_list_is_mapped(http: httpx.AsyncClient, service: FakeService) -> None:
    """Errors of the service are mapped here as everywhere."""
    service.failure = Failure(grpc.StatusCode.UNAVAILABLE)
    assert (await http.get("/v1/models")).status_code == 503
