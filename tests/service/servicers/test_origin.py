"""Who makes a call."""

import time
from typing import Any

import grpc
import pytest
import structlog

from mlx_grpc.v1 import generation_pb2_grpc
from service.engine.frames import Row, Submit
from service.errors import InvalidField
from service.servicers.origin import CALLER_KEY, MAX_CALLER, origin_of
from tests.calls import refused, text_request
from tests.service.servicers.conftest import Spoken


class FakeContext:
    """What is asked of a call's context."""

    def __init__(
        self, peer: str = "ipv4:10.0.0.1:50123", remaining: float | None = None, metadata: Any = (("a", "b"),)
    ) -> None:
        self.peer = lambda: peer
        self.time_remaining = lambda: remaining
        self.invocation_metadata = lambda: metadata


def origin(**what: Any) -> Any:
    return origin_of(FakeContext(**what))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("peer", "caller"),
    [
        ("ipv4:10.0.0.1:50123", "ipv4:10.0.0.1"),
        ("ipv6:%5B::1%5D:50123", "ipv6:%5B::1%5D"),
        ("unix:", "unix:"),
        ("unix:/tmp/client.sock", "unix:"),
    ],
)
def test_a_caller_without_a_name_is_its_peer(peer: str, caller: str) -> None:
    """Whatever port its connection has; all on a Unix socket are one."""
    assert origin(peer=peer).caller == caller
    assert origin(peer=peer, metadata=None).caller == caller
    assert origin(peer=peer, metadata=((CALLER_KEY, ""),)).caller == caller


def test_metadata_names_the_caller() -> None:
    """Up to the longest name that is allowed."""
    name = "x" * MAX_CALLER
    assert origin(metadata=(("a", "b"), (CALLER_KEY, name))).caller == name


@pytest.mark.parametrize("name", ["x" * (MAX_CALLER + 1), "a\nb", "\u200b", b"bytes"])
def test_a_name_that_is_no_name_is_refused(name: str | bytes) -> None:
    """With the key that is to blame."""
    with pytest.raises(InvalidField) as raised:
        origin(metadata=((CALLER_KEY, name),))
    assert raised.value.field == CALLER_KEY


def test_a_deadline_is_a_point_in_time() -> None:
    """On the clock of the engine; without one there is all the time in the world."""
    before = time.monotonic()
    found = origin(remaining=2.5)
    assert before <= found.arrived <= time.monotonic()
    assert found.deadline == found.arrived + 2.5
    assert origin().deadline is None


async def submitted(spoken: Spoken, **call: Any) -> Submit:
    """Make a call that ends at once; what the engine was told of it."""
    stub: Any = generation_pb2_grpc.GenerationServiceStub(spoken.channel)
    running = stub.Generate(text_request("hi", model="a", requestId="r1"), **call)
    submit = await spoken.a.begin()
    spoken.a.step(Row(submit.seq, [1], "length"))
    assert len([event async for event in running]) == 4
    return submit


async def test_the_engine_learns_who_asks_and_until_when(spoken: Spoken) -> None:
    """By metadata, else by the peer; the log has the name as it was given."""
    with structlog.testing.capture_logs() as entries:
        named = await submitted(spoken, metadata=((CALLER_KEY, "8a7f"),), timeout=30)
        peer = await submitted(spoken)
    assert (named.caller, peer.caller) == ("8a7f", "ipv4:127.0.0.1")
    assert named.deadline is not None
    # gRPC sends a deadline in tenths of a second, rounded up.
    assert 25 < named.deadline - time.monotonic() < 30.2
    assert peer.deadline is None
    assert [entry["caller"] for entry in entries if entry["event"] == "request"] == ["8a7f", "ipv4:127.0.0.1"]


async def test_a_bad_name_is_told(spoken: Spoken) -> None:
    """With the key, and the call costs the engine nothing."""
    stub: Any = generation_pb2_grpc.GenerationServiceStub(spoken.channel)
    call = stub.Generate(text_request("hi", model="a"), metadata=((CALLER_KEY, "x" * 129),))
    refusal = await refused(anext(aiter(call)))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [CALLER_KEY])
    assert spoken.a.unheard == []
