"""Server-sent events, as the bytes that are written."""

from collections.abc import Mapping
from typing import Generic

import orjson

from shim.shapes import Completion, D

DONE = b"data: [DONE]\n\n"
_NO_CHOICES = b'"choices":[]'  # never part of a string, in which quotes are escaped


def event(value: Mapping[str, object]) -> bytes:
    """Write one event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


class ChunkWriter(Generic[D]):
    """Writes the chunks of one stream, which differ in their choice only, at the cost of writing that."""

    def __init__(self, empty: Completion[D]) -> None:
        """`empty` is a chunk without choices."""
        before, _, after = event(empty).partition(_NO_CHOICES)
        self._before = before + _NO_CHOICES[:-1]
        self._after = _NO_CHOICES[-1:] + after

    def write(self, choice: D) -> bytes:
        """Write the chunk of a choice."""
        return self._before + orjson.dumps(choice) + self._after
