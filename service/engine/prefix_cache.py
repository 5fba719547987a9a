"""Keys and values of prompts that were processed before, found by the tokens that they begin with."""

import copy
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import CacheList, KVCache

from service.engine.memory import leaves
from service.engine.radix_tree import Node, Path, RadixTree, pack
from service.engine.sequence import LayerCache


@dataclass(frozen=True, slots=True)
class Match:
    """What a prompt's first `length` tokens left in a cache. The borrower may change the cache."""

    length: int
    cache: list[LayerCache]


class PrefixCache:
    """Remembers one model's caches, of single rows, by key and tokens; the least recently used ones make room.

    Plain KV caches are found at any length of a shared prefix, and what sequences share is held once. Others (windows,
    states) cannot be cut: they are found again only where the whole of what was inserted is a prefix.

    Not for use from several threads: MLX's arrays stay on one.
    """

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` bounds the keys and values held; 0 keeps nothing."""
        self._max_bytes = max_bytes
        self._tree: RadixTree[_Segment | _Snapshot] = RadixTree()
        self._blank: list[LayerCache] = []

    def __len__(self) -> int:
        """Entries: pieces of sequences, or snapshots."""
        return len(self._tree)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays held."""
        return self._tree.nbytes

    @property
    def max_bytes(self) -> int:
        """The most bytes to hold. Setting it lower makes it so at once."""
        return self._max_bytes

    @max_bytes.setter
    def max_bytes(self, value: int) -> None:
        self._max_bytes = value
        self.shrink(value)

    def peek(self, key: Hashable, tokens: Sequence[int]) -> int:
        """How many tokens `match` would find. Refreshes and copies nothing."""
        found = self._find(key, tokens)
        return found.length if found else 0

    def match(self, key: Hashable, tokens: Sequence[int]) -> Match | None:
        """Find the longest known prefix that leaves at least one of `tokens` to process.

        The cache is the borrower's own, with room for all of `tokens` where its layers are plain KV caches.
        """
        found = self._find(key, tokens)
        if found is None:
            return None
        last = found.nodes[-1]
        self._tree.use(last)
        if isinstance(last.value, _Snapshot):
            return Match(found.length, last.value.restored())
        return Match(found.length, self._joined(found, room=len(tokens)))

    def insert(self, key: Hashable, tokens: Sequence[int], cache: list[LayerCache]) -> None:
        """Remember what exactly `tokens` left in `cache`, which stays the caller's to change.

        What would not fit in `max_bytes` by itself is not kept. Raises ValueError for a cache of other tokens.
        """
        if not self._max_bytes or not tokens:
            return
        for leaf in leaves(cache):
            if getattr(leaf, "offset", len(tokens)) != len(tokens):
                raise ValueError(f"a cache of {leaf.offset} tokens cannot stand for {len(tokens)}")
        insert = self._insert_segment if can_cut(cache) else self._insert_snapshot
        insert(key, tokens, cache)

    def shrink(self, to_bytes: int) -> None:
        """Drop the least recently used entries until the rest fits."""
        while self._tree and self._tree.nbytes > to_bytes:
            self._tree.drop_oldest()

    def drop(self, concerned: Callable[[Hashable], bool]) -> None:
        """Drop what was remembered by the keys that are concerned."""
        for key in filter(concerned, self._tree.keys):
            self._tree.drop(key)

    def clear(self) -> tuple[int, int]:
        """Drop everything; how many entries and bytes that was."""
        dropped = len(self._tree), self._tree.nbytes
        while self._tree:
            self._tree.drop_oldest()
        return dropped

    def _find(self, key: Hashable, tokens: Sequence[int]) -> "Path[_Segment | _Snapshot] | None":
        """The nodes that hold the longest usable prefix; None if there is none."""
        path = self._tree.walk(key, pack(tokens[:-1]))
        nodes = [node for node in path.nodes if _is_usable(node, path.length)]
        return Path(nodes, min(path.length, nodes[-1].end)) if nodes else None

    def _joined(self, found: "Path[_Segment | _Snapshot]", room: int) -> list[LayerCache]:
        """Put the segments of a path together, in caches with room for that many tokens."""
        segments = [node.value.arrays for node in found.nodes if isinstance(node.value, _Segment)]
        capacity = -(-room // KVCache.step) * KVCache.step
        arrays = [_concatenated(parts, found.length, capacity) for parts in zip(*segments, strict=True)]
        mx.eval(arrays)
        cache = _blank(self._blank)
        for leaf, keys, values in zip(leaves(cache), arrays[::2], arrays[1::2], strict=True):
            leaf.keys, leaf.values, leaf.offset = keys, values, found.length
        return cache

    def _insert_segment(self, key: Hashable, tokens: Sequence[int], cache: list[LayerCache]) -> None:
        packed = pack(tokens)
        path = self._tree.walk(key, packed)
        if path.length == len(tokens):
            self._tree.use(path.nodes[-1])
            return
        segment = _Segment.of(cache, path.length, len(tokens))
        if segment.nbytes * len(tokens) > self._max_bytes * (len(tokens) - path.length):
            return
        if path.nodes:
            self._tree.cut(path)  # what it stands on is the last to make room for it
        self._blank = _blank(cache)
        self._put(key, packed, segment)

    def _insert_snapshot(self, key: Hashable, tokens: Sequence[int], cache: list[LayerCache]) -> None:
        packed = pack(tokens)
        path = self._tree.walk(key, packed)
        if path.nodes and path.nodes[-1].end == len(tokens) == path.length and path.nodes[-1].value:
            self._tree.use(path.nodes[-1])
            return
        snapshot = _Snapshot.of(cache)
        if snapshot.nbytes <= self._max_bytes:
            self._put(key, packed, snapshot)

    def _put(self, key: Hashable, packed: bytes, value: "_Segment | _Snapshot") -> None:
        # Room is made first, so that the copy does not come on top of the bound.
        self.shrink(self._max_bytes - value.nbytes)
        mx.eval(value.arrays)
        self._tree.put(key, packed, value)


@dataclass(frozen=True, slots=True)
class _Segment:
    """Keys and values of some tokens in a row: keys, values of each KV cache, (1, heads, tokens, width)."""

    arrays: list[mx.array]

    @classmethod
    def of(cls, cache: list[LayerCache], start: int, stop: int) -> "_Segment":
        """Copies, to be evaluated, of what the tokens from `start` to `stop` left in plain KV caches."""
        both = ((leaf.keys, leaf.values) for leaf in leaves(cache))
        return cls([_copy_of(array[..., start:stop, :]) for pair in both for array in pair])

    @property
    def is_whole(self) -> bool:
        return False

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)

    def cut(self, at: int, /) -> "tuple[_Segment, _Segment]":
        """Copies of both parts: a view would keep the memory of the whole."""
        head = _Segment([_copy_of(array[..., :at, :]) for array in self.arrays])
        tail = _Segment([_copy_of(array[..., at:, :]) for array in self.arrays])
        mx.eval(head.arrays, tail.arrays)
        return head, tail


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Whole caches, and all arrays in them."""

    cache: list[LayerCache]
    arrays: list[mx.array]

    @classmethod
    def of(cls, cache: list[LayerCache]) -> "_Snapshot":
        """Copies, to be evaluated."""
        arrays: list[mx.array] = []
        return cls([_copied(layer, arrays) for layer in cache], arrays)

    @property
    def is_whole(self) -> bool:
        return True

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)

    def cut(self, _at: int, /) -> "tuple[None, _Snapshot]":
        """It belongs to the edge's end, wherever that is cut."""
        return None, self

    def restored(self) -> list[LayerCache]:
        """Caches that are the borrower's own."""
        copies = _Snapshot.of(self.cache)
        mx.eval(copies.arrays)
        return copies.cache


def can_cut(cache: list[LayerCache]) -> bool:
    """Whether prefixes of any length can be had from such caches; else only those inserted."""
    return all(type(leaf) is KVCache for leaf in leaves(cache))


def _is_usable(node: "Node[_Segment | _Snapshot]", length: int) -> bool:
    return isinstance(node.value, _Segment) or (node.value is not None and node.end <= length)


def _blank(cache: Iterable[LayerCache]) -> list[LayerCache]:
    """Empty caches of the same kinds: plain KV caches and lists of them."""
    return [
        CacheList(*_blank(layer.caches)) if isinstance(layer, CacheList) else KVCache()  # type: ignore[no-untyped-call]
        for layer in cache
    ]


def _concatenated(parts: Sequence[mx.array], length: int, capacity: int) -> mx.array:
    """The first `length` tokens of the parts, with zeros up to `capacity`."""
    *before, last = parts
    rest = length - sum(part.shape[2] for part in before)
    _, heads, _, width = last.shape
    room = mx.zeros((1, heads, capacity - length, width), last.dtype)
    return mx.concatenate([*before, last[..., :rest, :], room], axis=2)


def _copied(layer: LayerCache, arrays: list[mx.array]) -> LayerCache:
    """A cache of the same class with arrays of its own, which are added to `arrays`."""
    fresh = copy.copy(layer)
    if isinstance(layer, KVCache) and layer.keys is not None:
        # Without the room for more.
        fresh.keys, fresh.values = layer.keys_and_values()  # type: ignore[no-untyped-call]
    for name, held in list(vars(fresh).items()):
        setattr(fresh, name, _fresh(held, arrays))
    return fresh


def _fresh(held: Any, arrays: list[mx.array]) -> Any:
    if isinstance(held, mx.array):
        arrays.append(_copy_of(held))
        return arrays[-1]
    if isinstance(held, list | tuple):
        return type(held)(_fresh(each, arrays) for each in held)
    return _copied(held, arrays) if hasattr(held, "state") else held


def _copy_of(array: mx.array) -> mx.array:
    # mx.contiguous would share a buffer that is up to 16 KiB larger, and so keep the rest of it too.
    return mx.array(array)
