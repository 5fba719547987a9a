"""What a model will take in memory, before it is loaded."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from service.pool.means import Means
from service.pool.model import Model
from service.pool.share import kv_share
from service.pool.weights import estimated_bytes


async def weigh(model: Model, means: Means, folder: Path) -> int:
    """Bytes that the weights in a folder will take, which the model knows from then on.

    Raises SetupError for a broken folder.
    """
    model.weights_bytes = await asyncio.to_thread(estimated_bytes, folder, on_cpu=means.on_cpu)
    return model.weights_bytes


async def appraise(model: Model, others: Iterable[Model], means: Means, folder: Path) -> int:
    """Bytes of weights, keys and values, LoRAs, and process. `others` are those that it shares the memory with.

    Raises SetupError for a broken folder.
    """
    fixed = await weigh(model, means, folder) + model.loras.bytes + means.process_bytes
    kv = means.kv_bytes(model)
    if kv is None:
        known = [other.weights_bytes + means.process_bytes for other in others if other.weights_bytes is not None]
        if means.settings.model_folders and not known:  # one more may be named at any time
            known = [fixed]
        kv = kv_share(means.memory.budget.total, fixed, known)
    return fixed + kv
