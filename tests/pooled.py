"""Services that know more models than fit into their memory, and a look at what they hold."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from grpc import aio

from mlx_grpc.v1 import loras_pb2
from mlx_grpc.v1 import models_pb2 as pb
from mlx_grpc.v1.loras_pb2_grpc import LoraServiceStub
from mlx_grpc.v1.models_pb2_grpc import ModelServiceStub
from tests.processes import ServiceProcess

MIB = 1 << 20
TWO = 360 * MIB
"""Memory for two tiny models, and not for three."""
LOAD_S = 60.0

Settings = Mapping[str, Any]


def write_config(file: Path, models: Mapping[str, Settings], **settings: Any) -> Path:
    """Write the configuration of a service, with its models by their names. None is loaded unless it says so."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in ({"listen": ["127.0.0.1:0"]} | settings).items()]
    for name, model in models.items():
        lines += ["[[models]]", f"name = {json.dumps(name)}"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in ({"preload": False} | dict(model)).items()]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def tiny(folder: Path, **settings: Any) -> Settings:
    """Configure a tiny model, of which TWO has room for two."""
    return {"path": str(folder), "kv_cache_bytes": 16 * MIB} | settings


def write_lora(folder: Path, model: Path, *, seed: int = 0, rank: int = 4) -> Path:
    """Write a random LoRA of a llama's projections to queries, in mlx-lm's format; large enough to change its words."""
    settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
    width, chance = settings["hidden_size"], np.random.default_rng(seed)
    tensors = {}
    for layer in range(settings["num_hidden_layers"]):
        path = f"model.layers.{layer}.self_attn.q_proj"
        tensors[f"{path}.lora_a"] = chance.normal(size=(width, rank)).astype(np.float32)
        tensors[f"{path}.lora_b"] = chance.normal(size=(rank, width)).astype(np.float32)
    header, data = {}, b""
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [len(data), len(data) + tensor.nbytes]}
        data += tensor.tobytes()
    written = json.dumps(header).encode()
    folder.mkdir(parents=True)
    (folder / "adapters.safetensors").write_bytes(len(written).to_bytes(8, "little") + written + data)
    config = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": rank, "scale": 2.0}}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


class Operator:
    """Somebody who looks after the models of a service."""

    def __init__(self, channel: aio.Channel) -> None:
        self.stub: Any = ModelServiceStub(channel)
        self.lora_stub: Any = LoraServiceStub(channel)

    async def load(self, name: str, **fields: Any) -> list[pb.LoadModelResponse]:
        """Load a model; what was told meanwhile."""
        request = pb.LoadModelRequest(name=name, **fields)
        return [event async for event in self.stub.LoadModel(request, timeout=LOAD_S)]

    async def plan(self, name: str, **fields: Any) -> pb.LoadPlan:
        """Ask what a load would do."""
        [event] = await self.load(name, dry_run=True, **fields)
        return event.plan

    async def unload(self, name: str, *, force: bool = False) -> pb.Model:
        """Unload a model."""
        response = await self.stub.UnloadModel(pb.UnloadModelRequest(name=name, force=force), timeout=LOAD_S)
        model: pb.Model = response.model
        return model

    async def pin(self, name: str) -> pb.Model:
        """Pin a model."""
        model: pb.Model = (await self.stub.PinModel(pb.PinModelRequest(name=name))).model
        return model

    async def unpin(self, name: str) -> pb.Model:
        """Let a model go when room is needed."""
        model: pb.Model = (await self.stub.UnpinModel(pb.UnpinModelRequest(name=name))).model
        return model

    async def models(self) -> dict[str, pb.Model]:
        """All models by their names."""
        return {model.name: model for model in (await self.stub.ListModels(pb.ListModelsRequest())).models}

    async def model(self, name: str) -> pb.Model:
        """One model."""
        model: pb.Model = (await self.stub.GetModel(pb.GetModelRequest(name=name))).model
        return model

    async def ready(self) -> list[str]:
        """Names of the models that take requests."""
        models = (await self.models()).values()
        return [model.name for model in models if model.state == pb.MODEL_STATE_READY]

    async def becomes(self, name: str, state: "pb.ModelState.ValueType") -> pb.Model:
        """Wait until a model is in a state."""
        return await self.until(name, lambda model: model.state == state)

    async def until(self, name: str, holds: Any) -> pb.Model:
        """Wait until something holds of a model."""
        async with asyncio.timeout(LOAD_S), watching(self) as watch:
            while (model := await watch.next()).name != name or not holds(model):
                pass
            return model

    async def load_lora(self, model: str, name: str, path: Path) -> loras_pb2.Lora:
        """Put a LoRA on a model."""
        request = loras_pb2.LoadLoraRequest(model=model, name=name, path=str(path))
        lora: loras_pb2.Lora = (await self.lora_stub.LoadLora(request, timeout=LOAD_S)).lora
        return lora

    async def unload_lora(self, model: str, name: str) -> None:
        """Take a LoRA off a model."""
        await self.lora_stub.UnloadLora(loras_pb2.UnloadLoraRequest(model=model, name=name), timeout=LOAD_S)

    async def loras(self, model: str = "") -> list[loras_pb2.Lora]:
        """The LoRAs of a model, or of all."""
        return list((await self.lora_stub.ListLoras(loras_pb2.ListLorasRequest(model=model))).loras)

    async def reset(self) -> None:
        """Take all LoRAs off, unpin and unload all."""
        for lora in await self.loras():
            await self.unload_lora(lora.model, lora.name)
        for name, model in (await self.models()).items():
            if model.pinned:
                await self.unpin(name)
            if model.state != pb.MODEL_STATE_UNLOADED:
                await self.unload(name, force=True)


class Watch:
    """Somebody who watches the models."""

    def __init__(self, operator: Operator) -> None:
        self.call = operator.stub.WatchModels(pb.WatchModelsRequest())
        self._states = aiter(self.call)

    async def next(self) -> pb.Model:
        """Wait for the next message."""
        async with asyncio.timeout(LOAD_S):
            model: pb.Model = (await anext(self._states)).model
            return model

    async def states(self, name: str, last: "pb.ModelState.ValueType") -> list[str]:
        """The states of a model from now on until one, each as often as it was entered."""
        states: list[str] = []
        while not states or states[-1] != short(last):
            model = await self.next()
            if model.name == name and (not states or states[-1] != short(model.state)):
                states.append(short(model.state))
        return states


def short(state: "pb.ModelState.ValueType") -> str:
    """The name of a state without its prefix."""
    return pb.ModelState.Name(state).removeprefix("MODEL_STATE_")


@contextlib.asynccontextmanager
async def watching(operator: Operator) -> AsyncIterator[Watch]:
    """Watch the models until the block is left."""
    watch = Watch(operator)
    try:
        yield watch
    finally:
        watch.call.cancel()


def engines(service: ServiceProcess) -> list[psutil.Process]:
    """The engine processes of a service; also dead ones that nobody has waited for."""
    found = []
    for child in psutil.Process(service.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() == psutil.STATUS_ZOMBIE or "service.engine" in child.cmdline():
                found.append(child)
    return found
