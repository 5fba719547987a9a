"""The models that a pool knows, by their aliases: those that are configured, and those that callers have named."""

from collections.abc import Callable
from pathlib import Path

from service.config import ModelConfig, ServiceConfig
from service.errors import MAX_QUOTED, InvalidField, PathNotAllowed, UnknownModel
from service.pool.allowed import named_model
from service.pool.model import Model
from service.pool.state import ModelState

MAX_NAME = MAX_QUOTED
"""Characters of an alias that a caller gives: errors and lists say it again."""


class Roster:
    """Finds models. One that a caller has named stays only if it comes into memory at least once."""

    def __init__(self, config: ServiceConfig, make: Callable[[ModelConfig], Model]) -> None:
        self._folders = config.model_folders
        self._make = make
        self._models = {model.name: make(model) for model in config.models}
        self._unproven: set[str] = set()

    def __contains__(self, model: Model) -> bool:
        """Whether a model is still known."""
        return self._models.get(model.name) is model

    @property
    def models(self) -> list[Model]:
        """In the order of the configuration, then as they were named."""
        return list(self._models.values())

    def get(self, name: str) -> Model:
        """The model of an alias, the first for none. Raises UnknownModel."""
        if not name:
            return next(iter(self._models.values()))
        if (model := self._models.get(name)) is None:
            raise UnknownModel(name)
        return model

    def find(self, name: str, source: str = "", revision: str = "") -> Model:
        """The model of an alias, or a new one, not known by this, which needs a `source`.

        Raises UnknownModel, PathNotAllowed, and InvalidField for what is not so of the one that is known.
        """
        if not name or name in self._models:
            model = self.get(name)
            self._check(model.config, source, revision)
            return model
        if not source:
            raise UnknownModel(name)
        if len(name) > MAX_NAME or not name.isprintable():
            raise InvalidField("name", f"must have at most {MAX_NAME} characters, which can be printed")
        return self._make(named_model(name, source, revision, self._folders))

    def add(self, model: Model) -> None:
        """Know a model, if it is not known yet."""
        if model not in self:
            self._models[model.name] = model
            self._unproven.add(model.name)

    def review(self, model: Model) -> bool:
        """A model has changed that has been asked for; whether it is not known any more, as it has never come.

        Else callers could fill the list with names of what there is not.
        """
        if model.state is ModelState.READY:
            self._unproven.discard(model.name)
        if model.name not in self._unproven or model.state not in {ModelState.UNLOADED, ModelState.FAILED}:
            return False
        self._unproven.discard(model.name)
        del self._models[model.name]
        return True

    def _check(self, config: ModelConfig, source: str, revision: str) -> None:
        """Refuse another source than a model's own, however that is written, and another revision."""
        if source and source != config.source:
            try:
                named = named_model(config.name, source, "", self._folders)
            except PathNotAllowed:
                named = None
            if named is None or (named.repo, named.path) != (config.repo, _resolved(config.path)):
                raise InvalidField("source", "must be empty or its own for a model that is known")
        if (source or revision) and revision != (config.revision or ""):
            raise InvalidField("revision", "must be its own for a model that is known")


def _resolved(path: str | None) -> str | None:
    """A path as it is once it has been found."""
    return None if path is None else str(Path(path).expanduser().resolve())
