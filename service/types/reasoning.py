"""How much a model thinks before it answers."""

import enum
from dataclasses import dataclass

from service.types.checks import at_least


class Effort(enum.StrEnum):
    """How much to think, from not at all upwards, in the words of chat templates."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How much the model should think before it answers; None for its own default.

    `budget` is in tokens; None is no bound.
    """

    effort: Effort | None = None
    budget: int | None = None

    def __post_init__(self) -> None:
        at_least("budget", self.budget, 0)
