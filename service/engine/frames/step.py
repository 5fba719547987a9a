"""What one step of the engine did, for each sequence that it concerned."""

import msgspec


class Logprob(msgspec.Struct, frozen=True, array_like=True):
    """A token's natural log-probability, and that of the likeliest tokens at its place, likeliest first."""

    logprob: float
    top: list[tuple[int, float]] = []


class Queued(msgspec.Struct, frozen=True, array_like=True):
    """How many sequences are ahead of one that waits. Only for those that asked."""

    seq: int
    position: int


class Progress(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """A chunk of a sequence's prompt is processed. `admitted` is when its first one began, on the monotonic clock.

    `processed` counts the `cached` tokens, which came from the prefix cache.
    """

    seq: int
    processed: int
    admitted: float
    cached: int = 0
    logprobs: list[Logprob | None] = []
    """Of the tokens that follow those of this chunk, in order; before them None for the first of the prompt."""


class Row(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a step gave a choice. `finish` is None while it runs, else one of the following.

    "stop": the last token is a stop token. "complete": the grammar lets nothing follow the last token. "length". For
    all choices of a sequence at once: "error", "deadline", and "invalid" for a grammar that cannot be used.
    """

    seq: int
    tokens: list[int]
    finish: str | None = None
    choice: int = 0
    logprobs: list[Logprob] = []
    """One for each token, if asked for."""
    error: str = ""


class Step(msgspec.Struct, frozen=True, tag="step"):
    """All that one step of the engine did."""

    rows: list[Row]
    progress: list[Progress] = []
    queued: list[Queued] = []
