"""Rotary position embeddings whose angles are computed once in a forward pass, not in each layer.

MLX's CPU build makes the cosines and sines anew for the queries and the keys of every layer, of the same positions.
"""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from mlx.nn.layers.positional_encoding import RoPE
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache
from mlx_lm.models.rope_utils import Llama3RoPE

Offset = int | mx.array
"""Tokens before the first one: of all rows, or of each."""


def share_angles(model: Module) -> None:
    """Let the layers of a model share them, where they are sure to be at the same positions."""
    if not all(type(layer) in {KVCache, RotatingKVCache} for layer in make_prompt_cache(model)):
        return
    known: dict[object, Angles] = {}
    parents = [module for module in model.modules() if not isinstance(module, SharedRoPE)]  # type: ignore[no-untyped-call]
    for parent in parents:
        for name, child in list(parent.children().items()):
            if type(child) in {RoPE, Llama3RoPE} and not child.traditional:
                angles = known.setdefault(_settings(child), Angles(_frequencies(child), getattr(child, "scale", 1.0)))
                parent[name] = SharedRoPE(child, angles)


class SharedRoPE(Module):
    """Stands in for one of mlx-lm's rotary embeddings, and gives the same numbers."""

    def __init__(self, library: RoPE | Llama3RoPE, angles: "Angles") -> None:
        """`library` is what it stands in for, `angles` those of all layers of the same settings."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._library = library
        self._angles = angles

    def __call__(self, x: mx.array, offset: Offset = 0) -> mx.array:
        """Turn queries or keys of shape (rows, heads, tokens, width)."""
        if x.dtype != mx.float32 or x.ndim != 4:  # noqa: PLR2004 - as it says
            turned: mx.array = self._library(x, offset)  # type: ignore[arg-type] # it takes arrays too
            return turned
        cos, sin = self._angles.of(self, offset, x.shape[-2])
        half = cos.shape[-1]
        first, second = x[..., :half], x[..., half : 2 * half]
        parts = [first * cos - second * sin, first * sin + second * cos]
        return mx.concatenate([*parts, x[..., 2 * half :]] if x.shape[-1] > 2 * half else parts, axis=-1)


@dataclass(frozen=True, slots=True)
class _Pass:
    """What a forward pass has computed."""

    offset: Offset
    tokens: int
    cos: mx.array
    sin: mx.array

    def is_of(self, offset: Offset, tokens: int) -> bool:
        """Whether another layer's angles are these. Arrays change in place, so that their size has to do."""
        if isinstance(offset, mx.array) and isinstance(self.offset, mx.array):
            return tokens == self.tokens and offset.shape == self.offset.shape
        return tokens == self.tokens and type(offset) is type(self.offset) and bool(offset == self.offset)


class Angles:
    """Cosines and sines for layers of the same settings, as long as a forward pass lasts."""

    def __init__(self, frequencies: mx.array, scale: float) -> None:
        """`frequencies` has shape (width / 2,); positions are multiplied by `scale`."""
        self._frequencies = frequencies
        self._scale = scale
        self._first: SharedRoPE | None = None
        """The layer that each pass begins with."""
        self._pass: _Pass | None = None

    def of(self, layer: SharedRoPE, offset: Offset, tokens: int) -> tuple[mx.array, mx.array]:
        """Those of so many tokens after `offset`, to be multiplied with (rows, heads, tokens, width / 2)."""
        self._first = self._first or layer
        begins = layer is self._first and not isinstance(offset, int)
        if self._pass is None or begins or not self._pass.is_of(offset, tokens):
            made = _Pass(offset, tokens, *self._compute(offset, tokens))
            if layer is not self._first:
                return made.cos, made.sin
            self._pass = made
        return self._pass.cos, self._pass.sin

    def _compute(self, offset: Offset, tokens: int) -> tuple[mx.array, mx.array]:
        """In the order of mx.fast.rope, for the same bits."""
        places = mx.arange(tokens, dtype=mx.float32)
        if isinstance(offset, mx.array) and offset.size > 1:
            offset = offset.reshape(-1, 1, 1)
        angles = ((places + offset) * self._scale)[..., None] * self._frequencies
        return mx.cos(angles), mx.sin(angles)


def _settings(library: RoPE | Llama3RoPE) -> object:
    if isinstance(library, RoPE):
        return library.dims, library.base, library.scale
    return bytes(memoryview(library._freqs))  # type: ignore[arg-type]  # noqa: SLF001 - it has no other name


def _frequencies(library: RoPE | Llama3RoPE) -> mx.array:
    if isinstance(library, Llama3RoPE):
        return mx.reciprocal(library._freqs)  # noqa: SLF001 - as above
    half = library.dims // 2
    step = np.log(np.float32(library.base)) / np.float32(half)
    return mx.exp(mx.arange(0, -half, -1, dtype=mx.float32) * mx.array(step))
