"""What a generation says, beside the pieces of its choices."""

from dataclasses import dataclass

from service.text.pieces import Piece


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits behind `position` others."""

    position: int


@dataclass(frozen=True, slots=True)
class Started:
    """The request is admitted and the first chunk of its prompt is processed. `model` is the model's alias."""

    model: str
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Prefilled:
    """So many of the prompt's `total` tokens are processed; `cached` of them came from the prefix cache."""

    processed: int
    total: int
    cached: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts over all choices; the prompt that they share counts once."""

    prompt: int
    completion: int
    reasoning: int
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Durations in seconds; those of parts that were not reached are 0."""

    queue: float
    prefill: float
    first_token: float
    decode: float
    total: float


@dataclass(frozen=True, slots=True)
class Completed:
    """The request has ended well."""

    usage: Usage
    timings: Timings


GenerationEvent = Queued | Started | Prefilled | Piece | Completed
Said = tuple[int, GenerationEvent]
"""An event and the choice that it is about; 0 for one about the request."""
