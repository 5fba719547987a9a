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


class Reload(msgspec.Struct, frozen=True, tag=True):
    """Load a model from a folder with its tokenizer, generate a prompt's first token, and let the model go."""

    folder: str
    prompt: list[int]


class LoraBatch(msgspec.Struct, frozen=True):
    """Generate for all prompts as one batch, greedily, each with the LoRA of its name or with none."""

    prompts: list[list[int]]
    loras: list[str]
    tokens: int


Command = OneStream | Batch | FirstTokens | Reload


class Done(msgspec.Struct, frozen=True):
    """How long it took, in seconds, and how many tokens were generated."""

    seconds: float
    tokens: int
    loaded: float = 0.0
    """Seconds of it until a model was loaded."""
