"""A request's hold on a model, which keeps the model in memory."""

import time
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Self

from service.errors import QueueFull, Unavailable
from service.pool.facts import ModelFacts
from service.pool.model import Model
from service.pool.progress import LoadProgress
from service.pool.residence import Residence


class Lease:
    """Held from before a request waits until it has ended; leaving its `with` block releases it."""

    def __init__(self, model: Model, stay: Callable[[Model], Residence], *, bounded: bool = True) -> None:
        """`stay` gives the model's residence, begun where there is none.

        Raises QueueFull where too many wait, unless it is not `bounded`.
        """
        self.model = model
        self._stay = stay
        self._is_active = False
        self._is_held = True
        if model.is_open and not model.leaving:
            self._begin()
        elif bounded and model.waiting >= model.max_queued:
            raise QueueFull(model.name)
        else:
            model.waiting += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    async def ready(self) -> ModelFacts:
        """Wait until the model takes requests; a model that is not in memory is loaded.

        Raises Unavailable or ModelTooLarge for one that does not come.
        """
        async for _ in self.progress():
            pass
        if self.model.facts is None:
            raise Unavailable(f"model {self.model.name!r} is being started again")
        return self.model.facts

    async def progress(self) -> AsyncGenerator[LoadProgress]:
        """How far the model is, until it takes requests. Raises as `ready` does."""
        model, last = self.model, None
        residence: Residence | None = None
        while not (model.is_usable if self._is_active else model.is_open and not model.leaving):
            self._wait()
            if residence is None or residence.failure is None:  # that of the one it has waited for, however late
                residence = self._stay(model)
            if residence.failure is not None:
                raise residence.failure
            if model.progress is not None and model.progress != last:
                last = model.progress
                yield last
            else:
                await model.changed()
        if not self._is_active and self._is_held:
            model.waiting -= 1
            self._begin()

    def release(self) -> None:
        """Give it back; the second time does nothing."""
        if not self._is_held:
            return
        self._is_held = False
        if self._is_active:
            self.model.active -= 1
            self.model.last_used = time.monotonic()
        else:
            self.model.waiting -= 1
        self.model.touch()

    def _begin(self) -> None:
        self._is_active = True
        self.model.active += 1
        self.model.last_used = time.monotonic()
        self.model.touch()

    def _wait(self) -> None:
        """Wait again, where the engine has died since."""
        if self._is_active:
            self._is_active = False
            self.model.active -= 1
            self.model.waiting += 1
            self.model.touch()
