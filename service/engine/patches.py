"""Functions of mlx-lm's models, replaced in the modules that a model is made of."""

import math
import sys
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.models import activations

from service.engine import attention

Function = Callable[..., Any]

_library_swiglu = activations.swiglu
_LOG2_E = math.log2(math.e)


def replace(model: Module, name: str, old: Collection[Function], new: Function) -> list[ModuleType]:
    """Put `new` in the place of any of `old` where modules of the model know it by `name`; these modules."""
    names = {type(module).__module__ for module in model.modules()}  # type: ignore[no-untyped-call]
    modules = [sys.modules[module] for module in names if module in sys.modules]  # not those that a model brings itself
    concerned = [module for module in modules if getattr(module, name, None) in old]
    for module in concerned:
        setattr(module, name, new)
    return concerned


def suit_cpu(model: Module) -> None:
    """Replace what MLX's CPU build computes slowly."""
    replace(model, "swiglu", {_library_swiglu}, swiglu)
    replace(model, attention.NAME, {attention.library}, attention.on_cpu)


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """mlx-lm's activation of that name. On the CPU a power of two takes less than half the time of an exponential."""
    if gate.dtype != mx.float32:
        library: mx.array = _library_swiglu(gate, x)
        return library
    return gate / (1 + mx.power(2.0, gate * -_LOG2_E)) * x
