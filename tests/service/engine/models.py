"""Tiny models in the process of the test, and ways to run them. MLX must be used from one thread only."""

import random
import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import KVCache, QuantizedKVCache, make_prompt_cache

from service.engine.compiler import Compiler
from service.engine.frames import Logprob, Row, Sampling, Submit
from service.engine.limits import Limits
from service.engine.memory import Footprint
from service.engine.scheduler import Scheduler
from tests import tiny

VOCAB = 320
GREEDY = Sampling(seed=0, temperature=0)


def llama() -> Module:
    return tiny.build(tiny.llama_config(VOCAB))


def wide() -> Module:
    """Build a llama whose heads are wide enough to be quantised."""
    return tiny.build(tiny.llama_config(VOCAB, num_attention_heads=2, num_key_value_heads=1))


def sliding() -> Module:
    return tiny.build(tiny.sliding_config(VOCAB, window=8))


def gemma() -> Module:
    return tiny.build(tiny.gemma_config(VOCAB, window=8))


def mamba() -> Module:
    return tiny.build(tiny.mamba_config(VOCAB))


class Wrapped(Module):
    """A model with something changed."""

    def __init__(self, inner: Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inner = inner
        self.layers = inner.layers

    def make_cache(self) -> Any:
        return make_prompt_cache(self.inner)

    def __call__(self, tokens: mx.array, cache: Any) -> mx.array:
        logits: mx.array = self.inner(tokens, cache=cache)
        return logits


class Unmergeable(Wrapped):
    """Its caches are quantised, and such cannot share a batch."""

    def make_cache(self) -> Any:
        return [QuantizedKVCache(group_size=32, bits=8) for _ in self.layers]


class _Alone(KVCache):
    """A cache that cannot share a batch."""

    def __getattribute__(self, name: str) -> Any:
        if name == "merge":
            raise AttributeError(name)
        return super().__getattribute__(name)


class Solitary(Wrapped):
    """A llama, exactly, but for caches that cannot share a batch."""

    def make_cache(self) -> Any:
        return [_Alone() for _ in self.layers]  # type: ignore[no-untyped-call]


class Faulty(Wrapped):
    """Raises while `fault` says so of the tokens that it is given."""

    def __init__(self, inner: Module) -> None:
        super().__init__(inner)
        self.fault: Callable[[list[list[int]]], bool] = lambda _: False

    def __call__(self, tokens: mx.array, cache: Any) -> mx.array:
        if self.fault(tokens.tolist()):  # type: ignore[arg-type]
            raise RuntimeError("the model failed")
        return super().__call__(tokens, cache)


MODELS: dict[str, Callable[[], Module]] = {"llama": llama, "sliding": sliding, "gemma": gemma, "mamba": mamba}


def prompts(count: int, longest: int = 40, seed: int = 0) -> list[list[int]]:
    """Give prompts of 1 to `longest` tokens."""
    chance = random.Random(seed)
    lengths = [1, *(chance.randint(1, longest) for _ in range(count - 1))]
    return [[chance.randrange(VOCAB) for _ in range(length)] for length in lengths]


class Engine:
    """A scheduler that is stepped by hand; rows are gathered by sequence."""

    def __init__(
        self,
        model: Module,
        max_running: int = 8,
        prefill_chunk: int = 512,
        kv_bytes: int = 1 << 30,
        prefix_bytes: int = 0,
        compiler: Compiler | None = None,
    ) -> None:
        limits = Limits(max_running, prefill_chunk, kv_bytes, prefix_bytes)
        self.scheduler = Scheduler(model, limits, Footprint.of(model), compiler)
        self.tokens: dict[int, list[int]] = {}
        self.choices: dict[tuple[int, int], list[int]] = {}
        self.ends: dict[int, Row] = {}
        """How each sequence ended, its first choice if there are several."""
        self.finishes: dict[tuple[int, int], str] = {}
        self.processed: dict[int, list[int]] = {}
        self.cached: dict[int, int] = {}
        self.places: dict[int, list[int]] = {}
        self.logprobs: dict[tuple[int, int], list[Logprob]] = {}
        self.scores: dict[int, list[Logprob | None]] = {}

    def submit(
        self, seq: int, prompt: list[int], sampling: Sampling = GREEDY, max_tokens: int = 20, **more: Any
    ) -> None:
        """Queue a sequence."""
        self.tokens[seq] = []
        self.processed[seq] = []
        self.scheduler.submit(Submit(seq, prompt, sampling, max_tokens, **more))

    def step(self) -> None:
        """Take one step."""
        done = self.scheduler.step()
        for progress in done.progress:
            self.processed[progress.seq].append(progress.processed)
            self.cached[progress.seq] = progress.cached
            self.scores.setdefault(progress.seq, []).extend(progress.logprobs)
        for queued in done.queued:
            self.places.setdefault(queued.seq, []).append(queued.position)
        for row in done.rows:
            if row.finish in {"deadline", "invalid"}:  # said of the request as a whole
                self.ends[row.seq] = row
                continue
            choice = (row.seq, row.choice)
            assert row.seq not in self.ends or self.finish(row.seq) != "deadline", "a late request went on"
            assert choice not in self.finishes, "a sequence went on after its end"
            self.choices.setdefault(choice, []).extend(row.tokens)
            self.logprobs.setdefault(choice, []).extend(row.logprobs)
            if not row.choice:
                self.tokens[row.seq] += row.tokens
            if row.finish is not None:
                self.finishes[choice] = row.finish
                self.ends.setdefault(row.seq, row)

    def run(self) -> "Engine":
        """Step until there is nothing left to do."""
        while not self.scheduler.is_idle:
            self.step()
            time.sleep(min(0.002, self.scheduler.leisure_s))
        return self

    def finish(self, seq: int) -> str | None:
        """How a sequence ended."""
        return self.ends[seq].finish


def alone(
    model: Module, prompt: list[int], sampling: Sampling = GREEDY, max_tokens: int = 20, **more: Any
) -> list[int]:
    """Give the tokens of a sequence that has the engine to itself."""
    engine = Engine(model)
    engine.submit(0, prompt, sampling, max_tokens, **more)
    return engine.run().tokens[0]
