"""Dense layers that multiply their weights in blocks where BLAS is faster so."""

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.layers.linear import Linear

from service.engine.blocks import are_fast, block_of

_FEWEST_WEIGHTS = 1 << 18
"""Weights of a layer from which on it pays to turn its input and its output."""
_MOST_ROWS = 32
"""Rows up to which it pays: with more, the blocks are too short."""


class BlockedLinear(Linear):
    """A dense layer on the CPU. A layer becomes one in its place, so that the model around it stays as it is."""

    def __call__(self, x: mx.array) -> mx.array:
        outputs, width = self.weight.shape
        rows = x.size // width
        block = block_of(outputs, width, rows) if rows <= _MOST_ROWS and x.dtype == mx.float32 else 0
        if not block:
            plain: mx.array = super().__call__(x)
            return plain
        turned = mx.contiguous(x.reshape(rows, width).T)
        # A batch on both sides: of a batch and a matrix MLX makes one product again.
        product = self.weight.reshape(-1, block, width) @ turned[None]
        y = mx.contiguous(product.reshape(outputs, rows).T).reshape(*x.shape[:-1], outputs)
        return y + self.bias if "bias" in self else y


def use_blocks(model: Module) -> None:
    """Let the large dense layers of a model work so, if the BLAS in use gains by it."""
    if not are_fast():
        return
    for layer in model.modules():  # type: ignore[no-untyped-call]
        if type(layer) is Linear and layer.weight.dtype == mx.float32 and layer.weight.size >= _FEWEST_WEIGHTS:
            layer.__class__ = BlockedLinear
