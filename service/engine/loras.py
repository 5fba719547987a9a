"""The LoRAs of the model: rows with different ones, and with none, share its weights and its forward passes."""

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import make_prompt_cache

from service.engine import lora_layer
from service.engine.frames import LoraLoaded, LoraRefused, LoraUnloaded
from service.engine.lora_folder import Factors, LoraError
from service.engine.lora_layer import Pass, Target
from service.engine.lora_read import read
from service.engine.lora_selection import NONE, Selection

_PROBE = [[0, 0, 0], [0, 0, 0]]
_FLAT = 2
"""Dimensions of an input in which the tokens of all rows are one after the other."""
_BODY = "model."
"""Where the layers are that make the hidden states."""
_AROUND = ("", "model.", "language_model.")
"""What a model may have in front of the paths that a LoRA was saved with."""

_EXPERT = ".experts."
"""What the paths of experts have in them where each has layers of its own, as in PEFT; here they share one."""
_LONGEST = 500
"""Characters of a reason: the files of others may have names of any length."""

Answer = LoraLoaded | LoraRefused | LoraUnloaded

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA of the model. Its `number` is given to no other one, not even to one of its name."""

    name: str
    number: int
    layers: tuple[str, ...]
    """The paths of the layers that it changes."""

    @property
    def changes_head(self) -> bool:
        """Whether it changes more than the hidden states."""
        return not all(path.startswith(_BODY) for path in self.layers)


class Loras:
    """Loads and unloads LoRAs layer by layer, between steps, and applies them to the rows of a pass."""

    def __init__(self, model: Module) -> None:
        self._model = model
        self._pass = Pass()
        self._loras: dict[str, Lora] = {}
        self._work: deque[Iterator[Answer | None]] = deque()

    @property
    def is_busy(self) -> bool:
        """Whether there is something to load or unload."""
        return bool(self._work)

    def number(self, name: str) -> int | None:
        """The number of a LoRA; that of none for the empty name, None where there is no such LoRA."""
        if not name:
            return NONE
        lora = self._loras.get(name)
        return None if lora is None else lora.number

    def load(self, name: str, path: str) -> None:
        """Begin to load a LoRA; `work` tells how it went."""
        self._work.append(self._load(name, path))

    def unload(
        self, name: str, in_use: Callable[[], Collection[int]], gone: Callable[[int], None] = lambda _: None
    ) -> None:
        """Begin to take a LoRA off, unless it is among those `in_use` when its turn comes; `work` tells how it went.

        `gone` is called with the number that no row has from then on.
        """
        self._work.append(self._unload(name, in_use, gone))

    def work(self, seconds: float) -> list[Answer]:
        """Go on with what was begun, for about so long, but by a layer at least; what is done."""
        until, answers = monotonic() + seconds, list[Answer]()
        while self._work:
            if (answer := next(self._work[0])) is not None:
                answers.append(answer)
                self._work.popleft()
            if monotonic() >= until:
                break
        return answers

    @contextmanager
    def of(self, rows: Items[int]) -> Iterator[None]:
        """The passes that are laid out inside have rows with the LoRAs of these numbers."""
        if not any(rows):
            yield
            return
        self._pass.selection = Selection(rows)
        try:
            yield
        finally:
            self._pass.selection = None

    def change_head(self, rows: Items[int]) -> bool:
        """Whether a row's LoRA changes more than the hidden states."""
        return any(lora.changes_head for lora in self._loras.values() if lora.number in rows)

    def _load(self, name: str, path: str) -> Iterator[Answer | None]:
        number, size, done = next(_numbers), 0, list[str]()
        layers = dict(lora_layer.named(self._model))
        try:
            self._check(name)
            weights = read(Path(path))
            yield None
            changes, dtype = self._changes(layers, weights.factors), lora_layer.computes_in(self._model)
            for place, factors in changes.items():
                a, b = lora_layer.suited(place, layers[place], factors, dtype)
                done.append(place)
                lora_layer.enable(layers[place], self._pass).put(number, a, b)
                size += a.nbytes + b.nbytes
                yield None
            self._meet({place: lora_layer.enable(layers[place], self._pass) for place in done}, number)
        except Exception as error:  # noqa: BLE001 - a folder from elsewhere can be broken in any way
            for place in done:
                self._remove(layers[place], number)
            reason = str(error) if isinstance(error, LoraError) else f"{type(error).__name__}: {error}"
            yield LoraRefused(name, " ".join(reason.split())[:_LONGEST])
        else:
            self._loras[name] = Lora(name, number, tuple(done))
            yield LoraLoaded(name, weights.rank, weights.scale, size)

    def _check(self, name: str) -> None:
        if name in self._loras:
            raise LoraError(f"there is a LoRA {name!r} already")

    def _unload(
        self, name: str, in_use: Callable[[], Collection[int]], gone: Callable[[int], None]
    ) -> Iterator[Answer | None]:
        lora = self._loras.get(name)
        if lora is not None and lora.number in in_use():
            yield LoraRefused(name, "it is in use")
            return
        if lora is not None:
            del self._loras[name]
            gone(lora.number)
            layers = dict(lora_layer.named(self._model))
            for place in lora.layers:
                self._remove(layers[place], lora.number)
                yield None
        yield LoraUnloaded(name)

    def _remove(self, layer: Module, number: int) -> None:
        if not lora_layer.enable(layer, self._pass).remove(number):
            lora_layer.disable(layer)

    def _changes(self, layers: dict[str, Module], factors: dict[str, Factors]) -> dict[str, Factors]:
        """The factors by the layers' paths in this model. Raises LoraError where they do not fit."""
        changes = {}
        for path, each in factors.items():
            place = next((start + path for start in _AROUND if start + path in layers), None)
            if place is None and _EXPERT in path:
                raise LoraError(f"layer {path!r} is one of several experts, which is not served")
            if place is None:
                raise LoraError(f"the model has no layer {path!r}")
            if place in changes:
                raise LoraError(f"layer {place!r} has factors twice, under different names")
            lora_layer.check(place, layers[place], each)
            changes[place] = each
        return changes

    def _meet(self, targets: dict[str, Target], number: int) -> None:
        """See that a pass comes to all layers, with inputs whose rows are the pass's. Raises LoraError.

        A model that reads the weights of a layer, rather than call it, would leave its LoRAs out.
        """
        if all(target.is_known for target in targets.values()):
            return
        self._pass.met = {}
        try:
            with self.of([number] * len(_PROBE)):
                self._model(mx.array(_PROBE), cache=make_prompt_cache(self._model))  # which computes nothing yet
            for path, target in targets.items():
                if not _has_rows(self._pass.met.get(target, ())):
                    raise LoraError(f"layer {path!r} is computed in a way that LoRAs cannot change")
                target.is_known = True
        finally:
            self._pass.met = None


def _has_rows(shape: tuple[int, ...]) -> bool:
    """Whether an input has the rows of the probe, in their order."""
    rows, tokens = len(_PROBE), len(_PROBE[0])
    return shape[:-1] == (rows * tokens,) or (len(shape) > _FLAT and shape[:2] == (rows, tokens))
