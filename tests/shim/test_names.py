"""`base:lora` in the model field, and aliases that hold colons."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import grpc
import httpx
import openai
import pytest

from mlx_grpc.v1 import models_pb2
from shim import names
from shim.config import Config
from shim.names import Named, Names, split_name
from tests.shim.fakes import Failure, FakeService, eventually, running_shim, violation

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "x"},
    "/api/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
}
CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def loras(service: FakeService) -> None:
    service.models[0].loras.extend(["pirate", "poet-2.1"])


def named(service: FakeService) -> list[tuple[str, str]]:
    return [(request.model, request.lora) for request in service.requests]


def lists(service: FakeService) -> int:
    return sum(isinstance(request, models_pb2.ListModelsRequest) for request in service.asked)


async def ask(http: httpx.AsyncClient, model: str, path: str = CHAT, **fields: object) -> httpx.Response:
    return await http.post(path, json={"model": model} | BODIES[path] | fields)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("a:b", Named("a", "b")),
        ("a:b:c", Named("a:b", "c")),
        ("org/a:b", Named("org/a", "b")),
        ("a", None),
        ("a:", None),
        (":b", None),
        (":", None),
        ("", None),
    ],
)
def test_a_name_is_split_at_its_last_colon(name: str, split: Named | None) -> None:
    """Neither part may be empty, as an empty model would be the default one."""
    assert split_name(name) == split


@pytest.mark.parametrize("path", BODIES)
async def test_a_lora_is_named_beside_its_model(http: httpx.AsyncClient, service: FakeService, path: str) -> None:
    """Each route asks the model for the LoRA, and the list of models is asked for once."""
    for lora in ("pirate", "poet-2.1"):
        assert (await ask(http, f"tiny:{lora}", path)).status_code == 200
    assert named(service) == [("tiny", "pirate"), ("tiny", "poet-2.1")]
    assert lists(service) == 1


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
async def test_the_answer_names_what_was_asked_for(
    http: httpx.AsyncClient, path: str, logged: list[MutableMapping[str, Any]]
) -> None:
    """Whole, in each chunk and in the log; and the fingerprint is not that of the model without the LoRA."""
    whole = (await ask(http, "tiny:pirate", path)).json()
    plain = (await ask(http, "tiny", path)).json()
    chunks = (await ask(http, "tiny:pirate", path, stream=True)).text
    assert whole["model"] == "tiny:pirate"
    assert whole["system_fingerprint"] != plain["system_fingerprint"]
    assert chunks.count('"model":"tiny:pirate"') == chunks.count("data: {") > 1
    await eventually(lambda: len(logged) == 3)
    assert [entry["model"] for entry in logged] == ["tiny:pirate", "tiny", "tiny:pirate"]


async def test_the_sdk_asks_for_a_lora(sdk: openai.AsyncOpenAI, service: FakeService) -> None:
    """As its model."""
    answer = await sdk.chat.completions.create(model="tiny:pirate", messages=[{"role": "user", "content": "hi"}])
    assert (answer.model, named(service)) == ("tiny:pirate", [("tiny", "pirate")])


async def test_a_name_without_a_colon_costs_nothing(http: httpx.AsyncClient, service: FakeService) -> None:
    """Only the call itself is made."""
    assert (await ask(http, "tiny")).status_code == 200
    assert (named(service), service.asked) == ([("tiny", "")], [])


async def test_several_prompts_look_once(http: httpx.AsyncClient, service: FakeService) -> None:
    """All calls of a request have the LoRA, and share the list of models."""
    response = await ask(http, "tiny:pirate", "/v1/completions", prompt=["a", "b", "c", "d"])
    assert response.status_code == 200
    assert named(service) == [("tiny", "pirate")] * 4
    assert lists(service) == 1


async def test_a_whole_alias_wins(http: httpx.AsyncClient, service: FakeService) -> None:
    """A model whose alias has a colon is that model, even where a LoRA has the same name."""
    service.models.append(models_pb2.Model(name="tiny:pirate"))
    assert (await ask(http, "tiny:pirate")).status_code == 200
    assert named(service) == [("tiny:pirate", "")]


async def test_a_model_whose_alias_has_a_colon_has_loras(http: httpx.AsyncClient, service: FakeService) -> None:
    """What follows the last colon is the LoRA."""
    service.models.append(models_pb2.Model(name="a:b", loras=["c"]))
    assert (await ask(http, "a:b:c")).status_code == 200
    assert named(service) == [("a:b", "c")]


@pytest.mark.parametrize("name", ["tiny:nobody", "nobody:pirate", "tiny:pirate:", ":pirate", ":", "tiny:"])
@pytest.mark.parametrize("path", BODIES)
async def test_an_unknown_lora_is_404(http: httpx.AsyncClient, service: FakeService, path: str, name: str) -> None:
    """As an unknown model is, and it is asked for once."""
    response = await ask(http, name, path)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert len(service.requests) == 1


@pytest.mark.parametrize("before", ["tiny:pirate", "tiny:new"])
async def test_an_alias_that_is_new_is_found_at_once(
    http: httpx.AsyncClient, service: FakeService, before: str
) -> None:
    """What the list did not have when it was asked for."""
    await ask(http, before)
    service.models.append(models_pb2.Model(name="tiny:new"))
    assert (await ask(http, "tiny:new")).status_code == 200
    assert named(service)[-1] == ("tiny:new", "")


async def test_an_alias_that_has_gone_leaves_its_name_to_a_lora(http: httpx.AsyncClient, service: FakeService) -> None:
    """A service that comes back with other models is asked again."""
    service.models.append(models_pb2.Model(name="tiny:pirate"))
    await ask(http, "tiny:pirate")
    service.models.pop()
    assert (await ask(http, "tiny:pirate")).status_code == 200
    assert named(service)[-1] == ("tiny", "pirate")


async def test_a_new_alias_wins_over_a_lora_before_long(
    http: httpx.AsyncClient, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of models is not trusted for ever."""
    monkeypatch.setattr(names, "_FRESH_S", 0.2)
    await ask(http, "tiny:pirate")
    service.models.append(models_pb2.Model(name="tiny:pirate"))
    await asyncio.sleep(0.3)
    await ask(http, "tiny:pirate")
    assert named(service) == [("tiny", "pirate"), ("tiny:pirate", "")]


async def test_a_refused_lora_is_the_model_field(http: httpx.AsyncClient, service: FakeService) -> None:
    """What the service says of the LoRA is said of the field that names it."""
    service.script = [Failure(grpc.StatusCode.INVALID_ARGUMENT, "bad", (violation("lora", "is not for this model"),))]
    error = (await ask(http, "tiny:pirate")).json()["error"]
    assert (error["param"], error["message"]) == ("model", "model: is not for this model")


@pytest.mark.parametrize("path", BODIES)
async def test_aliases_that_cannot_be_had_are_told(service: FakeService, path: str) -> None:
    """As the service that is not there would be, and plain names are not held up by it."""
    service.failure = Failure(grpc.StatusCode.UNAVAILABLE)
    config = Config(service=(service.address,))
    async with running_shim(config) as shim, httpx.AsyncClient(base_url=shim.url) as http:
        refused = await ask(http, "tiny:pirate", path)
        assert (await ask(http, "tiny", path)).status_code == 200
    assert service.requests[0].lora == ""
    assert refused.status_code == 503 or '"type":"error"' in refused.text


async def test_who_gives_up_on_the_list_leaves_it_to_the_others() -> None:
    """Asking is not lost with the one who asked first."""
    go_on, asked = asyncio.Event(), 0

    async def aliases() -> list[str]:
        nonlocal asked
        asked += 1
        await go_on.wait()
        return ["tiny"]

    async def attempt(meant: Named) -> Named:
        return meant

    known = Names(aliases)
    first, second, third = (asyncio.create_task(known.ask("tiny:pirate", attempt)) for _ in range(3))
    await eventually(lambda: asked == 1)
    first.cancel()
    await eventually(lambda: asked == 2)
    go_on.set()
    assert (await second, await third) == (Named("tiny", "pirate"), Named("tiny", "pirate"))
    assert asked == 2
