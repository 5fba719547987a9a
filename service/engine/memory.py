"""How much memory keys and values take, and may take."""

import ctypes
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import CacheList, RotatingKVCache, make_prompt_cache

from service.engine.sequence import LayerCache

STEP = 256
"""mlx-lm's caches grow by this many tokens."""
_CPU_SHARE, _GPU_SHARE = 0.5, 0.8
"""The part of the memory that a model with its keys and values may take; a GPU's working set is there for it alone."""
_LEAST = 64 << 20
_PREFIX_SHARE = 0.25
"""The part of the memory for keys and values that the prefix cache may take while nobody else needs it."""
_CPU_CHUNK, _GPU_CHUNK = 256, 1024
_BUFFERS = 1 << 29
"""Bytes of freed buffers that MLX keeps for the next step, at most."""

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that one sequence's caches take."""

    fixed: int
    """Of states of one size."""
    per_token: int
    windows: tuple[tuple[int, int], ...] = ()
    """For each layer with a window: bytes a token, and its tokens."""

    @classmethod
    def of(cls, model: Module) -> "Footprint":
        """Measure a model's caches after one token."""
        cache = make_prompt_cache(model)
        model(mx.array([[0]]), cache=cache)
        fixed = per_token = 0
        windows: list[tuple[int, int]] = []
        for layer in leaves(cache):
            keys = getattr(layer, "keys", None)
            if keys is None:  # a state of one size
                fixed += layer.nbytes
                continue
            token = layer.nbytes // (keys if isinstance(keys, mx.array) else keys[0]).shape[2]
            if isinstance(layer, RotatingKVCache):
                windows.append((token, layer.max_size))
            else:
                per_token += token
        return cls(fixed, per_token, tuple(windows))

    def bytes(self, tokens: int) -> int:
        """Bytes of the caches of a sequence of so many tokens."""
        grown = -(-tokens // STEP) * STEP
        windowed = sum(token * min(grown, window) for token, window in self.windows)
        return self.fixed + self.per_token * grown + windowed

    def tokens(self, budget: int, most: int) -> int:
        """The longest sequence that `budget` bytes hold; `most` if that is more than anyone needs."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.bytes(middle) <= budget else (low, middle - 1)
        return low


def kv_budget(weights: int) -> int:
    """Bytes that the machine has for the keys and values of a model with `weights` bytes."""
    return max(_LEAST, room() - weights)


def kv_rest(reserved: int, weights: int, taken: int) -> int:
    """What is left for them of `reserved` bytes, of which the process has `taken` some, with its weights."""
    return max(_LEAST, reserved - max(weights, taken))


def prefix_budget(kv_bytes: int) -> int:
    """The part of them for the prefix cache."""
    return int(kv_bytes * _PREFIX_SHARE)


def limit_buffers(kv_bytes: int) -> None:
    """Bound the freed buffers that MLX holds on to, which count for the system as memory in use."""
    mx.set_cache_limit(min(_BUFFERS, kv_bytes // 2))


def give_back() -> None:
    """Give freed memory back to the system where the C library keeps it, as glibc does."""
    mx.clear_cache()
    if _trim is not None:
        _trim(0)


def default_chunk() -> int:
    """Prompt tokens of a step. On the CPU larger chunks take longer a token, and hold running sequences up."""
    return _CPU_CHUNK if mx.default_device() == mx.cpu else _GPU_CHUNK


def room() -> int:
    """Bytes that the device has for a model."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if mx.default_device() == mx.gpu:
        return int(_GPU_SHARE * int(mx.device_info().get("max_recommended_working_set_size", memory)))
    return int(_CPU_SHARE * memory)


def leaves(cache: Iterable[LayerCache]) -> Iterator[LayerCache]:
    """The caches of all layers, those in lists one by one."""
    for layer in cache:
        if isinstance(layer, CacheList):
            yield from leaves(layer.caches)
        else:
            yield layer
