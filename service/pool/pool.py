"""All configured models."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from service.config import ServiceConfig
from service.errors import UnknownModel
from service.pool.blas import engine_environment
from service.pool.catalogue import model_folder
from service.pool.model import Model


class ModelPool:
    """The models by their aliases. `changed` is called whenever one begins or ceases to serve."""

    def __init__(self, config: ServiceConfig, changed: Callable[[], None]) -> None:
        environment = engine_environment(config.engine_threads)
        self._cache_dir = Path(config.cache_dir)
        self._models = {model.name: Model(model, config, environment, changed) for model in config.models}

    @property
    def models(self) -> list[Model]:
        """In the order of the configuration; the first is the default one."""
        return list(self._models.values())

    def get(self, name: str) -> Model:
        """The model of an alias, the default one for none. Raises UnknownModel."""
        if not name:
            return self.models[0]
        if (model := self._models.get(name)) is None:
            raise UnknownModel(name)
        return model

    async def start(self) -> None:
        """Load all models, one after the other. Raises SetupError for the first that cannot be."""
        for model in self._models.values():
            await model.start(lambda config=model.config: model_folder(config, self._cache_dir))  # type: ignore[misc]

    def turn_away(self) -> None:
        """Let nobody wait for a model that is not ready."""
        for model in self.models:
            model.turn_away()

    def cut(self) -> None:
        """End all streams as unavailable."""
        for model in self.models:
            model.cut()

    async def stop(self) -> None:
        """End all engines."""
        await asyncio.gather(*(model.stop() for model in self._models.values()))
