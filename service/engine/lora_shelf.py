"""The factors of one layer, of all LoRAs that change it, as a forward pass multiplies by them."""

import mlx.core as mx

from service.engine.lora_selection import Numbers, Places, Selection

_SLIM = 32
"""Numbers that a token is taken to by the factors of all LoRAs together, up to which that is faster than each row by
its own: 32 on a CPU with OpenBLAS, where with 64 it is a tenth slower, with 256 a fifth."""

_BATCHED = 3
"""Dimensions of an input of shape (rows, tokens, input)."""


class Shelf:
    """The factors of one rank, stacked: `a` of shape (LoRAs, rank, input), `b` of shape (LoRAs, rank, output)."""

    def __init__(self, numbers: Numbers, a: mx.array, b: mx.array) -> None:
        """`numbers` are those of the LoRAs, in the order of the factors."""
        self.numbers = numbers
        self.rank = a.shape[1]
        self._a, self._b = a, b
        # As one matrix of all factors, which is the same memory.
        self._all_a, self._all_b = a.reshape(-1, a.shape[2]).T, b.reshape(-1, b.shape[2])
        self._each_a = a.swapaxes(1, 2)
        mx.eval(self._a, self._b, self._all_a, self._all_b, self._each_a)
        self._ones: dict[int, tuple[mx.array, mx.array]] = {}
        # MLX's CPU build gathers matrices of this type only.
        self._gathers = a.dtype == mx.float32 or mx.default_device() == mx.gpu

    @property
    def nbytes(self) -> int:
        """Bytes of the factors."""
        return self._a.nbytes + self._b.nbytes

    def with_one(self, number: int, a: mx.array, b: mx.array) -> "Shelf":
        """A shelf with another LoRA's factors, of shape (rank, input) and (rank, output)."""
        stacked = [mx.concatenate([old, new[None]]) for old, new in ((self._a, a), (self._b, b))]
        return Shelf((*self.numbers, number), *stacked)

    def without(self, number: int) -> "Shelf":
        """A shelf without a LoRA's factors."""
        kept = [place for place, other in enumerate(self.numbers) if other != number]
        places = mx.array(kept)
        return Shelf(tuple(self.numbers[place] for place in kept), self._a[places], self._b[places])

    def add(self, y: mx.array, x: mx.array, selection: Selection) -> mx.array:
        """What the rows' LoRAs make of a layer's output `y`, for its input `x` with a row for each of the pass's."""
        places = selection.places(self.numbers, self.rank, self._a.dtype)
        if places is None:
            return y
        if places.only is not None:
            a, b = self._one(places.only)
            return mx.addmm(y, x @ a, b)
        if x.ndim == _BATCHED and len(x) == len(selection.rows):
            return self._added(y, x, places)
        shape = (len(selection.rows), -1)
        return self._added(y.reshape(*shape, y.shape[-1]), x.reshape(*shape, x.shape[-1]), places).reshape(y.shape)

    def _one(self, place: int) -> tuple[mx.array, mx.array]:
        """One LoRA's factors, of shape (input, rank) and (rank, output). They are kept, as cutting takes a while."""
        if place not in self._ones:
            self._ones[place] = self._a[place].T, self._b[place]
        return self._ones[place]

    def _added(self, y: mx.array, x: mx.array, places: Places) -> mx.array:
        """The same for rows of different LoRAs. `x` has shape (rows, tokens, input), `y` (rows, tokens, output)."""
        # Nowhere a product with a mask: what another row's LoRA makes of a row may be infinite.
        if x.shape[1] == 1 and len(self._all_b) <= _SLIM:
            low = mx.where(places.own, x.reshape(len(x), -1) @ self._all_a, places.nothing)
            return mx.addmm(y.reshape(len(y), -1), low, self._all_b)[:, None]
        if not self._gathers:
            return mx.addmm(y, mx.where(places.own[:, None], x @ self._all_a, 0), self._all_b)
        low = mx.gather_mm(x, self._each_a, rhs_indices=places.index)
        if places.has is not None:
            low = mx.where(places.has, low, 0)
        return y + mx.gather_mm(low, self._b, rhs_indices=places.index)


def shelf_of(number: int, a: mx.array, b: mx.array) -> Shelf:
    """A shelf with the factors of one LoRA, of shape (rank, input) and (rank, output)."""
    return Shelf((number,), mx.contiguous(a)[None], mx.contiguous(b)[None])
