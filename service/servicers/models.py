"""ModelService: what the pool holds, and what it is told to hold."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from mlx_grpc.v1 import models_pb2 as pb
from mlx_grpc.v1 import models_pb2_grpc as pb_grpc
from service.config import ServiceConfig
from service.errors import InvalidField
from service.pool.listing import Entry, list_models
from service.pool.memory import Plan
from service.pool.pool import ModelPool
from service.pool.progress import LoadProgress, Stage
from service.pool.snapshot import Snapshot

Context = aio.ServicerContext[Any, Any]


class ModelServicer(pb_grpc.ModelServiceServicer):
    """Describes the models of a pool, and has them loaded and unloaded."""

    def __init__(self, config: ServiceConfig, pool: ModelPool) -> None:
        self._config = config
        self._pool = pool

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: ARG002, N802
        """See models.proto."""
        response = pb.ListModelsResponse(models=[describe(model.snapshot()) for model in self._pool.models])
        if request.on_disk:
            entries = await list_models(Path(self._config.cache_dir), self._config.model_folders)
            response.on_disk.extend(map(_on_disk, entries))
        return response

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:  # noqa: ARG002, N802
        """See models.proto."""
        return pb.GetModelResponse(model=self._describe(request.name))

    async def LoadModel(  # noqa: N802 - the wire's name
        self,
        request: pb.LoadModelRequest,
        context: Context,  # noqa: ARG002 - the wire's signature
    ) -> AsyncIterator[pb.LoadModelResponse]:
        """See models.proto."""
        name = _named(request.name)
        if request.dry_run:
            plan = await self._pool.plan(name, request.source, request.revision)
            yield pb.LoadModelResponse(plan=_planned(plan))
            return
        async with aclosing(self._pool.load(name, request.source, request.revision, pin=request.pin)) as stages:
            async for progress in stages:
                if progress.stage is Stage.READY:
                    yield pb.LoadModelResponse(ready=self._describe(name))
                else:
                    yield _loading(progress)

    async def UnloadModel(self, request: pb.UnloadModelRequest, context: Context) -> pb.UnloadModelResponse:  # noqa: ARG002, N802
        """See models.proto."""
        model = await self._pool.unload(_named(request.name), force=request.force)
        return pb.UnloadModelResponse(model=describe(model.snapshot()))

    async def PinModel(self, request: pb.PinModelRequest, context: Context) -> pb.PinModelResponse:  # noqa: ARG002, N802
        """See models.proto."""
        return pb.PinModelResponse(model=describe(self._pool.pin(_named(request.name)).snapshot()))

    async def UnpinModel(self, request: pb.UnpinModelRequest, context: Context) -> pb.UnpinModelResponse:  # noqa: ARG002, N802
        """See models.proto."""
        return pb.UnpinModelResponse(model=describe(self._pool.unpin(_named(request.name)).snapshot()))

    async def WatchModels(  # noqa: N802 - the wire's name
        self,
        request: pb.WatchModelsRequest,  # noqa: ARG002 - the wire's signature
        context: Context,  # noqa: ARG002 - the wire's signature
    ) -> AsyncIterator[pb.WatchModelsResponse]:
        """See models.proto."""
        async with aclosing(self._pool.watch()) as snapshots:
            async for snapshot in snapshots:
                yield pb.WatchModelsResponse(model=describe(snapshot))

    def _describe(self, name: str) -> pb.Model:
        return describe(self._pool.get(name).snapshot())


def describe(snapshot: Snapshot) -> pb.Model:
    """A model as the wire has it."""
    message = pb.Model(
        name=snapshot.name,
        source=snapshot.config.source,
        state=pb.ModelState.Value(f"MODEL_STATE_{snapshot.state.value}"),
        error=snapshot.error,
        pinned=snapshot.pinned,
        in_use=snapshot.in_use,
        memory_bytes=snapshot.memory_bytes,
        fraction=snapshot.fraction,
        loras=snapshot.loras,
    )
    if (facts := snapshot.facts) is not None:
        loaded = facts.loaded
        message.model_type = loaded.model_type
        message.adapter = facts.format.adapter.name
        message.context_length = facts.context_length
        message.vocab_size = loaded.vocab_size
        message.weights_bytes = loaded.weights_bytes
        message.kv_tokens = loaded.kv_tokens
        message.kv_bytes = loaded.kv_bytes
        message.stop_token_ids.extend(sorted(facts.format.stop_ids))
        message.has_chat_template = facts.format.template is not None
        message.has_reasoning = facts.format.markup is not None
        created = Timestamp()
        created.FromDatetime(datetime.fromtimestamp(int(loaded.created), UTC))
        message.created.CopyFrom(created)
    return message


def _named(name: str) -> str:
    """The alias of a call that changes a model, which has to say of which."""
    if not name:
        raise InvalidField("name", "must not be empty")
    return name


def _planned(plan: Plan) -> pb.LoadPlan:
    return pb.LoadPlan(
        fits=plan.fits,
        needed_bytes=plan.needed,
        free_bytes=plan.free,
        budget_bytes=plan.total,
        evicts=plan.evicts,
        loaded=plan.loaded,
    )


def _loading(progress: LoadProgress) -> pb.LoadModelResponse:
    """A stage before the last one."""
    match progress.stage:
        case Stage.DOWNLOADING:
            fetched = pb.ModelDownloading(bytes=progress.bytes, total_bytes=progress.total_bytes)
            return pb.LoadModelResponse(downloading=fetched)
        case Stage.WAITING:
            waiting = pb.ModelWaiting(needed_bytes=progress.total_bytes, free_bytes=progress.bytes)
            return pb.LoadModelResponse(waiting=waiting)
        case Stage.LOADING:
            return pb.LoadModelResponse(loading=pb.ModelLoading(fraction=progress.fraction))
        case Stage.WARMING:
            return pb.LoadModelResponse(warming=pb.ModelWarming())
        case _:
            return pb.LoadModelResponse(resolving=pb.ModelResolving())


def _on_disk(entry: Entry) -> pb.ModelOnDisk:
    return pb.ModelOnDisk(name=entry.name, source=entry.source, bytes=entry.size_bytes, fault=entry.fault)
