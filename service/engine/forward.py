"""A model's forward pass, split where decoding profits: the layers, and the output head."""

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import make_prompt_cache

from service.engine.nucleus import Logits
from service.engine.sequence import LayerCache

_PROBE = [1, 2, 3]
_CLOSE = 1e-4
"""How far the head's two forms may lie apart, as a part of the largest logit."""


class Forward:
    """Runs a model on token ids of shape (rows, tokens).

    On the CPU the output head of a single row is a matrix-vector product that NumPy's BLAS does 2 to 10 times as fast
    as MLX; it reads the weights where they lie.
    """

    def __init__(self, model: Module) -> None:
        """`model` maps token ids to logits of shape (rows, tokens, vocabulary)."""
        self.model = model
        self._layers = getattr(model, "model", None)
        self._head = _host_head(model) if mx.default_device() == mx.cpu else None

    def prefill(self, tokens: mx.array, cache: list[LayerCache]) -> None:
        """Put tokens into the caches. Nothing is computed until the caches are evaluated, and then not the head."""
        self.model(tokens, cache=cache)

    def logits(self, tokens: mx.array, cache: list[LayerCache]) -> mx.array:
        """Logits after each token."""
        logits: mx.array = self.model(tokens, cache=cache)
        return logits

    def start(self, tokens: mx.array, cache: list[LayerCache]) -> "Pending":
        """Begin to compute the logits after the last token of each row."""
        if self._head is not None and self._layers is not None and len(tokens) == 1:
            pending = Pending(self._layers(tokens, cache=cache)[:, -1, :], self._head)
        else:
            pending = Pending(self.logits(tokens, cache)[:, -1, :].astype(mx.float32))
        mx.async_eval(pending.array)  # type: ignore[no-untyped-call]
        return pending


class Pending:
    """Logits of a step that is under way, or the hidden states that the head makes them of."""

    def __init__(self, array: mx.array, head: Logits | None = None) -> None:
        """`array` has a row for each sequence; `head` has shape (vocabulary, width)."""
        self.array = array
        self._head = head

    def of(self, rows: list[int]) -> "Pending":
        """The same of some rows only."""
        return Pending(self.array[mx.array(rows)], self._head)

    def logits(self) -> Logits:
        """Wait for the logits, of shape (rows, vocabulary). They may be MLX's own memory: not to be changed."""
        mx.eval(self.array)
        rows = np.array(self.array, copy=False)
        return rows if self._head is None else (self._head @ rows[0])[None]


def _host_head(model: Module) -> Logits | None:
    """The output head's weights as a view, where the logits are but their product with the last layer's output."""
    weights = _head_weights(model)
    if weights is None or weights.dtype != mx.float32:
        return None
    tokens = mx.array([_PROBE])
    try:
        logits = model(tokens, cache=make_prompt_cache(model))[0, -1]
        hidden = model.model(tokens, cache=make_prompt_cache(model))[0, -1]
        mx.eval(logits, hidden)
        head: Logits = np.array(weights, copy=False)
        apart = np.abs(head @ np.array(hidden) - np.array(logits)).max()
    except (AttributeError, TypeError, ValueError, RuntimeError):  # a model that is built in another way
        return None
    return head if apart <= _CLOSE * max(1.0, float(mx.abs(logits).max())) else None


def _head_weights(model: Module) -> mx.array | None:
    """Weights of shape (vocabulary, width), of a head of its own or of the embedding that serves as one."""
    head = getattr(model, "lm_head", None) or getattr(getattr(model, "model", None), "embed_tokens", None)
    weights = getattr(head, "weight", None)
    return weights if isinstance(weights, mx.array) and "bias" not in (head or {}) else None
