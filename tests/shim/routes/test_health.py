"""GET /health."""

import httpx

from mlx_grpc.v1.models_pb2 import MODEL_STATE_FAILED, Model
from shim.config import Config
from tests.shim.fakes import FakeService, Shim, free_port, running_shim


async def test_health_is_ok_with_a_ready_model(http: httpx.AsyncClient) -> None:
    """One model that takes requests is enough."""
    response = await http.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_health_tells_a_draining_service(http: httpx.AsyncClient, service: FakeService) -> None:
    """A service that takes nothing new is not healthy, and the body says why."""
    service.draining = True
    response = await http.get("/health")
    assert (response.status_code, response.json()["replicas"]) == (503, {service.address: "draining"})


async def test_health_tells_that_no_model_is_ready(http: httpx.AsyncClient, service: FakeService) -> None:
    """A service without a model that works is not healthy."""
    service.models = [Model(name="tiny", state=MODEL_STATE_FAILED)]
    response = await http.get("/health")
    assert response.status_code == 503
    assert "tiny failed" in response.text


async def test_health_follows_a_replica_that_works(service: FakeService) -> None:
    """One of several replicas is enough; none is 503."""
    dead = f"127.0.0.1:{free_port()}"
    for targets, status in (((dead, service.address), 200), ((dead,), 503)):
        async with running_shim(Config(service=targets)) as shim, httpx.AsyncClient() as client:
            assert (await client.get(f"{shim.url}/health")).status_code == status


async def test_health_of_a_draining_shim_is_503(http: httpx.AsyncClient, shim: Shim) -> None:
    """A shim that shuts down tells it here too."""
    shim.drain()
    assert (await http.get("/health")).status_code == 503
