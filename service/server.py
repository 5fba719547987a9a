"""The composition root: a pool of models behind a gRPC server, with health, reflection and drain."""

import socket
from collections.abc import Sequence

import structlog
from grpc import aio
from grpc_health.v1 import health_pb2_grpc

from mlx_grpc.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    loras_pb2,
    loras_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    tokenizer_pb2,
    tokenizer_pb2_grpc,
)
from service.config import ServiceConfig
from service.errors import SetupError
from service.pool.pool import ModelPool
from service.servicers.admin import AdminServicer
from service.servicers.drain import Drain
from service.servicers.generation import GenerationServicer
from service.servicers.guard import Guard
from service.servicers.health import SERVICE_NAME, HealthServicer
from service.servicers.loras import LoraServicer
from service.servicers.models import ModelServicer
from service.servicers.reflection import add_reflection
from service.servicers.tokenizer import TokenizerServicer

log = structlog.get_logger()

_SERVICES = [
    file.DESCRIPTOR.package + "." + name
    for file in (generation_pb2, models_pb2, loras_pb2, tokenizer_pb2, admin_pb2)
    for name in file.DESCRIPTOR.services_by_name
]


_CUT_S = 1.0
"""How long calls that are cut may take to tell their clients."""


class Server:
    """The service. `start` returns once the models are there that are to be; `stop` lets what runs finish first."""

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        self._drain = Drain()
        self._is_started = False
        self._health = HealthServicer()
        self._pool = ModelPool(config, self._update_health)
        self._server = aio.server(interceptors=[Guard()], options=_options(config))
        self.addresses: list[str] = []

    async def start(self) -> None:
        """Bind, then load the models. Calls that come in meanwhile wait.

        Raises SetupError for an address that is taken or a model that cannot be loaded.
        """
        self.addresses = [self._bind(address) for address in self._config.listen]
        self._add_servicers()
        self._update_health()
        await self._server.start()
        await self._pool.start()
        self._is_started = True
        self._update_health()

    async def stop(self, drain_s: float) -> None:
        """Turn new calls away, wait up to `drain_s` for those that run, cut the rest, end the engines."""
        self._drain.begun = True
        self._update_health()
        self._pool.turn_away()
        if self._is_started:
            log.info("draining", running=self._drain.running, drain_s=drain_s)
        if not await self._drain.finish(drain_s):
            log.warning("calls are cut at the end of the drain time", drain_s=drain_s)
            self._pool.cut()
            await self._drain.finish(_CUT_S)
        await self._server.stop(grace=_CUT_S)
        await self._pool.stop()

    def _bind(self, address: str) -> str:
        """Listen on an address; the address with its real port."""
        if address.startswith("unix:") and _is_served(address.removeprefix("unix:")):
            raise SetupError(f"cannot listen on {address}: another process does")
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise SetupError(f"cannot listen on {address}: is it taken, or not an address of this machine?") from error
        return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"

    def _add_servicers(self) -> None:
        server, pool, drain = self._server, self._pool, self._drain
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(GenerationServicer(pool, drain), server)
        models_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(self._config, pool), server)
        loras_pb2_grpc.add_LoraServiceServicer_to_server(LoraServicer(self._config, pool), server)
        tokenizer_pb2_grpc.add_TokenizerServiceServicer_to_server(TokenizerServicer(pool), server)
        admin = AdminServicer(self._config, pool, drain, self.addresses)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        add_reflection([*_SERVICES, SERVICE_NAME], server)

    def _update_health(self) -> None:
        """Each model has a name: it is serving while it takes requests, or would be loaded for one.

        The server and its services are once all are that it starts with, and then while any is.
        """
        models = self._pool.models
        enough = any if self._is_started else all
        is_open = not self._drain.begun
        serving = dict.fromkeys(("", *_SERVICES), is_open and enough(model.is_available for model in models))
        serving |= {f"model/{model.name}": is_open and model.is_available for model in models}
        self._health.update(serving)


def _is_served(path: str) -> bool:
    """Whether somebody listens on a Unix socket. gRPC would take it over, and leave them without clients."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def _options(config: ServiceConfig) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.so_reuseport", 0),  # else a second server shares the port of the first instead of failing
        ("grpc.max_receive_message_length", config.max_request_bytes),
        # Notice clients that vanished without a word, and let clients ask the same of the server.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
    )
