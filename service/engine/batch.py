"""The running sequences, decoded together: one token for each in a step."""

from collections.abc import Callable, Collection
from collections.abc import Sequence as Items

import mlx.core as mx

from service.engine.bands import BandedCache
from service.engine.constraint import prepare
from service.engine.drawing import Drawn, drawn
from service.engine.forward import Forward, Pending
from service.engine.sequence import LayerCache, Sequence

_SPARE = 128
"""Tokens of padding a row that a band may have, whatever its rows' lengths."""


class Band:
    """Rows of about one length that share their caches.

    A single row keeps its own plain caches, which need no padding mask; several rows share mlx-lm's merged ones.
    """

    def __init__(self, rows: list[Sequence], cache: list[LayerCache]) -> None:
        """`cache` is merged, unless there is one row."""
        self.rows = rows
        self.cache = cache

    @property
    def length(self) -> int:
        """Tokens that each row has room for, its padding included."""
        return max(row.length for row in self.rows)

    def takes(self, others: Items[Sequence]) -> bool:
        """Whether other rows are alike enough: at most half of what is there, or a little, may be padding."""
        lengths = [row.length for row in (*self.rows, *others)]
        padding = len(lengths) * max(lengths) - sum(lengths)
        return padding <= max(sum(lengths) // 2, _SPARE * len(lengths))

    def extend(self, other: "Band") -> None:
        """Take the rows of another band, and their caches."""
        if len(self.rows) == len(other.rows) == 1:
            self.cache = merge([self.cache, other.cache])
        else:
            for mine, theirs in zip(self.merged(), other.merged(), strict=True):
                mine.extend(theirs)
        self.rows += other.rows

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but these, and the memory of their caches."""
        if len(rows) == 1:
            self.cache = self.extract(rows[0])
        elif not rows:
            self.cache = []
        else:
            for layer in self.cache:
                layer.filter(rows)
        self.rows = [self.rows[row] for row in rows]

    def extract(self, row: int) -> list[LayerCache]:
        """A row's caches, by themselves."""
        return self.cache if len(self.rows) == 1 else [layer.extract(row) for layer in self.cache]

    def merged(self) -> list[LayerCache]:
        """Its caches, merged where there is one row too."""
        if len(self.rows) == 1:
            self.cache = merge([self.cache])
        return self.cache


class Batch:
    """All rows that run. A step is started, and collected when what it computes is needed."""

    def __init__(self, forward: Forward, *, banded: bool) -> None:
        """`banded`: whether the model's attention knows bands; else all rows share one."""
        self._forward = forward
        self._banded = banded
        self._bands: list[Band] = []
        self._cache: list[LayerCache] = []
        self._pending: Pending | None = None

    def __len__(self) -> int:
        return sum(len(band.rows) for band in self._bands)

    @property
    def rows(self) -> list[Sequence]:
        """The sequences, in the order of the logits' rows."""
        return [row for band in self._bands for row in band.rows]

    @property
    def bands(self) -> list[Band]:
        """The rows by length."""
        return self._bands

    def join(self, arrivals: Items[Band]) -> None:
        """Add sequences whose prompts are processed, between two steps."""
        for arrival in arrivals:
            for band in self._bands:
                if not self._banded or band.takes(arrival.rows):
                    band.extend(arrival)
                    break
            else:
                self._bands.append(arrival)
        self._arrange()

    def grows_by(self, sequence: Sequence, size: Callable[[int], int]) -> int:
        """Bytes that another row would take, the padding that it brings or gets counted; `size` is that of a row."""
        alone = size(sequence.length + 1)
        for band in self._bands:
            if not self._banded or band.takes([sequence]):
                now, then = size(band.length + 1), max(alone, size(band.length + 1))
                return (len(band.rows) + 1) * then - len(band.rows) * now
        return alone

    def leave(self, leavers: Collection[Sequence]) -> None:
        """Drop sequences and the memory of their caches, whether a step is under way or not."""
        gone = set(map(id, leavers))
        rows = self.rows
        keep = [index for index, row in enumerate(rows) if id(row) not in gone]
        if len(keep) == len(rows):
            return
        for band in self._bands:
            kept = [index for index, row in enumerate(band.rows) if id(row) not in gone]
            if len(kept) < len(band.rows):
                band.keep(kept)
        self._bands = [band for band in self._bands if band.rows]
        if self._pending is not None:
            self._pending = self._pending.of(keep) if keep else None
        self._arrange()

    def clear(self) -> None:
        """Drop all sequences, whatever state a failure has left their caches in."""
        self._bands, self._cache, self._pending = [], [], None

    def extract(self, sequence: Sequence) -> list[LayerCache]:
        """A sequence's own caches, between two steps. The batch may still use them."""
        band = next(band for band in self._bands if sequence in band.rows)
        return band.extract(band.rows.index(sequence))

    def start(self) -> None:
        """Begin a step; the device works on it while the caller goes on."""
        if self._bands and self._pending is None:
            tokens = mx.array([row.read() for row in self.rows])  # several of one that is alone, or else one of each
            self._pending = self._forward.start(tokens, self._cache, [row.lora for row in self.rows])
            prepare([row.constraint for row in self.rows if row.constraint is not None and row.forced is None])

    def collect(self) -> list[Drawn]:
        """Wait for the step that was started and draw a token for each row; nothing where none was."""
        if self._pending is None:
            return []
        pending, self._pending = self._pending, None
        return drawn(self.rows, pending)

    def _arrange(self) -> None:
        """Join bands that have grown alike, and put the layers' caches together."""
        if self._banded and self._pending is None:  # a step that is under way has the rows in today's order
            bands: list[Band] = []
            for band in self._bands:
                if (like := next((other for other in bands if other.takes(band.rows)), None)) is None:
                    bands.append(band)
                else:
                    like.extend(band)
            self._bands = bands
        sizes = [len(band.rows) for band in self._bands]
        layers = zip(*(band.cache for band in self._bands), strict=True)
        self._cache = [layer[0] if len(layer) == 1 else BandedCache(list(layer), sizes) for layer in layers]


def can_merge(cache: list[LayerCache]) -> bool:
    """Whether rows with such caches can share a batch."""
    return all(can_merge(layer.caches) if hasattr(layer, "caches") else hasattr(layer, "merge") for layer in cache)


def merge(caches: Items[list[LayerCache]]) -> list[LayerCache]:
    """One cache a layer for several rows."""
    return [layers[0].merge(list(layers)) for layers in zip(*caches, strict=True)]
