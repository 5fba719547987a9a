"""Where a request comes from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asks, since when and until when. Times are in seconds of the monotonic clock."""

    caller: str
    arrived: float
    deadline: float | None = None
