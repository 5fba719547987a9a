"""What running streams feel of a long prompt that comes in."""

import asyncio
import statistics
from dataclasses import dataclass

from tests.bench.bench import Bench
from tests.bench.client.answer import Answer
from tests.bench.client.over_grpc import GrpcClient
from tests.bench.commands import FirstTokens
from tests.bench.results import Result, at_most, ratio
from tests.bench.rounds import alternate

_STREAMS = 8
_BEFORE, _AFTER = 24, 24
"""Messages of each stream before the long prompt is sent, and of the long prompt's own stream after it has joined."""
_SETTLING = 8
"""The first of them, which do not count."""
_JOINED = 5
"""Texts of the long prompt's stream by which it has surely joined the others."""
_ENOUGH = 4000
"""Tokens that outlast the measure."""


@dataclass(frozen=True, slots=True)
class _Figures:
    """Of one run, in milliseconds; 0 for what a side does not have."""

    longest: float
    before: float = 0
    after: float = 0


def measure(bench: Bench) -> list[Result]:
    """The longest gap between two messages, against the prompt's whole prefill; the median gap after and before."""
    name, length = bench.model.name, bench.model.long_prompt

    def library() -> _Figures:
        return _Figures(1e3 * bench.baseline.run(FirstTokens([bench.prompts.one(length)])).seconds)

    figures = alternate({"grpc": lambda: bench.run(_scene(bench, bench.grpc)), "library": library}, bench.rounds)
    ours, theirs = figures["grpc"], figures["library"]
    longest, prefill = [one.longest for one in ours], [one.longest for one in theirs]
    after, before = [one.after for one in ours], [one.before for one in ours]
    return [
        ratio(
            f"longest gap as a prompt of {length} comes in ÷ its prefill", name, "ms", longest, prefill, at_most(0.2)
        ),
        ratio(
            f"step of {_STREAMS} rows, one of {length} beside them ÷ before", name, "ms", after, before, at_most(1.5)
        ),
    ]


async def _scene(bench: Bench, client: GrpcClient) -> _Figures:
    running = [client.call(bench.request(prompt, _ENOUGH)) for prompt in bench.prompts.many(_STREAMS)]
    await asyncio.gather(*(call.read(_BEFORE) for call in running))
    reading = [asyncio.ensure_future(call.read()) for call in running]
    long = client.call(bench.request(bench.prompts.one(bench.model.long_prompt), _ENOUGH))
    try:
        await long.read(1 + _JOINED + _AFTER)
        assert not any(task.done() for task in reading), "a running stream has ended"
    finally:
        for call in (*running, long):
            call.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    return _figures([call.answer() for call in running], long.answer())


def _figures(running: list[Answer], long: Answer) -> _Figures:
    joined = long.texts[_JOINED - 1]
    gaps = [gap for answer in running for gap in answer.gaps[_SETTLING:]]
    return _Figures(
        longest=1e3 * max(end - begin for begin, end in gaps if end > long.sent and begin < joined),
        before=1e3 * statistics.median(end - begin for begin, end in gaps if end <= long.sent),
        after=1e3 * statistics.median(end - begin for begin, end in gaps if begin >= joined),
    )
