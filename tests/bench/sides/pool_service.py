"""A service that knows a model by several names, and loads it when it is told to."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psutil
from grpc import aio

from mlx_grpc.v1 import models_pb2
from mlx_grpc.v1.models_pb2_grpc import ModelServiceStub
from tests.bench.models import Model
from tests.pooled import engines, write_config
from tests.processes import ServiceProcess

_KV_BYTES = 64 << 20
_REST_S = 0.5
"""Engines that have used no processor for so long have nothing to do."""
_LOOK_S = 0.05


class PoolService:
    """A running service."""

    def __init__(self, model: Model, scratch: Path, names: Sequence[str], *, loaded: bool) -> None:
        """All or none of the names are loaded; in that case there is a spare engine, now and afterwards.

        `scratch` is a folder for its configuration and its cache.
        """
        models: Mapping[str, Mapping[str, Any]] = {
            name: {"path": str(model.folder), "kv_cache_bytes": _KV_BYTES, "preload": loaded} for name in names
        }
        spare = "auto" if loaded else "always"
        config = write_config(scratch / "pool.toml", models, spare=spare, cache_dir=str(scratch / "pool"))
        self._service = ServiceProcess(["--config", str(config)])
        self.address = self._service.address

    @property
    def pid(self) -> int:
        """Of the service, whose children are the engines."""
        return self._service.process.pid

    def engine_of(self, name: str) -> psutil.Process:
        """The process that a model is in."""
        log = map(json.loads, self._service.errors.splitlines())
        [*_, pid] = [event["pid"] for event in log if event["event"] == "loading model" and event["model"] == name]
        return psutil.Process(pid)

    def rest(self, count: int) -> None:
        """Wait until there are so many engines, and none of them does anything."""
        used, since = -1.0, time.monotonic()
        while time.monotonic() < since + _REST_S:
            time.sleep(_LOOK_S)
            running = engines(self._service)
            now = sum(sum(engine.cpu_times()[:2]) for engine in running)
            if now != used or len(running) != count:
                used, since = now, time.monotonic()

    def stop(self) -> None:
        """End it."""
        self._service.stop()


class PoolClient:
    """Somebody who has models loaded and unloaded. Belongs to the event loop that it is made on."""

    def __init__(self, address: str) -> None:
        self._channel = aio.insecure_channel(address)
        self._stub: Any = ModelServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        await self._channel.channel_ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def load(self, name: str) -> float:
        """Load a model; the seconds that it took."""
        began = time.perf_counter()
        events = [event async for event in self._stub.LoadModel(models_pb2.LoadModelRequest(name=name))]
        assert events[-1].HasField("ready")
        return time.perf_counter() - began

    async def unload(self, name: str) -> None:
        """Unload a model."""
        await self._stub.UnloadModel(models_pb2.UnloadModelRequest(name=name))

    async def restarted(self, name: str) -> None:
        """Wait until a model that is ready is so no more, and then is again."""
        was_gone = False
        async for change in self._stub.WatchModels(models_pb2.WatchModelsRequest()):
            if change.model.name != name:
                continue
            if change.model.state != models_pb2.MODEL_STATE_READY:
                was_gone = True
            elif was_gone:
                return
