"""All measures, in the order of the table, and the loop that takes them."""

import asyncio
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop

from tests.bench.bench import Bench
from tests.bench.measures import (
    constrained,
    cpu,
    crowd,
    first_token,
    killed,
    leavers,
    logprobs,
    long_prompt,
    loras,
    many_streams,
    memory,
    one_stream,
    over_shim,
    prefix,
    sampled_streams,
    start,
    steadiness,
    switch,
    unloaded,
)
from tests.bench.models import MODELS
from tests.bench.results import Failure, Outcome, Result

_BOTH, _TINY, _SMOLLM2, _NONE = ("tiny", "smollm2"), ("tiny",), ("smollm2",), ()


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure by the name that picks it."""

    name: str
    take: Callable[[Bench], list[Result]]
    models: Sequence[str]
    quick: Sequence[str]
    """The models that it is taken on when there is little time."""


MEASURES = (
    Measure("one-stream", one_stream.measure, _BOTH, _BOTH),
    Measure("16-streams", many_streams.sixteen, _BOTH, _TINY),
    Measure("32-streams", many_streams.thirty_two, _BOTH, _NONE),
    Measure("sampled", sampled_streams.measure, _BOTH, _TINY),
    Measure("constrained", constrained.measure, _TINY, _TINY),
    Measure("logprobs", logprobs.measure, _TINY, _TINY),
    Measure("shim-16", over_shim.throughput, _TINY, _TINY),
    Measure("first-token", first_token.measure, _TINY, _TINY),
    Measure("first-token-200", over_shim.first_token, _TINY, _TINY),
    Measure("steadiness", steadiness.measure, _BOTH, _TINY),
    Measure("long-prompt", long_prompt.measure, _BOTH, _TINY),
    Measure("prefix", prefix.measure, _SMOLLM2, _SMOLLM2),
    Measure("leave-decode", leavers.mid_decode, _BOTH, _TINY),
    Measure("leave-prefill", leavers.mid_prefill, _BOTH, _TINY),
    Measure("loras", loras.measure, _BOTH, _TINY),
    Measure("switch", switch.measure, _TINY, _TINY),
    Measure("unloaded", unloaded.measure, _BOTH, _NONE),
    Measure("killed", killed.measure, _BOTH, _NONE),
    Measure("cpu", cpu.measure, _BOTH, _TINY),
    Measure("memory", memory.measure, _BOTH, _NONE),
    Measure("start", start.measure, _BOTH, _NONE),
    Measure("200-clients", crowd.measure, _TINY, _TINY),
)
NAMES = tuple(measure.name for measure in MEASURES)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be taken, and how."""

    models: Sequence[str]
    names: Sequence[str]
    """Of measures; one that is named here is taken on all of its models."""
    quick: bool
    rounds: int
    """That count; one more warms up."""
    bypass: bool
    """Whether requests stay out of the prefix cache where it is not what is measured."""

    def of_model(self, model: str) -> list[Measure]:
        """The measures to take on a model."""
        return [
            measure
            for measure in MEASURES
            if (measure.name in self.names if self.names else not self.quick or model in measure.quick)
            and model in measure.models
        ]


def outcomes(plan: Plan, scratch: Path) -> Iterator[Outcome]:
    """Take the measures, and give their results as they come. `scratch` is a folder for models."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for name in plan.models:
            measures = plan.of_model(name)
            if not measures:
                continue
            model = MODELS[name](scratch)
            if plan.quick:
                model = replace(model, tokens=model.quick_tokens)
            bench = Bench(model, plan.rounds, runner, scratch, bypass=plan.bypass)
            try:
                for measure in measures:
                    yield from taken(measure, bench)
            finally:
                bench.stop()


def taken(measure: Measure, bench: Bench) -> Sequence[Outcome]:
    """A measure's results, or why there are none."""
    try:
        return measure.take(bench)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one measure, the others are taken
        traceback.print_exc()
        bench.stop()
        return [Failure(measure.name, bench.model.name, f"{type(error).__name__}: {error}")]
