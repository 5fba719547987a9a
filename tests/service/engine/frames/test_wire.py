"""Messages over a byte stream, however it is cut."""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.frames import (
    Abort,
    ClearCache,
    Cleared,
    Heartbeat,
    Hello,
    Load,
    Loading,
    Logprob,
    Progress,
    Queued,
    Refused,
    Row,
    Sampling,
    Shutdown,
    Step,
    Submit,
    Unpacker,
    commands,
    encoder,
    events,
    pack,
)

NUMBERS = st.integers(0, 2**31)
SAMPLINGS = st.builds(
    Sampling,
    st.integers(-(2**63), 2**63 - 1),
    temperature=st.floats(0, 2),
    top_k=NUMBERS,
    logit_bias=st.dictionaries(NUMBERS, st.floats(-100, 100)),
)
COMMANDS = st.one_of(
    st.builds(Submit, NUMBERS, st.lists(NUMBERS), SAMPLINGS, NUMBERS, NUMBERS, st.lists(NUMBERS)),
    st.builds(Abort, NUMBERS, st.none() | NUMBERS),
    st.just(ClearCache()),
    st.builds(
        Load, st.text(), st.text(), NUMBERS, NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS
    ),
    st.just(Shutdown()),
)
LOGPROBS = st.builds(Logprob, st.floats(-100, 0), st.lists(st.tuples(NUMBERS, st.floats(-100, 0))))
ENDS = st.sampled_from([None, "stop", "length", "error", "deadline"])
ROWS = st.builds(Row, NUMBERS, st.lists(NUMBERS), ENDS, NUMBERS, st.lists(LOGPROBS), st.text())
PROGRESS = st.builds(Progress, NUMBERS, NUMBERS, st.floats(0, 1e9), NUMBERS, st.lists(st.none() | LOGPROBS))
EVENTS = st.one_of(
    st.builds(Step, st.lists(ROWS), st.lists(PROGRESS), st.lists(st.builds(Queued, NUMBERS, NUMBERS))),
    st.builds(Cleared, NUMBERS, NUMBERS),
    st.builds(Refused, st.text()),
    st.builds(Heartbeat, NUMBERS),
    st.builds(Hello, NUMBERS, NUMBERS, st.text(), st.text(), st.text()),
    st.builds(Loading, st.text(), st.floats(0, 1)),
)


def received(data: bytes, cuts: list[int], decoder: Any) -> list[Any]:
    """Feed a byte stream that is cut at these places."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    unpacker, found = Unpacker(), []
    for start, end in itertools.pairwise(places):
        found += [decoder.decode(body) for body in unpacker.feed(data[start:end])]
    return found


@given(st.lists(COMMANDS, max_size=5), st.lists(NUMBERS, max_size=20))
def test_commands_arrive_however_they_are_cut(sent: list[Any], cuts: list[int]) -> None:
    """Whole, in order, and equal."""
    assert received(b"".join(map(pack, sent)), cuts, commands) == sent


@given(st.lists(EVENTS, max_size=5), st.lists(NUMBERS, max_size=20))
def test_events_arrive_however_they_are_cut(sent: list[Any], cuts: list[int]) -> None:
    """Whole, in order, and equal."""
    assert received(b"".join(map(pack, sent)), cuts, events) == sent


def test_a_message_that_is_not_complete_waits() -> None:
    """Its last byte brings it out."""
    data, unpacker = pack(Abort(7)), Unpacker()
    assert [body for byte in data[:-1] for body in unpacker.feed(bytes([byte]))] == []
    assert [commands.decode(body) for body in unpacker.feed(data[-1:])] == [Abort(7)]


def test_an_event_is_no_command() -> None:
    """Each direction has its own messages."""
    with pytest.raises(msgspec.ValidationError):
        commands.decode(encoder.encode(Heartbeat()))
