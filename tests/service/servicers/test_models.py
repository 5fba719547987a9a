"""ModelService over a real channel."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import aio

from mlx_grpc.v1 import models_pb2 as pb
from mlx_grpc.v1 import models_pb2_grpc
from tests import pooled, tiny
from tests.calls import (
    ENDLESS,
    Call,
    Refusal,
    answer,
    call,
    first_text,
    refusal,
    refused,
    server_info,
    started,
    text_request,
)
from tests.pooled import LOAD_S, MIB, TWO, Operator, engines, watching, write_config
from tests.processes import ServiceProcess

LONG_NAME = "long" * 5000
"""Of a model whose every change is a large message."""
COMING = ["DOWNLOADING", "LOADING", "WARMING", "READY"]
"""States of a model on its way into memory."""
LONG = {"maxTokens": 1500, "ignoreEos": True}
"""Stopping of a request that runs long enough for something to be done meanwhile."""


@pytest.fixture
def stub(channel: aio.Channel) -> Any:
    return models_pb2_grpc.ModelServiceStub(channel)


@pytest.fixture(scope="module")
def pool_service(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Run a service with more models than fit, none of which is loaded."""
    folder = tmp_path_factory.mktemp("pool")
    (folder / "own" / "empty").mkdir(parents=True)
    mine = pooled.tiny(tiny_model)
    models = dict.fromkeys(("a", "b", "c", LONG_NAME), mine)
    models |= {"huge": pooled.tiny(tiny_model, kv_cache_bytes=1 << 40), "broken": {"path": str(folder / "nothing")}}
    config = write_config(
        folder / "service.toml",
        models,
        memory_bytes=TWO,
        kv_cache_bytes=16 * MIB,
        model_folders=[str(tiny_model.parent), str(folder / "own")],
        cache_dir=str(folder / "cache"),
    )
    with ServiceProcess(["--config", str(config)]) as process:
        yield process


@pytest.fixture
async def pool_channel(pool_service: ServiceProcess) -> AsyncIterator[aio.Channel]:
    """Open a channel to it; afterwards nothing is left in its memory, and no process but a spare."""
    async with aio.insecure_channel(pool_service.address) as channel:
        yield channel
        await Operator(channel).reset()
        assert (await server_info(channel)).memory_reserved_bytes == 0
    async with asyncio.timeout(LOAD_S):
        while len(engines(pool_service)) > 1:  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.05)


@pytest.fixture
def pool(pool_channel: aio.Channel) -> Operator:
    """Look after its models."""
    return Operator(pool_channel)


async def test_models_are_listed_in_their_order(stub: Any) -> None:
    """The default one first, and each ready."""
    models = (await stub.ListModels(pb.ListModelsRequest())).models
    assert [model.name for model in models] == ["tiny", "talker", "bare"]
    assert {model.state for model in models} == {pb.MODEL_STATE_READY}
    assert [model.has_chat_template for model in models] == [True, True, False]
    assert [model.context_length for model in models] == [1 << 15, 1 << 15, 64]


async def test_a_model_is_described(stub: Any, talker_model: Path) -> None:
    """By what its files say and what it takes in memory."""
    model = (await stub.GetModel(pb.GetModelRequest(name="talker"))).model
    words = tiny.tokenizer()
    assert (model.name, model.source, model.model_type, model.adapter) == (
        *("talker", str(talker_model)),
        *("llama", "chatml"),
    )
    assert (model.vocab_size, model.has_reasoning, model.error) == (words.get_vocab_size(), True, "")
    assert words.token_to_id(tiny.END) in model.stop_token_ids
    written = (talker_model / "config.json").stat().st_mtime
    assert model.created.ToDatetime(UTC) == datetime.fromtimestamp(int(written), UTC)
    weights = (talker_model / "model.safetensors").stat().st_size
    assert 0.9 * weights < model.weights_bytes <= weights
    assert model.kv_tokens > 0
    assert model.kv_bytes > 0


async def test_no_name_is_the_first_model(stub: Any) -> None:
    """As in requests."""
    assert (await stub.GetModel(pb.GetModelRequest())).model.name == "tiny"


async def test_an_unknown_name_is_not_found(stub: Any) -> None:
    """The name is in the details."""
    refusal = await refused(stub.GetModel(pb.GetModelRequest(name="nobody")))
    assert refusal.code == grpc.StatusCode.NOT_FOUND
    assert refusal.details["ResourceInfo"].resource_name == "nobody"  # type: ignore[attr-defined]


def kinds(events: list[pb.LoadModelResponse]) -> list[str]:
    """Kinds of the events of a load in order, with repetitions left out."""
    return [kind for kind, _ in itertools.groupby(event.WhichOneof("event") or "" for event in events)]


async def ending(running: Call) -> Refusal:
    """Read a call that fails to its end."""
    with pytest.raises(aio.AioRpcError) as raised:
        _ = [event async for event in running]
    return refusal(raised.value)


async def test_a_load_tells_how_it_goes(pool: Operator) -> None:
    """Each stage in turn, fractions that grow to the whole, and the model as it is then."""
    events = await pool.load("a")
    assert kinds(events) == ["resolving", "loading", "warming", "ready"]
    fractions = [event.loading.fraction for event in events if event.HasField("loading")]
    assert fractions == sorted(set(fractions))
    assert fractions[-1] == 1
    ready = events[-1].ready
    assert (ready.name, ready.state, ready.in_use) == ("a", pb.MODEL_STATE_READY, 0)
    assert 0 < ready.weights_bytes + ready.kv_bytes < ready.memory_bytes < TWO
    after = await pool.model("a")
    assert (after.in_use, after.memory_bytes, after.kv_tokens) == (0, ready.memory_bytes, ready.kv_tokens)


async def test_a_model_that_is_loaded_is_ready_at_once(pool: Operator) -> None:
    """There is nothing to tell but that."""
    await pool.load("a")
    assert kinds(await pool.load("a")) == ["ready"]


async def test_the_least_recently_used_makes_room(pool: Operator) -> None:
    """What a dry run says beforehand comes true, and the dry run itself does nothing."""
    for name in "aba":
        await pool.load(name)
    plan = await pool.plan("c")
    assert (plan.fits, plan.loaded, list(plan.evicts)) == (True, False, ["b"])
    assert plan.free_bytes < plan.needed_bytes < plan.budget_bytes == TWO
    assert await pool.ready() == ["a", "b"]
    events = await pool.load("c")
    assert "waiting" in kinds(events)
    waiting = next(event.waiting for event in events if event.HasField("waiting"))
    assert waiting.free_bytes < waiting.needed_bytes == plan.needed_bytes
    assert await pool.ready() == ["a", "c"]
    assert (await pool.plan("a")).loaded


async def test_one_that_is_pinned_as_it_is_loaded_stays(pool: Operator) -> None:
    """Another goes; once both are pinned, there is no room for a third before one is unpinned."""
    [*_, last] = await pool.load("a", pin=True)
    assert last.ready.pinned
    await pool.load("b")
    await pool.load("c")
    assert await pool.ready() == ["a", "c"]
    assert (await pool.pin("c")).pinned
    assert not (await pool.plan("b")).fits
    assert (await refused(pool.load("b"))).info.reason == "INSUFFICIENT_MEMORY"
    assert not (await pool.unpin("a")).pinned
    await pool.load("b")
    assert await pool.ready() == ["b", "c"]


async def test_pinning_loads_nothing(pool: Operator) -> None:
    """It is remembered for when the model is there."""
    assert (await pool.pin("a")).state == pb.MODEL_STATE_UNLOADED
    assert (await pool.model("a")).pinned


async def test_what_can_never_fit_is_refused_with_the_figures(pool: Operator) -> None:
    """At once, by a load and by a dry run, and nothing else is unloaded for it."""
    await pool.load("a")
    refusal = await refused(pool.load("huge"))
    assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (refusal.info.reason, refusal.info.metadata["model"]) == ("INSUFFICIENT_MEMORY", "huge")
    plan = await pool.plan("huge")
    assert (plan.fits, plan.needed_bytes) == (False, int(refusal.info.metadata["needed_bytes"]))
    assert int(refusal.info.metadata["available_bytes"]) == TWO < plan.needed_bytes
    assert await pool.ready() == ["a"]
    assert (await pool.model("huge")).state == pb.MODEL_STATE_UNLOADED


async def test_one_that_cannot_be_read_has_failed_and_says_why(pool: Operator) -> None:
    """The load says it too, and so does a dry run; once told to unload it, nothing is left of that."""
    for dry_run in (False, True):
        refusal = await refused(pool.load("broken", dry_run=dry_run))
        assert "there is no folder" in refusal.message
        assert (refusal.code, list(refusal.details)) == (grpc.StatusCode.UNAVAILABLE, ["RetryInfo"])
    failed = await pool.model("broken")
    assert (failed.state, failed.error) == (pb.MODEL_STATE_FAILED, refusal.message)
    unloaded = await pool.unload("broken")
    assert (unloaded.state, unloaded.error) == (pb.MODEL_STATE_UNLOADED, "")


async def test_a_load_goes_on_when_its_call_is_cancelled(pool: Operator) -> None:
    """The next one finds it loaded, or on its way."""
    loading = pool.stub.LoadModel(pb.LoadModelRequest(name="a"))
    await anext(aiter(loading))
    loading.cancel()
    assert (await pool.becomes("a", pb.MODEL_STATE_READY)).error == ""


async def test_a_model_of_the_folders_becomes_known(pool: Operator, tiny_model: Path) -> None:
    """By the name that the load gives it, from then on, with a dry run before that which tells nothing to anyone."""
    assert (await pool.plan("new", source=tiny_model.name)).fits
    assert "new" not in await pool.models()
    [*_, last] = await pool.load("new", source=tiny_model.name)
    assert (last.ready.name, last.ready.source) == ("new", str(tiny_model))
    assert [*await pool.models()][-1] == "new"
    assert kinds(await pool.load("new", source=str(tiny_model))) == ["ready"]
    other = await refused(pool.load("new", source="owner/other"))
    assert (other.code, other.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["source"])


async def test_what_is_no_model_does_not_become_known(pool: Operator) -> None:
    """Else callers could fill the list with names of nothing."""
    refusal = await refused(pool.load("new-and-empty", source="empty"))
    assert (refusal.code, list(refusal.details)) == (grpc.StatusCode.UNAVAILABLE, ["RetryInfo"])
    assert "new-and-empty" not in await pool.models()
    nowhere = await refused(pool.load("new-and-absent", source="own/absent/very/much"))
    assert (nowhere.code, nowhere.info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PATH_NOT_ALLOWED")


@pytest.mark.parametrize("source", ["/etc", "..", "../..", "/", "llama/../..", "~", "file:///etc"])
async def test_a_source_outside_the_folders_is_not_allowed(pool: Operator, source: str) -> None:
    """Neither loaded nor planned, however it is written, and not known afterwards."""
    for dry_run in (False, True):
        refusal = await refused(pool.load("outside", source=source, dry_run=dry_run))
        assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PATH_NOT_ALLOWED")
    assert "outside" not in await pool.models()


@pytest.mark.parametrize("call", ["load", "unload", "pin", "unpin"])
async def test_operators_have_to_name_a_model_that_there_is(pool: Operator, call: str) -> None:
    """None is loaded or unloaded because a name was left out or misspelt."""
    unknown = await refused(getattr(pool, call)("nobody"))
    assert (unknown.code, list(unknown.details)) == (grpc.StatusCode.NOT_FOUND, ["ResourceInfo"])
    nameless = await refused(getattr(pool, call)(""))
    assert (nameless.code, nameless.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["name"])


async def test_unloading_waits_for_what_runs(pool: Operator, pool_channel: aio.Channel) -> None:
    """It ends as it would have; what comes meanwhile is told to try again; then the memory is free."""
    running = call(pool_channel, text_request("The sky", model="a", stopping=LONG))
    await first_text(running)
    unloading = asyncio.create_task(pool.unload("a"))
    draining = await pool.becomes("a", pb.MODEL_STATE_DRAINING)
    assert draining.in_use == 1
    late = await refused(answer(pool_channel, text_request("The sky", model="a")))
    assert (late.code, list(late.details)) == (grpc.StatusCode.UNAVAILABLE, ["RetryInfo"])
    events = [event async for event in running]
    assert events[-1].completed.usage.completion_tokens == 1500
    unloaded = await unloading
    assert (unloaded.state, unloaded.memory_bytes, unloaded.in_use) == (pb.MODEL_STATE_UNLOADED, 0, 0)
    assert (await answer(pool_channel, text_request("The sky", model="a", stopping={"maxTokens": 1}))).usage


async def test_unloading_by_force_cuts_what_runs(pool: Operator, pool_channel: aio.Channel) -> None:
    """Each with one status, and the pause after which it may be sent again."""
    running = [call(pool_channel, text_request("The sky", model="a", stopping=ENDLESS)) for _ in range(3)]
    await asyncio.gather(*map(first_text, running))
    began = asyncio.get_running_loop().time()
    assert (await pool.unload("a", force=True)).state == pb.MODEL_STATE_UNLOADED
    assert asyncio.get_running_loop().time() - began < 5
    for cut in running:
        ended = await ending(cut)
        assert (ended.code, list(ended.details)) == (grpc.StatusCode.UNAVAILABLE, ["RetryInfo"])
        pause = ended.details["RetryInfo"]
        assert isinstance(pause, error_details_pb2.RetryInfo)
        assert pause.retry_delay.ToMilliseconds() > 0


async def test_an_unload_that_nobody_waits_for_goes_on(pool: Operator, pool_channel: aio.Channel) -> None:
    """The operator who asked for it has left; and a second one may make it quick."""
    running = call(pool_channel, text_request("The sky", model="a", stopping=ENDLESS))
    await started(running)
    leaving = pool.stub.UnloadModel(pb.UnloadModelRequest(name="a"))
    await pool.becomes("a", pb.MODEL_STATE_DRAINING)
    leaving.cancel()
    assert (await pool.model("a")).state == pb.MODEL_STATE_DRAINING
    assert (await pool.unload("a", force=True)).state == pb.MODEL_STATE_UNLOADED
    assert (await ending(running)).code == grpc.StatusCode.UNAVAILABLE


async def test_what_is_not_loaded_is_unloaded_already(pool: Operator) -> None:
    """Twice is once."""
    for force in (False, True):
        assert (await pool.unload("b", force=force)).state == pb.MODEL_STATE_UNLOADED


async def test_everyone_who_watches_hears_all_of_a_life(pool: Operator) -> None:
    """First how each model is, then each state of one, in order."""
    async with watching(pool) as first, watching(pool) as second:
        for watch in (first, second):
            present = [await watch.next() for _ in await pool.models()]
            assert {model.name: model for model in present} == await pool.models()
        lives = [asyncio.create_task(watch.states("a", pb.MODEL_STATE_READY)) for watch in (first, second)]
        await pool.load("a")
        assert await asyncio.gather(*lives) == [COMING, COMING]
        first.call.cancel()
        end = asyncio.create_task(second.states("a", pb.MODEL_STATE_UNLOADED))
        await pool.unload("a")
        assert await end == ["DRAINING", "UNLOADED"]


async def test_one_who_does_not_read_holds_up_nobody(pool: Operator, pool_channel: aio.Channel) -> None:
    """Others hear every change; the slow one does not get all of them in the end, but the last."""
    changes = 400
    async with watching(pool) as slow, watching(pool) as quick:
        await slow.next()
        heard: list[bool] = []

        async def listen() -> None:
            while len(heard) < changes:
                model = await quick.next()
                if model.name == LONG_NAME and (heard or model.pinned):
                    heard.append(model.pinned)

        listening = asyncio.create_task(listen())
        for number in range(changes):
            await (pool.unpin if number % 2 else pool.pin)(LONG_NAME)
        await asyncio.wait_for(listening, LOAD_S)
        assert heard == [True, False] * (changes // 2)
        await pool.pin("c")
        late = 0
        while not ((model := await slow.next()).name == "c" and model.pinned):
            late += model.name == LONG_NAME
        assert late < changes
        assert (await server_info(pool_channel)).memory_reserved_bytes == 0


async def test_what_lies_on_disk_is_listed_where_it_is_asked_for(pool: Operator, tiny_model: Path) -> None:
    """With the source that a load takes, and what is wrong with it."""
    on_disk = (await pool.stub.ListModels(pb.ListModelsRequest(on_disk=True))).on_disk
    [found] = [entry for entry in on_disk if entry.name == tiny_model.name]
    assert (found.source, found.fault) == (str(tiny_model), "")
    assert found.bytes > (tiny_model / "model.safetensors").stat().st_size
    assert not (await pool.stub.ListModels(pb.ListModelsRequest())).on_disk
    [*_, last] = await pool.load("found", source=found.source)
    assert last.ready.state == pb.MODEL_STATE_READY
