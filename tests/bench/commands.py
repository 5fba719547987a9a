"""What a process that runs the library is asked, one JSON line each, and what it answers."""

import msgspec

from tests.bench.workload import Sampling


class OneStream(msgspec.Struct, frozen=True, tag=True):
    """Generate with `stream_generate`."""

    prompt: list[int]
    tokens: int


class Batch(msgspec.Struct, frozen=True, tag=True):
    """Generate for all prompts with BatchGenerator, `at_once` rows at a time; greedily where there are no samplings."""

    prompts: list[list[int]]
    tokens: int
    at_once: int
    samplings: list[Sampling] = []


class FirstTokens(msgspec.Struct, frozen=True, tag=True):
    """Process all prompts as one batch with BatchGenerator until each row has its first token."""

    prompts: list[list[int]]


Command = OneStream | Batch | FirstTokens


class Done(msgspec.Struct, frozen=True):
    """How long it took, in seconds, and how many tokens were generated."""

    seconds: float
    tokens: int
