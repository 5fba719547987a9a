"""HealthServicer over a real channel."""

from collections.abc import AsyncIterator

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as pb_grpc

from service.servicers.health import HealthServicer

SERVING = pb.HealthCheckResponse.SERVING
NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING
UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
def health() -> HealthServicer:
    """Make a servicer that was told of one name."""
    servicer = HealthServicer()
    servicer.update({"a": True})
    return servicer


@pytest.fixture
async def stub(health: HealthServicer) -> AsyncIterator[pb_grpc.HealthStub]:
    """Serve it and open a channel."""
    server = aio.server()
    pb_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield pb_grpc.HealthStub(channel)
    await server.stop(None)


def request(name: str) -> pb.HealthCheckRequest:
    return pb.HealthCheckRequest(service=name)


async def test_check_tells_the_last_state(health: HealthServicer, stub: pb_grpc.HealthStub) -> None:
    """Check answers with what was told last."""
    assert (await stub.Check(request("a"))).status == SERVING
    health.update({"a": False})
    assert (await stub.Check(request("a"))).status == NOT_SERVING


async def test_check_does_not_know_other_names(stub: pb_grpc.HealthStub) -> None:
    """A name that was never told is NOT_FOUND."""
    with pytest.raises(aio.AioRpcError) as error:
        await stub.Check(request("b"))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_name_that_is_told_no_more_is_gone(health: HealthServicer, stub: pb_grpc.HealthStub) -> None:
    """As the model is whose name it was."""
    watch = stub.Watch(request("a"))
    assert (await watch.read()).status == SERVING
    health.update({"b": True})
    assert (await watch.read()).status == UNKNOWN
    with pytest.raises(aio.AioRpcError) as error:
        await stub.Check(request("a"))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watch_tells_each_change_once(health: HealthServicer, stub: pb_grpc.HealthStub) -> None:
    """A watcher hears the state and then its changes; being told the same again is none."""
    watch = stub.Watch(request("a"))
    assert (await watch.read()).status == SERVING
    health.update({"a": True})
    health.update({"a": False})
    assert (await watch.read()).status == NOT_SERVING
    health.update({"a": True})
    assert (await watch.read()).status == SERVING


async def test_watchers_of_one_name_do_not_depend_on_each_other(
    health: HealthServicer, stub: pb_grpc.HealthStub
) -> None:
    """A watcher goes on hearing changes after another one has left."""
    first, second = stub.Watch(request("a")), stub.Watch(request("a"))
    assert (await first.read()).status == (await second.read()).status == SERVING
    first.cancel()
    health.update({"a": False})
    assert (await second.read()).status == NOT_SERVING
    health.update({"a": True})
    assert (await second.read()).status == SERVING


async def test_watch_waits_for_a_name_that_is_not_there_yet(health: HealthServicer, stub: pb_grpc.HealthStub) -> None:
    """An unknown name is told as such, and its first state follows."""
    watch = stub.Watch(request("later"))
    assert (await watch.read()).status == UNKNOWN
    health.update({"later": True})
    assert (await watch.read()).status == SERVING
