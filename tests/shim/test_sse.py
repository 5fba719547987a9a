"""Chunks as they are written."""

import json

from hypothesis import given
from hypothesis import strategies as st

from shim.shapes import Completion, Indexed
from shim.sse import ChunkWriter


@given(st.text(), st.text(), st.booleans())
def test_a_chunk_is_what_it_would_be_as_a_whole(model: str, reason: str, usage: bool) -> None:
    """Putting a choice between bytes that were written before gives the same JSON, whatever the strings are."""
    empty: Completion[Indexed] = {
        "id": '"choices":[]', "object": "text_completion", "created": 1, "model": model, "system_fingerprint": reason,
        "choices": [],
    }  # fmt: skip
    if usage:
        empty["usage"] = None
    choice: Indexed = {"index": 0, "finish_reason": "stop"}
    written = ChunkWriter(empty).write(choice)
    assert written.startswith(b"data: ")
    assert written.endswith(b"}\n\n")
    assert written.count(b"\n") == 2
    assert json.loads(written.removeprefix(b"data: ")) == {**empty, "choices": [choice]}
