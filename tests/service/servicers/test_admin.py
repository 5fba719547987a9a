"""AdminService over a real channel."""

from importlib.metadata import version
from typing import Any

from grpc import aio

from mlx_grpc.v1 import admin_pb2, admin_pb2_grpc
from tests.processes import ServiceProcess


async def test_the_server_describes_itself(service: ServiceProcess, channel: aio.Channel) -> None:
    """Versions, device, models, addresses and limits."""
    stub: Any = admin_pb2_grpc.AdminServiceStub(channel)
    info = await stub.GetServerInfo(admin_pb2.GetServerInfoRequest())
    assert (info.version, info.mlx_version, info.mlx_lm_version) == tuple(
        version(name) for name in ("mlx-grpc", "mlx", "mlx-lm")
    )
    assert info.device in {"cpu", "gpu"}
    assert (list(info.models), list(info.addresses)) == (["tiny", "talker", "bare"], service.addresses)
    assert (info.max_running, info.max_queued, info.max_request_bytes) == (32, 256, 16 << 20)
    assert not info.draining


async def test_uptime_grows(channel: aio.Channel) -> None:
    """It counts from the start of the server."""
    stub: Any = admin_pb2_grpc.AdminServiceStub(channel)
    first, second = [(await stub.GetServerInfo(admin_pb2.GetServerInfoRequest())).uptime for _ in range(2)]
    assert 0 < first.ToNanoseconds() < second.ToNanoseconds()
