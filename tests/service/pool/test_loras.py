"""A model's LoRAs as the pool keeps them: names, holds, books, and loading again."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from service.engine.frames import LoraLoaded, LoraRefused, LoraUnloaded
from service.errors import InvalidField, ModelTooLarge, Unavailable, UnknownLora
from service.pool.loras import Loras, LoraState


class Engine:
    """What an engine answers; it holds what it is told while `gate` is closed."""

    def __init__(self) -> None:
        self.loaded: dict[str, str] = {}
        self.refuses: dict[str, str] = {}
        self.is_dead = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def load_lora(self, name: str, path: str) -> LoraLoaded | LoraRefused:
        await self._passed()
        if name in self.refuses:
            return LoraRefused(name, self.refuses[name])
        assert name not in self.loaded
        self.loaded[name] = path
        return LoraLoaded(name, 8, 2.0, 1000)

    async def unload_lora(self, name: str) -> LoraUnloaded | LoraRefused:
        await self._passed()
        del self.loaded[name]
        return LoraUnloaded(name)

    async def _passed(self) -> None:
        await self.gate.wait()
        if self.is_dead:
            raise Unavailable("the engine ended")


class HeldAfterOne(Engine):
    """Takes one LoRA, and holds the next."""

    async def load_lora(self, name: str, path: str) -> LoraLoaded | LoraRefused:
        if self.loaded:
            self.gate.clear()
        return await super().load_lora(name, path)


class Books:
    """What was told of the bytes in use, of which there may be `most`."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.told: list[int] = []
        self.most = most

    def __call__(self, taken: int) -> None:
        self.told.append(taken)
        if taken > self.most:
            raise ModelTooLarge("tiny", taken, self.most)


def made(engine: Engine | None, account: Callable[[int], None] | None = None) -> Loras:
    return Loras("tiny", lambda: engine, account or Books())


def folder(path: Path, size: int = 300) -> str:
    """Write a file of weights of `size` bytes."""
    path.mkdir(exist_ok=True)
    (path / "adapters.safetensors").write_bytes(bytes(size))
    return str(path)


async def turns() -> None:
    """Let all that can go on, go on."""
    for _ in range(20):
        await asyncio.sleep(0.001)


async def test_a_loaded_lora_takes_requests(tmp_path: Path) -> None:
    """It is told with its rank, scale and bytes, and counted while a request holds it."""
    loras = made(engine := Engine())
    lora = await loras.load("one", folder(tmp_path))
    assert (lora.state, lora.rank, lora.scale, lora.bytes) == (LoraState.READY, 8, 2.0, 1000)
    assert engine.loaded == {"one": str(tmp_path)}
    with loras.acquire("one") as lease:
        assert lora.in_use == 1
        lease.release()
        assert lora.in_use == 0
    assert lora.in_use == 0
    assert loras.all == [lora]


async def test_what_is_unknown_is_refused() -> None:
    """Requests and unloads name the model and the LoRA."""
    loras = made(Engine())
    with pytest.raises(UnknownLora, match="model 'tiny' has no LoRA 'none'") as caught:
        loras.acquire("none")
    assert (caught.value.model, caught.value.name) == ("tiny", "none")
    with pytest.raises(UnknownLora):
        await loras.unload("none")


async def test_a_name_is_given_once(tmp_path: Path) -> None:
    """While a LoRA of a name is loading, there or draining, another one is refused."""
    loras = made(engine := Engine())
    path = folder(tmp_path)
    engine.gate.clear()
    first = asyncio.create_task(loras.load("one", path))
    await turns()
    with pytest.raises(InvalidField, match="loading"):
        await loras.load("one", path)
    with pytest.raises(UnknownLora):
        loras.acquire("one")
    with pytest.raises(UnknownLora):
        await loras.unload("one")
    engine.gate.set()
    await first
    with pytest.raises(InvalidField, match="ready"):
        await loras.load("one", path)


async def test_a_lora_in_use_drains(tmp_path: Path) -> None:
    """Unloading turns new requests away and waits for those that hold it; then the name is free."""
    books = Books()
    loras = made(engine := Engine(), books)
    await loras.load("one", folder(tmp_path))
    first, second = loras.acquire("one"), loras.acquire("one")
    unloading = [asyncio.create_task(loras.unload("one")) for _ in range(2)]
    await turns()
    with pytest.raises(Unavailable, match="unloaded"):
        loras.acquire("one")
    with pytest.raises(InvalidField, match="draining"):
        await loras.load("one", str(tmp_path))
    first.release()
    first.release()
    await turns()
    assert not any(task.done() for task in unloading)
    assert engine.loaded
    second.release()
    await asyncio.gather(*unloading)
    assert not engine.loaded
    assert not loras.all
    assert books.told[-1] == 0
    await loras.load("one", str(tmp_path))
    assert engine.loaded


async def test_what_a_caller_began_goes_on_without_it(tmp_path: Path) -> None:
    """One who leaves stops neither a load nor an unload."""
    loras = made(engine := Engine())
    engine.gate.clear()
    loading = asyncio.create_task(loras.load("one", folder(tmp_path)))
    await turns()
    loading.cancel()
    engine.gate.set()
    await turns()
    lease = loras.acquire("one")
    unloading = asyncio.create_task(loras.unload("one"))
    await turns()
    unloading.cancel()
    await turns()
    lease.release()
    await turns()
    assert not loras.all
    assert not engine.loaded


async def test_a_refusal_names_the_folder_and_leaves_nothing(tmp_path: Path) -> None:
    """The reason is the engine's, the field is the path."""
    books = Books()
    loras = made(engine := Engine(), books)
    engine.refuses["bad"] = "layer 'x' is not there"
    with pytest.raises(InvalidField, match="layer 'x' is not there") as caught:
        await loras.load("bad", folder(tmp_path))
    assert caught.value.field == "path"
    assert not loras.all
    assert books.told == [600, 0]


async def test_the_books_are_asked_before_a_load(tmp_path: Path) -> None:
    """What may not fit is not sent to the engine; afterwards the engine's own figure counts."""
    books = Books(most=1500)
    loras = made(engine := Engine(), books)
    await loras.load("one", folder(tmp_path / "one"))
    assert books.told == [600, 1000]
    with pytest.raises(ModelTooLarge):
        await loras.load("two", folder(tmp_path / "two"))
    assert books.told == [600, 1000, 1600, 1000]
    assert set(engine.loaded) == {"one"}
    assert loras.bytes == 1000


async def test_an_engine_that_ends_under_a_load_leaves_nothing(tmp_path: Path) -> None:
    """The caller may try again; without an engine it is told the same."""
    loras = made(engine := Engine())
    engine.gate.clear()
    loading = asyncio.create_task(loras.load("one", folder(tmp_path)))
    await turns()
    engine.is_dead = True
    engine.gate.set()
    with pytest.raises(Unavailable):
        await loading
    assert not loras.all
    with pytest.raises(Unavailable, match="started again"):
        await made(None).load("one", str(tmp_path))


async def test_an_engine_that_ends_takes_a_draining_lora_along(tmp_path: Path) -> None:
    """Nothing is left to unload."""
    loras = made(engine := Engine())
    await loras.load("one", folder(tmp_path))
    engine.is_dead = True
    await loras.unload("one")
    assert not loras.all


async def test_loras_come_back_with_the_model(tmp_path: Path) -> None:
    """Configured ones and those that were loaded later are loaded on each new engine."""
    loras = made(Engine())
    loras.configure({"first": folder(tmp_path / "first")})
    assert loras.bytes == 600
    await loras.load("second", folder(tmp_path / "second"))
    again = Engine()
    assert await loras.restore(again) == []
    assert list(again.loaded) == ["first", "second"]
    assert loras.bytes == 2000


async def test_one_that_cannot_come_back_says_why(tmp_path: Path) -> None:
    """The others do; requests for it are told, and it may be loaded anew or taken off."""
    loras = made(engine := Engine())
    await loras.load("bad", folder(tmp_path))
    await loras.load("good", folder(tmp_path))
    again = Engine()
    again.refuses["bad"] = "its folder is gone"
    assert [lora.name for lora in await loras.restore(again)] == ["bad"]
    assert set(again.loaded) == {"good"}
    with pytest.raises(Unavailable, match="its folder is gone"):
        loras.acquire("bad")
    assert loras.bytes == 1000
    del engine.loaded["bad"]
    await loras.load("bad", folder(tmp_path))
    with loras.acquire("bad"):
        pass


async def test_one_that_is_unloaded_while_it_comes_back_is_taken_off(tmp_path: Path) -> None:
    """The new engine does not keep what nobody knows."""
    engines = [Engine()]
    loras = Loras("tiny", lambda: engines[0] if engines else None)
    await loras.load("one", folder(tmp_path))
    engines.clear()
    again = Engine()
    again.gate.clear()
    restoring = asyncio.create_task(loras.restore(again))
    await turns()
    await loras.unload("one")
    again.gate.set()
    await restoring
    assert not again.loaded
    assert not loras.all


async def test_one_that_is_unloaded_while_the_next_comes_back_is_taken_off(tmp_path: Path) -> None:
    """Else its name could not be given again on this engine."""
    engines = [Engine()]
    loras = Loras("tiny", lambda: engines[0] if engines else None)
    for name in ("one", "two"):
        await loras.load(name, folder(tmp_path))
    engines.clear()
    again = HeldAfterOne()
    restoring = asyncio.create_task(loras.restore(again))
    await turns()
    assert set(again.loaded) == {"one"}
    await loras.unload("one")
    again.gate.set()
    await restoring
    assert set(again.loaded) == {"two"}
    engines.append(again)
    again.loaded.clear()
    assert (await loras.load("one", folder(tmp_path))).state is LoraState.READY


async def test_only_the_file_that_is_read_is_counted(tmp_path: Path) -> None:
    """mlx-lm leaves those of earlier steps beside it."""
    books = Books()
    path = folder(tmp_path)
    for step in range(10):
        (tmp_path / f"{step:07}_adapters.safetensors").write_bytes(bytes(300))
    await made(Engine(), books).load("one", path)
    assert books.told[0] == 600


async def test_a_file_that_cannot_be_looked_at_is_for_the_engine_to_refuse(tmp_path: Path) -> None:
    """A link that leads nowhere stops neither the start of the service nor the answer."""
    (tmp_path / "adapters.safetensors").symlink_to(tmp_path / "nowhere")
    loras = made(engine := Engine())
    loras.configure({"configured": str(tmp_path)})
    engine.refuses["one"] = "its file is not there"
    with pytest.raises(InvalidField, match="its file is not there"):
        await loras.load("one", str(tmp_path))
    assert [lora.name for lora in loras.all] == ["configured"]


async def test_a_folder_may_begin_with_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a model may."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder(tmp_path / "mine")
    loras = made(None)
    loras.configure({"one": "~/mine"})
    assert [(lora.path, lora.bytes) for lora in loras.all] == [(str(tmp_path / "mine"), 600)]


async def test_one_that_failed_stays_known_when_it_fails_again(tmp_path: Path) -> None:
    """It is the model's own: the next engine is asked for it again, and requests are told why it is not there."""
    loras = made(engine := Engine())
    loras.configure({"own": folder(tmp_path)})
    engine.refuses["own"] = "its folder is being written"
    await loras.restore(engine)
    with pytest.raises(InvalidField, match="being written"):
        await loras.load("own", folder(tmp_path / "other"))
    with pytest.raises(Unavailable, match="being written"):
        loras.acquire("own")
    again = Engine()
    assert await loras.restore(again) == []
    assert again.loaded == {"own": str(tmp_path)}
