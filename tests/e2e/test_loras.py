"""LoRAs as callers meet them: over gRPC and through the shim, side by side in one batch."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import mlx.core as mx
import openai
import psutil
import pytest
from google.protobuf import json_format
from grpc import aio
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model

from mlx_grpc.v1 import generation_pb2 as pb
from mlx_grpc.v1 import loras_pb2, loras_pb2_grpc, models_pb2, models_pb2_grpc
from tests.calls import Answer, answer, refused
from tests.e2e.conftest import shim_over
from tests.processes import ServiceProcess
from tests.service.engine.lora_files import delta, fuse, write_mlx, write_peft

PROMPT = "the quick brown fox"
NAMES = ("first", "second", "third")
TOKENS = 24
_CONFIG = """
listen = ["127.0.0.1:0"]
model_folders = [{folder}]
[[models]]
name = "tiny"
path = {model}
loras = {{ first = {first} }}
"""


@pytest.fixture(scope="module")
def lora_folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make three LoRAs of the tiny model, in both formats, and the model with each of them fused into its weights."""
    folder = tmp_path_factory.mktemp("loras")
    for seed, name in enumerate(NAMES):
        model, _ = load_model(tiny_model)
        write = write_peft if seed % 2 else write_mlx
        write(folder / name, delta(model, seed=seed))
    return folder


@pytest.fixture(scope="module")
def lora_service(
    tiny_model: Path, lora_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """Run a service whose model comes with the first of them; the others may be loaded."""
    place = tmp_path_factory.mktemp("lora-service")
    config = place / "service.toml"
    words = {"folder": lora_folder, "model": tiny_model, "first": lora_folder / "first"}
    config.write_text(_CONFIG.format(**{name: json.dumps(str(word)) for name, word in words.items()}))
    with ServiceProcess(["--config", str(config), "--cache-dir", str(place / "cache")]) as service:
        yield service


@pytest.fixture
async def channel(lora_service: ServiceProcess) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(lora_service.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def lora_url(lora_service: ServiceProcess) -> Iterator[str]:
    with shim_over(lora_service) as url:
        yield url


def generate(lora: str = "", tokens: int = TOKENS, prompt: str = PROMPT) -> pb.GenerateRequest:
    """Make a greedy request that names a LoRA."""
    stopping = {"maxTokens": tokens, "ignoreEos": True}
    fields = {"model": "tiny", "lora": lora, "text": prompt, "sampling": {"temperature": 0}, "stopping": stopping}
    return json_format.ParseDict(fields, pb.GenerateRequest())


async def load(channel: aio.Channel, name: str, path: Path | str) -> loras_pb2.Lora:
    """Put a LoRA on the model."""
    stub: Any = loras_pb2_grpc.LoraServiceStub(channel)
    request = loras_pb2.LoadLoraRequest(model="tiny", name=name, path=str(path))
    lora: loras_pb2.Lora = (await stub.LoadLora(request)).lora
    return lora


async def unload(channel: aio.Channel, name: str) -> None:
    """Take one off."""
    await loras_pb2_grpc.LoraServiceStub(channel).UnloadLora(loras_pb2.UnloadLoraRequest(model="tiny", name=name))


async def names(channel: aio.Channel) -> list[str]:
    """Give the names of the LoRAs that there are."""
    stub: Any = loras_pb2_grpc.LoraServiceStub(channel)
    return [lora.name for lora in (await stub.ListLoras(loras_pb2.ListLorasRequest())).loras]


@pytest.fixture
async def loaded(channel: aio.Channel, lora_folder: Path) -> AsyncIterator[aio.Channel]:
    """Load all LoRAs for a test."""
    for name in NAMES[1:]:
        await load(channel, name, lora_folder / name)
    yield channel
    for name in NAMES[1:]:
        if name in await names(channel):
            await unload(channel, name)


async def test_each_row_of_a_batch_has_its_own_lora(loaded: aio.Channel) -> None:
    """Together with others, and with rows that have none, each says what it says alone."""
    asked = ["", *NAMES]
    alone = {name: (await answer(loaded, generate(name))).text for name in asked}
    assert len(set(alone.values())) == len(asked)
    together = await asyncio.gather(*(answer(loaded, generate(name)) for name in asked * 4))
    assert [one.text for one in together] == [alone[name] for name in asked * 4]


@pytest.fixture(scope="module")
def fused_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the tiny model with the second LoRA in its weights."""
    folder = tmp_path_factory.mktemp("fused")
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, folder)
    model, _ = load_model(tiny_model)
    fuse(model, delta(model, seed=1))
    parameters: Any = tree_flatten(model.parameters())
    mx.save_safetensors(str(folder / "model.safetensors"), dict(parameters), metadata={"format": "mlx"})
    return folder


async def test_a_lora_says_what_its_fused_model_says(loaded: aio.Channel, fused_model: Path, tmp_path: Path) -> None:
    """Weights with the LoRA in them are the reference."""
    flags = ["--listen", "127.0.0.1:0", "--model", f"tiny={fused_model}", "--cache-dir", str(tmp_path)]
    service = await ServiceProcess.start(*flags)
    try:
        async with aio.insecure_channel(service.address) as fused:
            expected = await answer(fused, generate())
    finally:
        await asyncio.to_thread(service.stop)
    assert (await answer(loaded, generate("second"))).text == expected.text


async def test_prefixes_are_not_shared_between_loras(loaded: aio.Channel) -> None:
    """The same prompt comes from the cache for the same LoRA only."""
    prompt = f"a lazy dog sleeps while {PROMPT} jumps"

    async def cached(lora: str) -> int:
        return (await answer(loaded, generate(lora, prompt=prompt))).usage.cached_tokens

    for lora in ("", *NAMES):
        assert await cached(lora) == 0
        assert await cached(lora) > 0


async def test_one_that_is_used_goes_when_it_is_not_any_more(loaded: aio.Channel) -> None:
    """Its stream ends whole, new requests are turned away meanwhile, and then it is unknown."""
    whole = (await answer(loaded, generate("third", tokens=400))).text
    running = asyncio.create_task(answer(loaded, generate("third", tokens=400)))
    await until(loaded, "third", lambda lora: lora.in_use > 0)
    leaving = asyncio.create_task(unload(loaded, "third"))
    await until(loaded, "third", lambda lora: lora.draining)
    refusal = await refused(answer(loaded, generate("third")))
    assert (refusal.code, "RetryInfo" in refusal.details) == (grpc.StatusCode.UNAVAILABLE, True)
    assert (await running).text == whole
    await leaving
    assert (await refused(answer(loaded, generate("third")))).code == grpc.StatusCode.NOT_FOUND


async def until(channel: aio.Channel, name: str, holds: Callable[[loras_pb2.Lora], bool]) -> None:
    """Wait until something is so of a LoRA as it is listed."""
    stub: Any = loras_pb2_grpc.LoraServiceStub(channel)
    async with asyncio.timeout(30):
        while True:
            loras = (await stub.ListLoras(loras_pb2.ListLorasRequest(model="tiny"))).loras
            if holds(next(lora for lora in loras if lora.name == name)):
                return
            await asyncio.sleep(0.01)


async def test_a_name_that_is_loaded_again_is_the_new_one(loaded: aio.Channel, lora_folder: Path) -> None:
    """No prefix of the one before is left."""
    texts = {name: (await answer(loaded, generate(name))).text for name in NAMES}
    await unload(loaded, "second")
    await load(loaded, "second", lora_folder / "third")
    assert (await answer(loaded, generate("second"))).text == texts["third"]


async def test_loras_come_back_with_their_model(loaded: aio.Channel, lora_service: ServiceProcess) -> None:
    """An engine that is killed is started again with all of them; so is one that was unloaded."""
    before = {name: (await answer(loaded, generate(name))).text for name in NAMES}
    killed = lora_service.engines
    for engine in killed:
        engine.kill()
    psutil.wait_procs(killed, timeout=10)
    for name in NAMES:
        assert (await eventually(loaded, generate(name))).text == before[name]
    models: Any = models_pb2_grpc.ModelServiceStub(loaded)
    await models.UnloadModel(models_pb2.UnloadModelRequest(name="tiny"))
    assert sorted(await names(loaded)) == sorted(NAMES)
    assert (await answer(loaded, generate("second"))).text == before["second"]


async def test_one_that_cannot_come_back_says_why(loaded: aio.Channel, lora_folder: Path) -> None:
    """Its folder has gone while the model was not there: the others are served, and it may be loaded anew."""
    fleeting = lora_folder / "fleeting"
    shutil.copytree(lora_folder / "second", fleeting)
    await load(loaded, "fleeting", fleeting)
    await models_pb2_grpc.ModelServiceStub(loaded).UnloadModel(models_pb2.UnloadModelRequest(name="tiny"))
    shutil.rmtree(fleeting)
    expected = (await answer(loaded, generate("second"))).text
    refusal = await refused(answer(loaded, generate("fleeting")))
    assert refusal.code is grpc.StatusCode.UNAVAILABLE
    stub: Any = loras_pb2_grpc.LoraServiceStub(loaded)
    told = {lora.name: lora.error for lora in (await stub.ListLoras(loras_pb2.ListLorasRequest())).loras}
    assert [name for name, error in told.items() if error] == ["fleeting"]
    assert told["fleeting"] in refusal.message
    shutil.copytree(lora_folder / "second", fleeting)
    assert not (await load(loaded, "fleeting", fleeting)).error
    assert (await answer(loaded, generate("fleeting"))).text == expected
    await unload(loaded, "fleeting")


async def eventually(channel: aio.Channel, request: pb.GenerateRequest) -> Answer:
    """Ask until the service has noticed that an engine has died."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await answer(channel, request)
            except aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - it is asked again
                await asyncio.sleep(0.1)


async def test_what_cannot_be_a_lora_is_refused(channel: aio.Channel, lora_folder: Path, tiny_model: Path) -> None:
    """A path outside the folders, a folder without one, a name that is taken or none; the model goes on."""
    outside = await refused(load(channel, "x", tiny_model))
    assert (outside.code, "PATH_NOT_ALLOWED" in str(outside.details)) == (grpc.StatusCode.PERMISSION_DENIED, True)
    (lora_folder / "empty").mkdir(exist_ok=True)
    for name, path, field in [
        ("x", "empty", "path"),
        ("first", "second", "name"),
        ("a:b", "second", "name"),
        ("x", "", "path"),
    ]:
        refusal = await refused(load(channel, name, path))
        assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    refusal = await refused(unload(channel, "nobody"))
    assert (refusal.code, refusal.details["ResourceInfo"].resource_name) == (grpc.StatusCode.NOT_FOUND, "nobody")  # type: ignore[attr-defined]
    assert (await answer(channel, generate("first"))).text


async def test_the_shim_serves_them_by_the_name_of_their_model(loaded: aio.Channel, lora_url: str) -> None:
    """As `base:lora`, listed with their parent; the answer says what was asked for."""
    expected = {name: (await answer(loaded, generate(name))).text for name in ("", *NAMES)}
    await asyncio.to_thread(ask_over_http, lora_url, expected)


def ask_over_http(url: str, expected: dict[str, str]) -> None:
    """Ask with the official SDK for what each LoRA says, and for one that there is not."""
    asked: dict[str, Any] = {
        "prompt": PROMPT,
        "max_tokens": TOKENS,
        "temperature": 0,
        "extra_body": {"ignore_eos": True},
    }
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        for name, text in expected.items():
            model = f"tiny:{name}" if name else "tiny"
            said = client.completions.create(model=model, **asked)
            assert (said.model, said.choices[0].text) == (model, text)
        with pytest.raises(openai.NotFoundError) as unknown:
            client.completions.create(model="tiny:nobody", **asked)
        assert unknown.value.code == "model_not_found"
        models = {model.id: model.model_dump() for model in client.models.list()}
    assert set(models) == {"tiny", *(f"tiny:{name}" for name in NAMES)}
    assert {models[f"tiny:{name}"]["parent"] for name in NAMES} == {"tiny"}
