"""How much a start of an engine, and a load, yields to others who want the same cores."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Courtesy:
    """For how long at most it yields; where others leave it time, it takes less."""

    background_s: float = 0.0
    """In the background, in seconds."""
    paced_s: float = 0.0
    """In small turns, in seconds, which takes up to four times as long where others want all cores."""


NONE = Courtesy()
BACKGROUND = Courtesy(background_s=10.0)
PACED = Courtesy(background_s=10.0, paced_s=7.0)
"""There is time left to come to an end in the background."""
