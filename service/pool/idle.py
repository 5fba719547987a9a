"""Models that nobody has used for as long as they may stay."""

import asyncio
import time
from collections.abc import Callable

from service.pool.model import Model


class Idle:
    """Looks at each model again once its time to live may be over."""

    def __init__(self, unload: Callable[[Model], None]) -> None:
        """`unload` is called with a model that nobody has used for long enough."""
        self._unload = unload
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def review(self, model: Model) -> None:
        """A model, or its use, has changed."""
        ttl = model.ttl_s
        if ttl is None or model.in_use or not model.is_evictable:
            if (timer := self._timers.pop(model.name, None)) is not None:
                timer.cancel()
            return
        if model.name not in self._timers:
            left = max(model.last_used, model.loaded_at) + ttl - time.monotonic()
            self._timers[model.name] = asyncio.get_running_loop().call_later(max(left, 0.0), self._look, model)

    def close(self) -> None:
        """Forget all models."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _look(self, model: Model) -> None:
        del self._timers[model.name]
        if max(model.last_used, model.loaded_at) + (model.ttl_s or 0.0) <= time.monotonic():
            self._unload(model)
        else:
            self.review(model)
