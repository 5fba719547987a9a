"""GET /v1/models."""

import grpc
import httpx
import openai
import pytest

from tests.shim.fakes import Failure, FakeService


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
