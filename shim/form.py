"""What the client asked of the form of its answer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """The form of an answer; the wire has no place for most of it."""

    model: str
    """The model as the client named it, which the answer repeats."""
    choices: int = 1
    """Choices of all prompts."""
    stream: bool = False
    include_usage: bool = False
    """Whether a stream tells the usage; a whole answer always does."""
    logprobs: bool = False
    echo: bool = False
    service_tier: bool = False
    """Whether the tier that served the request is told."""
