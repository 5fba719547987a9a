"""Models that nobody uses."""

import asyncio
import time
from typing import Any, cast

from service.config import ModelConfig, ServiceConfig
from service.pool.idle import Idle
from service.pool.model import Model
from service.pool.state import ModelState


def ready(ttl_s: float | None) -> Model:
    model = Model(ModelConfig("a", path="/m", ttl_s=ttl_s), ServiceConfig())
    model.state, model.engine = ModelState.READY, cast(Any, object())
    model.last_used = time.monotonic()
    return model


async def test_the_time_begins_again_with_each_use() -> None:
    """It is counted from the end of the last one."""
    gone: list[Model] = []
    idle, model = Idle(gone.append), ready(0.2)
    idle.review(model)
    for _ in range(3):
        await asyncio.sleep(0.1)
        model.last_used = time.monotonic()
        idle.review(model)
    assert gone == []
    await asyncio.sleep(0.3)
    assert gone == [model]


async def test_what_is_used_or_pinned_or_has_no_time_stays() -> None:
    """As long as it is."""
    gone: list[Model] = []
    idle, models = Idle(gone.append), [ready(0.05), ready(0.05), ready(None)]
    for model in models:
        idle.review(model)
    models[0].active, models[1].pinned = 1, True
    for model in models:
        idle.review(model)
    await asyncio.sleep(0.2)
    assert gone == []
    idle.close()
