"""What an engine may use."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a scheduler has in memory, and does in a step."""

    max_running: int
    """Sequences in memory at a time."""
    prefill_chunk: int
    """Prompt tokens in a step."""
    kv_bytes: int
    """Memory for keys and values."""
    prefix_bytes: int
    """The part of it for the prefix cache."""
