"""Who may have memory next, and who has to make room for them."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from service.errors import ModelTooLarge
from service.pool.budget import Budget
from service.pool.model import Model
from service.pool.progress import LoadProgress, Stage

PATIENCE_S = 10.0
"""How long one waits for models that are always in use, before one of them has to go; and how long that one had."""

_LOOKS = 10
"""How often one looks again meanwhile, if nothing changes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load would do, were it begun now. Figures are in bytes, `evicts` are the models that would have to go."""

    fits: bool
    needed: int
    free: int
    total: int
    evicts: tuple[str, ...] = ()
    loaded: bool = False


class Memory:
    """Gives out a budget, first come first served. Models that nobody uses make room, least recently used first."""

    def __init__(self, budget: Budget, models: Callable[[], Iterable[Model]], evict: Callable[[Model], None]) -> None:
        """`evict` begins to unload a model, which gives its memory back when it is gone."""
        self.budget = budget
        self._models = models
        self._evict = evict
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    async def reserve(self, model: Model, needed: int, report: Callable[[LoadProgress], None]) -> None:
        """Set memory aside for a model, once it is there and all who asked before have theirs.

        Raises ModelTooLarge for what can never fit beside the models that are pinned.
        """
        self._check(model, needed)
        if self._turn.locked():
            report(self._wait(needed))
        async with self._turn:
            began = time.monotonic()
            while not self.budget.reserve(model.name, needed):
                self._check(model, needed)
                report(self._wait(needed))
                now = time.monotonic()
                loaded_by = now - PATIENCE_S if now - began >= PATIENCE_S else None
                for victim in self._victims(model, needed, loaded_by) or ():
                    self._evict(victim)
                await self._news()
        model.reserved_bytes = needed

    def adjust(self, model: Model, taken: int) -> bool:
        """Set aside what a model takes, once that is known; whether there was as much."""
        if not self.budget.reserve(model.name, taken):
            return False
        model.reserved_bytes = taken
        self.wake()
        return True

    def account(self, model: Model) -> None:
        """The LoRAs of a model take more or less. Raises ModelTooLarge where there is not as much."""
        taken = model.measured_bytes + model.loras.bytes
        if model.measured_bytes and not self.adjust(model, taken):
            raise ModelTooLarge(model.name, taken, self.budget.free + model.reserved_bytes)
        model.tell()

    def release(self, model: Model) -> None:
        """A model has gone."""
        self.budget.release(model.name)
        model.reserved_bytes = model.measured_bytes = 0
        self.wake()

    def wake(self) -> None:
        """A model has become idle, or may be evicted now, or has given memory back."""
        self._changed.set()

    def plan(self, model: Model, needed: int) -> Plan:
        """What a load of a model would do now."""
        if model.reserved_bytes:
            return Plan(
                fits=True, needed=model.reserved_bytes, free=self.budget.free, total=self.budget.total, loaded=True
            )
        victims = self._victims(model, needed)
        if victims is None:
            victims = self._victims(model, needed, loaded_by=math.inf)
        return Plan(
            fits=needed <= self.available(model),
            needed=needed,
            free=self.budget.free,
            total=self.budget.total,
            evicts=tuple(victim.name for victim in victims or ()),
        )

    def available(self, model: Model) -> int:
        """The most that a model may ever have: what is not pinned by others."""
        pinned = sum(other.reserved_bytes for other in self._models() if other.pinned and other is not model)
        return self.budget.total - pinned

    def _check(self, model: Model, needed: int) -> None:
        if needed > (available := self.available(model)):
            raise ModelTooLarge(model.name, needed, available)

    def _victims(self, model: Model, needed: int, loaded_by: float | None = None) -> list[Model] | None:
        """Those that have to go, so that `needed` is free; None where they do not do.

        Those that are in use may have to if they were loaded before a time, the first of them first.
        """
        others = [other for other in self._models() if other is not model]
        missing = needed - self.budget.free - sum(other.reserved_bytes for other in others if other.leaving)
        candidates = [other for other in others if other.is_evictable]
        order = sorted((other for other in candidates if not other.in_use), key=lambda other: other.last_used)
        if loaded_by is not None:
            busy = (other for other in candidates if other.in_use and other.loaded_at <= loaded_by)
            order += sorted(busy, key=lambda other: other.loaded_at)
        victims: list[Model] = []
        for other in order:
            if missing <= 0:
                break
            victims.append(other)
            missing -= other.reserved_bytes
        return victims if missing <= 0 else None

    def _wait(self, needed: int) -> LoadProgress:
        return LoadProgress(Stage.WAITING, self.budget.free, needed)

    async def _news(self) -> None:
        """Wait until something has changed, or for a part of the patience."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S / _LOOKS):
                await self._changed.wait()
