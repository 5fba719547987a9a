"""Chunks as they are written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sse_starlette import EventSourceResponse

from shim.generation import _StreamResponse
from shim.shapes import Completion, Indexed
from shim.sse import ChunkWriter


@given(st.text(), st.text(), st.booleans())
def test_a_chunk_is_what_it_would_be_as_a_whole(model: str, reason: str, usage: bool) -> None:
    """Putting a choice between bytes that were written before gives the same JSON, whatever the strings are."""
    empty: Completion[Indexed] = {"id": "x", "object": '"choices":[]', "created": 1, "model": model, "choices": []}
    if usage:
        empty["usage"] = None
    choice: Indexed = {"index": 0, "finish_reason": reason}
    written = ChunkWriter(empty).write(choice)
    assert written.startswith(b"data: ")
    assert written.endswith(b"}\n\n")
    assert written.count(b"\n") == 2
    assert json.loads(written.removeprefix(b"data: ")) == {**empty, "choices": [choice]}


@pytest.mark.parametrize("name", ["_send_with_timeout"])
def test_what_is_overridden_is_still_there(name: str) -> None:
    """The library still sends by the method that we replace; under another name the cost would come back unseen."""
    assert name in vars(_StreamResponse)
    assert name in EventSourceResponse._stream_response.__code__.co_names
