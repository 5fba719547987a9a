"""Linear layers that add what each row's LoRA makes of their input."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedLinear
from mlx.utils import tree_flatten

from service.engine.blocked_linear import BlockedLinear
from service.engine.lora_folder import Factors, LoraError
from service.engine.lora_selection import Selection
from service.engine.lora_shelf import Shelf, shelf_of


class Pass:
    """The forward pass that is being laid out: what the layers of a model look at."""

    def __init__(self) -> None:
        self.selection: Selection | None = None
        """None where no row has a LoRA."""
        self.met: dict[Target, tuple[int, ...]] | None = None
        """The shapes of the inputs of the layers that the pass has come to, while that is looked for."""


class Target:
    """A layer with LoRAs: what it holds for them, and what its output becomes."""

    def __init__(self, running: Pass) -> None:
        self.running = running
        self.is_known = False
        """Whether a pass has been seen to come to it."""
        self._shelves: list[Shelf] = []

    @property
    def nbytes(self) -> int:
        """Bytes of all factors."""
        return sum(shelf.nbytes for shelf in self._shelves)

    def put(self, number: int, a: mx.array, b: mx.array) -> None:
        """Take a LoRA's factors, with those of the same rank."""
        for place, shelf in enumerate(self._shelves):
            if shelf.rank == len(a):
                self._shelves[place] = shelf.with_one(number, a, b)
                return
        self._shelves.append(shelf_of(number, a, b))

    def remove(self, number: int) -> bool:
        """Let a LoRA's factors go; whether any others are left."""
        kept = [shelf for shelf in self._shelves if shelf.numbers != (number,)]
        self._shelves = [shelf.without(number) if number in shelf.numbers else shelf for shelf in kept]
        return bool(self._shelves)

    def add(self, y: mx.array, x: mx.array, selection: Selection) -> mx.array:
        """The layer's output with what the LoRAs add to it."""
        if self.running.met is not None:
            self.running.met[self] = x.shape
        for shelf in self._shelves:
            y = shelf.add(y, x, selection)
        return y


class _WithLoras:
    """A layer with LoRAs. A layer becomes one in its place, so that the model around it stays as it is."""

    target: Target

    def __call__(self, x: mx.array) -> mx.array:
        y: mx.array = super().__call__(x)  # type: ignore[misc] # the layer that this is mixed into
        selection = self.target.running.selection
        return y if selection is None else self.target.add(y, x, selection)


class LoraLinear(_WithLoras, Linear):
    """A dense layer with LoRAs."""


class LoraBlockedLinear(_WithLoras, BlockedLinear):
    """A dense layer with LoRAs, whose weights are multiplied in blocks."""


class LoraQuantizedLinear(_WithLoras, QuantizedLinear):
    """A quantised layer with LoRAs."""


_WITH_LORAS: dict[type[Module], type[LoraLinear | LoraBlockedLinear | LoraQuantizedLinear]] = {
    Linear: LoraLinear,
    BlockedLinear: LoraBlockedLinear,
    QuantizedLinear: LoraQuantizedLinear,
}
_PLAIN: dict[type[Module], type[Module]] = {wrapped: plain for plain, wrapped in _WITH_LORAS.items()}


def enable(layer: Module, running: Pass) -> Target:
    """Let a layer, which `check` has passed, have LoRAs."""
    if not isinstance(layer, _WithLoras):
        layer.__class__ = _WITH_LORAS[type(layer)]
        layer.target = Target(running)
    target: Target = layer.target
    return target


def disable(layer: Module) -> None:
    """Make a layer what it was before."""
    if isinstance(layer, _WithLoras):
        del layer.target
        layer.__class__ = _PLAIN[type(layer)]  # type: ignore[assignment]


def check(path: str, layer: Module, factors: Factors) -> None:
    """Raise LoraError where factors do not fit a layer."""
    if type(layer) not in _WITH_LORAS and type(layer) not in _PLAIN:
        raise LoraError(f"layer {path!r} is a {type(layer).__name__}, and only linear layers can have LoRAs")
    expected, given = _shape(layer), (factors.a.shape[1], factors.b.shape[1])
    if given != expected:
        raise LoraError(
            f"the factors of layer {path!r} take {given[0]} to {given[1]}, and it takes {expected[0]} to {expected[1]}"
        )


def suited(path: str, layer: Any, factors: Factors, general: mx.Dtype = mx.float32) -> tuple[mx.array, mx.array]:
    """Factors in the type that a layer computes in, the scale included. Raises LoraError where they are not finite.

    `general` is the type of a layer that tells none, as the scales of MX formats are no floats.
    """
    own = layer.scales.dtype if isinstance(layer, QuantizedLinear) else layer.weight.dtype
    dtype = own if mx.issubdtype(own, mx.floating) else general
    a = factors.a.astype(dtype)
    b = (factors.b.astype(mx.float32) * factors.scale).astype(dtype)
    if not mx.all(mx.isfinite(a)).item() or not mx.all(mx.isfinite(b)).item():
        raise LoraError(f"the factors of layer {path!r} have values that are not finite")
    return a, b


def _shape(layer: Any) -> tuple[int, int]:
    """Numbers that a layer takes and gives."""
    output, width = layer.weight.shape
    return (layer.scales.shape[1] * layer.group_size if isinstance(layer, QuantizedLinear) else width), output


def computes_in(model: Module) -> mx.Dtype:
    """The type of most of a model's arrays of floats, by their number."""
    arrays: list[tuple[str, mx.array]] = tree_flatten(model.parameters())  # type: ignore[assignment,no-untyped-call]
    types = Counter(array.dtype for _, array in arrays if mx.issubdtype(array.dtype, mx.floating))
    return max(types, key=lambda dtype: types[dtype], default=mx.float32)


def named(model: Module) -> Iterator[tuple[str, Module]]:
    """The layers of a model by their paths."""
    yield from model.named_modules()  # type: ignore[no-untyped-call]
