"""GET /health."""

from collections.abc import MutableMapping
from typing import Any

import httpx
import pytest

from mlx_grpc.v1 import models_pb2 as wire
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
    service.models = [wire.Model(name="tiny", state=wire.MODEL_STATE_FAILED)]
    response = await http.get("/health")
    assert response.status_code == 503
    assert "tiny failed" in response.text


@pytest.mark.parametrize(
    ("state", "error", "status"),
    [
        (wire.MODEL_STATE_READY, "", 200),
        (wire.MODEL_STATE_UNLOADED, "", 200),
        (wire.MODEL_STATE_DOWNLOADING, "", 200),
        (wire.MODEL_STATE_LOADING, "", 200),
        (wire.MODEL_STATE_WARMING, "", 200),
        (wire.MODEL_STATE_DRAINING, "", 503),
        (wire.MODEL_STATE_FAILED, "its files are broken", 503),
        (wire.MODEL_STATE_UNLOADED, "it can never fit", 503),
        (wire.MODEL_STATE_LOADING, "its engine does not answer", 503),
        (wire.MODEL_STATE_WARMING, "its engine ended", 503),
    ],
)
async def test_a_model_counts_that_answers_who_asks_for_it(
    http: httpx.AsyncClient, service: FakeService, state: "wire.ModelState.ValueType", error: str, status: int
) -> None:
    """One that is there or would come, but none that has a reason not to; one such model is enough."""
    model = wire.Model(name="tiny", state=state, error=error)
    service.models = [model]
    assert (await http.get("/health")).status_code == status
    service.models = [wire.Model(name="broken", state=wire.MODEL_STATE_FAILED, error="x"), model]
    assert (await http.get("/health")).status_code == status


async def test_a_service_without_models_is_not_healthy(http: httpx.AsyncClient, service: FakeService) -> None:
    """There is nothing to ask it for."""
    service.models = []
    response = await http.get("/health")
    assert (response.status_code, "none configured" in response.text) == (503, True)


async def test_only_bad_health_is_logged_for_all(
    http: httpx.AsyncClient, service: FakeService, logged: list[MutableMapping[str, Any]]
) -> None:
    """Those who ask do so all the time, and what they hear is of interest once it is bad."""
    await http.get("/health")
    service.draining = True
    await http.get("/health")
    assert [(entry["status"], entry["log_level"]) for entry in logged] == [(200, "debug"), (503, "info")]


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
