"""`python -m tests.bench.bounds`: a step of the engine and of the library, beside the model's matrix products alone.

The products are those of the library's step, one after the other, as it has MLX multiply them. All sides run in this
process, in turn; the service, its frames and the client are not in it.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from mlx.nn.layers.linear import Linear
from mlx_lm.generate import BatchGenerator, generation_stream

from service.engine.frames import Sampling, Submit
from service.engine.limits import Limits
from service.engine.loader import load
from service.engine.memory import Footprint
from service.engine.scheduler import Scheduler
from service.pool.blas import engine_environment
from tests.bench.models import MODELS
from tests.bench.rounds import alternate
from tests.bench.sides.baseline import THREADS

_PROMPT = 32
_MARK = "MLX_GRPC_BENCH_BOUNDS"


def products(model: Module, rows: int) -> Iterator[None]:
    """The products of a step with all weights, the head's too."""
    weights = [layer.weight for layer in model.modules() if isinstance(layer, Linear)]  # type: ignore[no-untyped-call]
    weights.append(model.model.embed_tokens.weight)
    inputs = {width: mx.random.normal((rows, width)) for width in {weight.shape[1] for weight in weights}}
    while True:
        mx.eval([inputs[weight.shape[1]] @ weight.T for weight in weights])
        yield


def ours(model: Module, kv_bytes: int, rows: int) -> Iterator[None]:
    """The engine's scheduler."""
    scheduler = Scheduler(model, Limits(rows, rows * _PROMPT, kv_bytes, 0), Footprint.of(model))
    for row, prompt in enumerate(_prompts(rows)):
        scheduler.submit(Submit(row, prompt, Sampling(row, temperature=0), 1 << 16, bypass=True))
    while True:
        if any(row.tokens for row in scheduler.step().rows):
            yield


def library(model: Module, rows: int) -> Iterator[None]:
    """mlx-lm's batches."""
    generator = BatchGenerator(model, completion_batch_size=rows, prefill_batch_size=rows)
    generator.insert(_prompts(rows), [1 << 16] * rows)
    while True:
        if generator.next()[1]:  # type: ignore[no-untyped-call]
            yield


def timed(side: Iterator[None], steps: int) -> float:
    """Seconds of a step, after one that is not counted."""
    next(side)
    began = time.perf_counter()
    for _ in range(steps):
        next(side)
    seconds = time.perf_counter() - began
    for stream in (mx.default_stream(mx.default_device()), generation_stream):
        mx.synchronize(stream)  # both sides have begun another step
    return seconds / steps


def main() -> None:
    """Print a line for each number of rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bounds", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["smollm2"])
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    if _MARK not in os.environ:  # once more, with the BLAS that the engine gets
        os.execve(sys.executable, sys.orig_argv, engine_environment(THREADS) | {_MARK: "1"})
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.models:
            folder = MODELS[name](Path(scratch)).folder
            for rows in options.rows:
                print(f"{name}, {rows} rows: {_compare(folder, rows, options.rounds, options.steps)}", flush=True)


def _compare(folder: Path, rows: int, rounds: int, steps: int) -> str:
    """Each side has a model of its own, since the engine replaces what the library computes slowly."""
    mine, loaded = load(folder, folder)
    theirs = load(folder, folder)[0]
    sides = {
        "matrix products": products(theirs, rows),
        "engine": ours(mine, loaded.kv_bytes, rows),
        "library": library(theirs, rows),
    }
    taken = alternate({name: partial(timed, side, steps) for name, side in sides.items()}, rounds)
    part = statistics.median(a / b for a, b in zip(taken["matrix products"], taken["engine"], strict=True))
    most = statistics.median(b / a for a, b in zip(taken["matrix products"], taken["library"], strict=True))
    reached = statistics.median(b / a for a, b in zip(taken["engine"], taken["library"], strict=True))
    step = ", ".join(f"{name} {1e3 * statistics.median(seconds):.1f} ms" for name, seconds in taken.items())
    return f"{step}; products ÷ engine {part:.2f}, library ÷ products {most:.2f}, library ÷ engine {reached:.2f}"


def _prompts(rows: int) -> list[list[int]]:
    return [list(map(int, prompt)) for prompt in np.random.default_rng(0).integers(5, 49_000, (rows, _PROMPT))]


if __name__ == "__main__":
    main()
