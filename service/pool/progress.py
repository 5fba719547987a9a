"""How far a model is on its way into memory."""

import enum
from dataclasses import dataclass


class Stage(enum.Enum):
    """What is being done; the values are the names of the wire's events."""

    RESOLVING = "resolving"
    DOWNLOADING = "downloading"
    WAITING = "waiting"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """A stage, and how much of it is done.

    `bytes` of `total_bytes` are there while it is fetched; while it waits for memory, they are free of those that it
    needs. `fraction` is from 0 to 1.
    """

    stage: Stage
    bytes: int = 0
    total_bytes: int = 0
    fraction: float = 0.0
