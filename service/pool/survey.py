"""A look at the models before the first is loaded, so that each gets its part of the memory."""

from collections.abc import Iterable
from pathlib import Path

from service.errors import SetupError
from service.pool.appraisal import weigh
from service.pool.catalogue import model_folder
from service.pool.folder import expanded
from service.pool.means import Means
from service.pool.model import Model
from service.pool.state import ModelState


async def survey(models: Iterable[Model], means: Means) -> None:
    """Fetch those that are to be loaded, and weigh all that are on disk; nobody is given memory meanwhile.

    Raises SetupError for the first to be loaded that cannot be had.
    """
    means.surveyed.clear()
    try:
        await _survey(models, means)
    finally:
        means.surveyed.set()


async def _survey(models: Iterable[Model], means: Means) -> None:
    found: list[tuple[Model, Path]] = []
    for model in models:
        if not model.awaited:
            if model.config.path is not None:
                found.append((model, expanded(model.config.path)))
            continue
        if model.state is ModelState.UNLOADED:
            model.move(ModelState.DOWNLOADING)
        found.append((model, await model_folder(model.config, means.cache_dir, model.report)))
    await means.know_device()
    for model, folder in found:
        try:
            await weigh(model, means, folder)
        except SetupError as error:
            if model.awaited:
                raise SetupError(f"model {model.name!r}: {error}") from error
