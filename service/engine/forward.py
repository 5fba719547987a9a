"""A model's forward pass, split where decoding profits: the layers, and the output head."""

from collections.abc import Sequence as Items

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module

from service.engine.blocked_linear import use_blocks
from service.engine.head import Glance, HostHead, host_head
from service.engine.loras import Loras
from service.engine.nucleus import Logits
from service.engine.patches import suit_cpu
from service.engine.rotary import share_angles
from service.engine.sequence import LayerCache


class Forward:
    """Runs a model on token ids of shape (rows, tokens).

    On the CPU NumPy computes the output head where it is faster, if a model's logits are nothing but that.
    """

    def __init__(self, model: Module) -> None:
        """`model` maps token ids to logits of shape (rows, tokens, vocabulary)."""
        self.model = model
        self.loras = Loras(model)
        self._head: HostHead | None = None
        if mx.default_device() == mx.cpu:
            suit_cpu(model)
            share_angles(model)
            use_blocks(model)
            self._head = host_head(model)

    @property
    def reads_several(self) -> bool:
        """Whether `start` takes hardly longer for a few tokens of a row than for one: the weights are read once then.

        A head that MLX computes on a CPU would take so many times as long, as it is computed for each of them.
        """
        return self._head is not None or mx.default_device() == mx.gpu

    def prefill(self, tokens: mx.array, cache: list[LayerCache], loras: Items[int] = ()) -> None:
        """Put tokens into the caches. Nothing is computed until the caches are evaluated, and then not the head."""
        self.logits(tokens, cache, loras)

    def logits(self, tokens: mx.array, cache: list[LayerCache], loras: Items[int] = ()) -> mx.array:
        """Logits after each token. `loras` are the numbers of the rows' LoRAs, nothing where none has one."""
        with self.loras.of(loras):
            logits: mx.array = self.model(tokens, cache=cache)
        return logits

    def start(self, tokens: mx.array, cache: list[LayerCache], loras: Items[int] = ()) -> "Pending":
        """Begin to compute the logits after the last token of each row."""
        if self._head is not None and self._head.suits(len(tokens)) and not self.loras.change_head(loras):
            with self.loras.of(loras):
                pending = Pending(self.model.model(tokens, cache=cache)[:, -1, :], self._head)
        else:
            pending = Pending(self.logits(tokens, cache, loras)[:, -1, :].astype(mx.float32))
        mx.async_eval(pending.array)  # type: ignore[no-untyped-call]
        return pending


class Pending:
    """Logits of a step that is under way, or the hidden states that the head makes them of."""

    def __init__(self, array: mx.array, head: HostHead | None = None) -> None:
        """`array` has a row for each sequence."""
        self.array = array
        self._head = head

    def of(self, rows: list[int]) -> "Pending":
        """The same of some rows only."""
        return Pending(self.array[mx.array(rows)], self._head)

    def glance(self, whole: Items[int] = ()) -> Glance:
        """Wait for the likeliest token of each row, and all logits of some, as `logits` gives them."""
        mx.eval(self.array)
        rows = np.array(self.array, copy=False)
        return Glance.of(rows, whole) if self._head is None else self._head.glance(rows, whole)

    def logits(self) -> Logits:
        """Wait for the logits, of shape (rows, vocabulary). They are read before the next step, and not changed."""
        mx.eval(self.array)
        rows = np.array(self.array, copy=False)
        return rows if self._head is None else self._head(rows)
