"""Who may have memory next, and who has to make room."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from service.config import ModelConfig, ServiceConfig
from service.errors import ModelTooLarge
from service.pool import memory as module
from service.pool.budget import Budget
from service.pool.memory import Memory
from service.pool.model import Model
from service.pool.progress import LoadProgress, Stage
from service.pool.state import ModelState

TOTAL = 10


@dataclass
class World:
    """Models without engines, which go at once when they are told to, unless somebody uses them."""

    models: list[Model] = field(default_factory=list)
    evicted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.memory = Memory(Budget(TOTAL), lambda: self.models, self.evict)

    def add(self, name: str, size: int = 0, used: float = 0.0) -> Model:
        """Make a model, which is in memory if it has a size; `used` says when, as does the time of its load."""
        model = Model(ModelConfig(name, path="/m"), ServiceConfig(), lambda _: self.memory.wake())
        if size:
            assert self.memory.budget.reserve(name, size)
            model.reserved_bytes, model.state, model.engine = size, ModelState.READY, cast(Any, object())
            model.last_used = model.loaded_at = used
        self.models.append(model)
        return model

    def evict(self, model: Model) -> None:
        """Take the place of a residence."""
        self.evicted.append(model.name)
        model.leaving = True
        if not model.active:
            self.gone(model)

    def gone(self, model: Model) -> None:
        """Let a model leave the memory."""
        model.engine, model.leaving, model.state = None, False, ModelState.UNLOADED
        self.memory.release(model)

    def ask(self, model: Model, needed: int, report: Callable[[LoadProgress], None] = lambda _: None) -> Any:
        return asyncio.create_task(self.memory.reserve(model, needed, report))


@pytest.fixture
def world() -> World:
    return World()


async def test_what_is_free_is_given_at_once(world: World) -> None:
    """And is in the books and the model."""
    model = world.add("a")
    await world.memory.reserve(model, TOTAL, lambda _: None)
    assert (model.reserved_bytes, world.memory.budget.free, world.evicted) == (TOTAL, 0, [])


async def test_as_few_go_as_have_to(world: World) -> None:
    """Those that were not used for longest, and nobody where that does not help."""
    for name, used in (("new", 3.0), ("old", 1.0), ("middle", 2.0)):
        world.add(name, 3, used)
    await world.memory.reserve(world.add("a"), 5, lambda _: None)
    assert world.evicted == ["old", "middle"]
    world.models[0].active = 1
    late = world.ask(world.add("b"), 8)
    await asyncio.sleep(0.05)
    assert (world.evicted, late.done()) == (["old", "middle"], False)
    late.cancel()


async def test_first_come_first_served(world: World) -> None:
    """One that needs little does not pass one that needs much."""
    held = world.add("held", 8)
    held.active = 1
    much, little = world.ask(world.add("much"), 5), world.ask(world.add("little"), 2)
    await asyncio.sleep(0.05)
    assert not little.done()
    held.active = 0
    held.touch()
    async with asyncio.timeout(5):
        await much
        await little
    assert dict(world.memory.budget.reserved) == {"much": 5, "little": 2}


async def test_one_that_gives_up_lets_the_next_one_in(world: World) -> None:
    """Nothing stays in the books for it."""
    held = world.add("held", 8)
    held.active = 1
    much, little = world.ask(world.add("much"), 5), world.ask(world.add("little"), 2)
    await asyncio.sleep(0.01)
    much.cancel()
    await asyncio.wait_for(little, 5)
    assert dict(world.memory.budget.reserved) == {"held": 8, "little": 2}


async def test_what_is_pinned_counts_as_gone(world: World) -> None:
    """Also when it is pinned while somebody waits for it."""
    held = world.add("held", 8)
    held.active = 1
    waiting = world.ask(world.add("a"), 5)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    held.pinned = True
    held.tell()
    with pytest.raises(ModelTooLarge) as raised:
        await asyncio.wait_for(waiting, 5)
    assert (raised.value.needed_bytes, raised.value.available_bytes) == (5, 2)


async def test_those_in_use_go_only_after_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only if they have had their time; the one that was loaded first is the first."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    now = asyncio.get_running_loop().time()
    for name, used in (("b", now - 5), ("a", now - 9), ("fresh", now + 60)):
        world.add(name, 3, used).active = 1
    waiting = world.ask(world.add("x"), 4)
    await asyncio.sleep(0.1)
    assert world.evicted == []
    async with asyncio.timeout(5):
        while not world.evicted:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    assert world.evicted == ["a"]
    world.gone(world.models[1])
    await asyncio.wait_for(waiting, 5)


async def test_who_waits_is_told_what_is_missing(world: World) -> None:
    """How much is free of what it needs, also while it is another one's turn."""
    world.add("held", 8).active = 1
    told: list[LoadProgress] = []
    waiting = [world.ask(world.add("a"), 5, told.append), world.ask(world.add("b"), 6, told.append)]
    await asyncio.sleep(0.01)
    assert told == [LoadProgress(Stage.WAITING, 2, 5), LoadProgress(Stage.WAITING, 2, 6)]
    for one in waiting:
        one.cancel()


async def test_a_plan_says_who_would_go(world: World) -> None:
    """And changes nothing."""
    world.add("a", 4, 1.0)
    world.add("b", 4, 2.0).active = 1
    new = world.add("new")
    plans = {needed: world.memory.plan(new, needed) for needed in (2, 3, 7, 11)}
    assert {needed: (plan.fits, plan.evicts) for needed, plan in plans.items()} == {
        2: (True, ()),
        3: (True, ("a",)),
        7: (True, ("a", "b")),
        11: (False, ()),
    }
    assert (plans[3].free, plans[3].total, world.evicted) == (2, 10, [])
    assert world.memory.plan(world.models[0], 4).loaded


async def test_what_is_measured_takes_the_place_of_what_was_expected(world: World) -> None:
    """Unless there is less than that."""
    model = world.add("a", 4)
    assert world.memory.adjust(model, 7)
    assert not world.memory.adjust(model, 11)
    assert (model.reserved_bytes, world.memory.budget.free) == (7, 3)
