"""More models than fit into the memory, as callers see it: over gRPC, from a shell and over HTTP."""

import asyncio
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mlx_grpc.v1 import models_pb2 as pb
from tests import pooled
from tests.calls import (
    Answer,
    Call,
    Request,
    answer,
    call,
    chat_request,
    first_text,
    refusal,
    refused,
    server_info,
    text_request,
)
from tests.e2e.conftest import shim_over
from tests.e2e.test_readme import documents
from tests.pooled import LOAD_S, TWO, Operator, engines, short, write_config
from tests.processes import ServiceProcess

GRPCURL = shutil.which("grpcurl", path=str(Path(sys.executable).parent)) or shutil.which("grpcurl")
NAMES = "abc"
FEW = {"maxTokens": 4, "ignoreEos": True}
LONG = {"maxTokens": 1500, "ignoreEos": True}
"""Stopping of a request that runs long enough for something to be done meanwhile."""
TOLD = {"progress": True}
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def service(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Run a service that loads its models for requests, two at a time; without a spare, so that this can be seen."""
    folder = tmp_path_factory.mktemp("pool")
    models = {name: pooled.tiny(tiny_model) for name in NAMES}
    models |= {"huge": pooled.tiny(tiny_model, kv_cache_bytes=1 << 40), "broken": {"path": str(folder / "nothing")}}
    config = write_config(
        folder / "service.toml",
        models,
        memory_bytes=TWO,
        model_folders=[str(tiny_model.parent)],
        spare="never",
        cache_dir=str(folder / "cache"),
    )
    with ServiceProcess(["--config", str(config)]) as process:
        yield process


@pytest.fixture
async def channel(service: ServiceProcess) -> AsyncIterator[aio.Channel]:
    """Open a channel to it; afterwards nothing is left in its memory, and no process."""
    async with aio.insecure_channel(service.address) as channel:
        yield channel
        await Operator(channel).reset()
        assert (await server_info(channel)).memory_reserved_bytes == 0
        assert engines(service) == []


@pytest.fixture
def pool(channel: aio.Channel) -> Operator:
    """Look after its models."""
    return Operator(channel)


@pytest.fixture(scope="module")
def shim_url(service: ServiceProcess) -> Iterator[str]:
    """Run a shim over it."""
    with shim_over(service) as url:
        yield url


@pytest.fixture
async def http(shim_url: str, channel: aio.Channel) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client of that shim."""
    async with httpx.AsyncClient(base_url=shim_url, timeout=LOAD_S) as client:
        yield client


def requests(model: str, **fields: Any) -> list[Request]:
    """Make a request of each kind."""
    return [text_request("The sky", model=model, **fields), chat_request("Hello?", model=model, **fields)]


def stages(result: Answer) -> list[str]:
    """The states of the model that a call waited for, without repetitions."""
    states = (short(event.loading.state) for event in result.events if event.HasField("loading"))
    return [state for state, _ in itertools.groupby(states)]


async def ended(running: Call) -> Any:
    """Read a call that fails to its end."""
    with pytest.raises(aio.AioRpcError) as raised:
        _ = [event async for event in running]
    return refusal(raised.value)


async def loading(pool: Operator, name: str) -> None:
    """Wait until a model is on its way."""
    await pool.until(name, lambda model: model.state in {pb.MODEL_STATE_DOWNLOADING, pb.MODEL_STATE_LOADING})


@pytest.mark.parametrize("number", [0, 1], ids=["generate", "chat"])
async def test_a_request_loads_its_model(channel: aio.Channel, pool: Operator, number: int) -> None:
    """With progress it is told how that goes, and only then that it has started; without, that is all it hears."""
    told = await answer(channel, requests("a", stopping=FEW, output=TOLD)[number])
    assert stages(told) == ["DOWNLOADING", "LOADING", "WARMING"]
    assert told.kinds[:2] == ["loading", "started"]
    assert told.kinds.count("loading") == 1
    quiet = await answer(channel, requests("b", stopping=FEW)[number])
    assert quiet.kinds == ["started", "text", "finish", "completed"]
    assert await pool.ready() == ["a", "b"]
    assert stages(await answer(channel, requests("b", stopping=FEW, output=TOLD)[number])) == []


async def test_all_wait_for_one_load(channel: aio.Channel, pool: Operator, service: ServiceProcess) -> None:
    """One that leaves and one whose time is up do not stop it; the others are all answered by one engine."""
    before = service.errors.count('"loading model"')
    waiting = [asyncio.create_task(answer(channel, text_request("Hi", model="a", stopping=FEW))) for _ in range(8)]
    leaver = call(channel, text_request("Hi", model="a", output=TOLD))
    await anext(aiter(leaver))
    leaver.cancel()
    late = await ended(call(channel, text_request("Hi", model="a"), timeout=0.05))
    assert late.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await pool.model("a")).state != pb.MODEL_STATE_READY
    texts = {result.text for result in await asyncio.gather(*waiting)}
    assert len(texts) == 1
    assert service.errors.count('"loading model"') == before + 1
    assert len(engines(service)) == 1


async def test_one_waits_while_the_others_are_in_use(channel: aio.Channel, pool: Operator) -> None:
    """It is told that it waits, and is loaded once one of them is free; what runs there is not touched."""
    running = [call(channel, text_request("Hi", model=name, stopping=LONG)) for name in "ab"]
    await asyncio.gather(*map(first_text, running))
    third = asyncio.create_task(answer(channel, text_request("Hi", model="c", stopping=FEW, output=TOLD)))
    await pool.until("c", lambda model: model.in_use == 1)
    for each in running:
        events = [event async for event in each]
        assert events[-1].completed.usage.completion_tokens == 1500
    assert stages(await third) == ["DOWNLOADING", "UNLOADED", "LOADING", "WARMING"]
    assert "c" in await pool.ready()


async def test_nobody_waits_for_one_that_is_unloaded_by_force(channel: aio.Channel, pool: Operator) -> None:
    """They are told to try again, and those who do find it loaded anew."""
    waiting = call(channel, text_request("Hi", model="a"))
    await loading(pool, "a")
    assert (await pool.unload("a", force=True)).state == pb.MODEL_STATE_UNLOADED
    cut = await ended(waiting)
    assert (cut.code, list(cut.details)) == (grpc.StatusCode.UNAVAILABLE, ["RetryInfo"])
    assert (await answer(channel, text_request("Hi", model="a", stopping=FEW))).usage.completion_tokens == 4


async def test_one_that_can_never_fit_is_refused(channel: aio.Channel, pool: Operator) -> None:
    """At once, with the figures, and the others keep their places."""
    await pool.load("a")
    for request in requests("huge"):
        refusal = await refused(answer(channel, request))
        assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "INSUFFICIENT_MEMORY")
        figures = {key: int(refusal.info.metadata[key]) for key in ("needed_bytes", "available_bytes")}
        assert figures["needed_bytes"] > 1 << 40 > figures["available_bytes"] == TWO
    assert await pool.ready() == ["a"]


async def test_one_that_has_failed_says_why_and_when_to_ask_again(channel: aio.Channel, pool: Operator) -> None:
    """To each request, without trying it again for each."""
    for _ in range(2):
        refusal = await refused(answer(channel, text_request("Hi", model="broken")))
        assert refusal.code == grpc.StatusCode.UNAVAILABLE
        assert "there is no folder" in refusal.message
        pause = refusal.details["RetryInfo"]
        assert isinstance(pause, error_details_pb2.RetryInfo)
        assert 0 < pause.retry_delay.ToSeconds() <= 60
    assert (await pool.model("broken")).state == pb.MODEL_STATE_FAILED


async def test_health_is_what_a_request_would_find(channel: aio.Channel, pool: Operator) -> None:
    """A model that is not loaded serves, since it would be; one that has failed does not, and the server still does."""
    stub: Any = health_pb2_grpc.HealthStub(channel)

    async def health(name: str) -> int:
        status: int = (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status
        return status

    assert await health("model/a") == SERVING
    waiting = asyncio.create_task(answer(channel, text_request("Hi", model="a", stopping=FEW)))
    await loading(pool, "a")
    assert await health("model/a") == SERVING
    await waiting
    assert await health("model/a") == SERVING
    await refused(pool.load("broken"))
    names = ("", "mlx_grpc.v1.GenerationService", "model/a", "model/broken")
    assert [await health(name) for name in names] == [SERVING, SERVING, SERVING, NOT_SERVING]
    await pool.unload("broken")
    assert await health("model/broken") == SERVING


async def grpcurl(service: ServiceProcess, rpc: str, message: dict[str, Any], *flags: str) -> tuple[int, list[Any]]:
    """Call ModelService from a shell; the exit code and what was printed."""
    assert GRPCURL is not None
    command = [GRPCURL, "-plaintext", *flags, "-d", json.dumps(message), service.address]
    process = await asyncio.create_subprocess_exec(
        *command, f"mlx_grpc.v1.ModelService/{rpc}", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), LOAD_S)
    assert process.returncode is not None
    return process.returncode, documents(output.decode())


@pytest.mark.skipif(GRPCURL is None, reason="there is no grpcurl for this machine")
async def test_models_are_operated_from_a_shell(
    channel: aio.Channel, service: ServiceProcess, tiny_model: Path
) -> None:
    """Planned, loaded, pinned, listed and unloaded, with names in place of numbers."""
    [planned] = (await grpcurl(service, "LoadModel", {"name": "a", "dryRun": True}))[1]
    assert (planned["plan"]["fits"], planned["plan"]["budgetBytes"]) == (True, str(TWO))
    code, told = await grpcurl(service, "LoadModel", {"name": "a", "pin": True})
    kinds = list(dict.fromkeys(key for event in told for key in event))
    assert (code, kinds) == (0, ["resolving", "loading", "warming", "ready"])
    ready = told[-1]["ready"]
    assert (ready["name"], ready["state"], ready["pinned"]) == ("a", "MODEL_STATE_READY", True)
    code, [unloaded] = await grpcurl(service, "UnloadModel", {"name": "a"})
    assert (code, unloaded["model"]["state"]) == (0, "MODEL_STATE_UNLOADED")
    code, [listed] = await grpcurl(service, "ListModels", {"onDisk": True})
    assert (code, [model["name"] for model in listed["models"]]) == (0, [*NAMES, "huge", "broken"])
    assert str(tiny_model) in [entry["source"] for entry in listed["onDisk"]]


@pytest.mark.skipif(GRPCURL is None, reason="there is no grpcurl for this machine")
async def test_models_are_watched_from_a_shell(pool: Operator, service: ServiceProcess) -> None:
    """As they are, then each change, until the time that is set is up."""
    watching = asyncio.create_task(grpcurl(service, "WatchModels", {}, "-max-time", "3"))
    while not watching.done():
        await pool.pin("a")
        await asyncio.wait([watching], timeout=0.1)
        await pool.unpin("a")
        await asyncio.wait([watching], timeout=0.1)
    code, told = await watching
    assert code == 64 + grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    models = [change["model"] for change in told]
    present, changes = models[: len(NAMES) + 2], models[len(NAMES) + 2 :]
    assert [model["name"] for model in present] == [*NAMES, "huge", "broken"]
    assert {model["state"] for model in present} == {"MODEL_STATE_UNLOADED"}
    assert {model["name"] for model in changes} == {"a"}
    pinned = [model.get("pinned", False) for model in changes]
    assert len(pinned) > 5
    assert pinned == [pinned[0] ^ bool(number % 2) for number in range(len(pinned))]


@pytest.mark.skipif(GRPCURL is None, reason="there is no grpcurl for this machine")
async def test_a_shell_is_told_what_is_wrong(channel: aio.Channel, service: ServiceProcess) -> None:
    """Each failure has an exit code of its own, that of its status."""
    for message, status in (
        ({"name": "nobody"}, grpc.StatusCode.NOT_FOUND),
        ({"name": "huge"}, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ({"name": "new", "source": "/etc"}, grpc.StatusCode.PERMISSION_DENIED),
        ({"name": "broken"}, grpc.StatusCode.UNAVAILABLE),
    ):
        code, printed = await grpcurl(service, "LoadModel", message)
        assert (code, [event for event in printed if "ready" in event]) == (64 + status.value[0], [])


def chat(model: str) -> dict[str, Any]:
    """Make the body of a chat completion."""
    return {"model": model, "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 4}


async def test_a_chat_completion_loads_its_model(http: httpx.AsyncClient, pool: Operator) -> None:
    """It is listed before, and the answer is the same as when it is loaded."""
    listed = [model["id"] for model in (await http.get("/v1/models")).json()["data"]]
    assert listed == [*NAMES, "huge", "broken"]
    assert (await http.get("/health")).status_code == 200
    assert await pool.ready() == []
    body = chat("b") | {"temperature": 0}
    first = (await http.post("/v1/chat/completions", json=body)).raise_for_status().json()
    assert await pool.ready() == ["b"]
    again = (await http.post("/v1/chat/completions", json=body)).raise_for_status().json()
    assert first["choices"] == again["choices"]
    async with http.stream("POST", "/v1/chat/completions", json=chat("c") | {"stream": True}) as response:
        assert response.status_code == 200
        lines = [line async for line in response.aiter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert await pool.ready() == ["b", "c"]


@pytest.mark.parametrize("stream", [False, True])
async def test_over_http_too_it_is_told_what_cannot_be_served(http: httpx.AsyncClient, stream: bool) -> None:
    """In words for a person: that a model does not fit, or why it has failed, and then when to ask again."""
    huge = await http.post("/v1/chat/completions", json=chat("huge") | {"stream": stream})
    error = huge.json()["error"]
    assert (huge.status_code, error["code"], "retry-after" in huge.headers) == (503, "insufficient_memory", False)
    assert "'huge'" in error["message"]
    assert str(TWO) in error["message"]
    broken = await http.post("/v1/chat/completions", json=chat("broken") | {"stream": stream})
    error = broken.json()["error"]
    assert (broken.status_code, error["type"]) == (503, "server_error")
    assert "there is no folder" in error["message"]
    assert 1 <= int(broken.headers["retry-after"]) <= 60


async def test_an_unload_by_force_ends_an_http_stream(http: httpx.AsyncClient, pool: Operator) -> None:
    """With an error event and no `[DONE]`."""
    body = chat("a") | {"stream": True, "max_tokens": 30_000, "ignore_eos": True}
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.aiter_lines()
        while not (await anext(lines)).startswith("data:"):
            pass
        await pool.unload("a", force=True)
        rest = [line async for line in lines if line.startswith("data:")]
    assert "error" in json.loads(rest[-1].removeprefix("data:"))
    assert "unloaded" in rest[-1]
