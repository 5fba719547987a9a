"""What can happen to a service with many models, at random: callers, operators, LoRAs, and engines that are killed."""

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import psutil
from google.rpc import error_details_pb2
from grpc import aio

from mlx_grpc.v1 import generation_pb2, loras_pb2, models_pb2
from mlx_grpc.v1.generation_pb2_grpc import GenerationServiceStub
from tests.calls import Refusal, refusal, server_info
from tests.pooled import Operator, engines
from tests.processes import ServiceProcess

ANSWER_S = 120.0
"""Longest that any call may take: a stream that has been forgotten never ends."""
_SAMPLE_S = 0.2
_LEFT, _LATE, _CUT, _REFUSED, _DONE = "left", "late", "cut", "refused", "completed"
"""How calls may end; those that are refused were told of a full queue, too little memory, or no such LoRA."""


class Chaos:
    """Random traffic on a service, until a time; what it has come to, and what of that must not be."""

    def __init__(
        self, service: ServiceProcess, channel: aio.Channel, names: Sequence[str], loras: Sequence[Path], seed: int
    ) -> None:
        """`names` are those of the models, `loras` the folders of LoRAs that fit each of them."""
        self.outcomes: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        """What operators and killers have done."""
        self.answered: list[str] = []
        """Ids of the requests that nobody has left, in the order of their ends."""
        self.faults: list[str] = []
        """What must not be."""
        self.samples: list[tuple[datetime, dict[int, int]]] = []
        """Bytes that each engine process took, and when."""
        self.reserved: list[int] = []
        """Bytes that were set aside."""
        self._service = service
        self._channel = channel
        self._names = names
        self._loras = loras
        self._seed = seed
        self._until = 0.0
        self._operations = itertools.cycle(("load", "unload by force", "load", "unload"))
        self._adaptations = itertools.cycle(("load a LoRA", "load a LoRA", "unload a LoRA"))
        self._attacks = itertools.cycle(("kill", "stop"))

    async def rage(self, seconds: float, *, callers: int) -> None:
        """Do all of it at once for a time, and wait until all calls have ended."""
        self._until = time.monotonic() + seconds
        work = [self._repeat(self._ask, number) for number in range(callers)]
        acts = (self._operate, self._adapt, self._pin, self._kill)
        work += [self._repeat(act, callers + number) for number, act in enumerate(acts)]
        sampling = asyncio.create_task(self._sample())
        try:
            await asyncio.gather(*work)
        finally:
            sampling.cancel()
            await asyncio.wait([sampling])
        if not sampling.cancelled():
            sampling.result()

    async def _repeat(self, act: Callable[[random.Random], Awaitable[None]], number: int) -> None:
        chance = random.Random(f"{self._seed} {number}")
        while time.monotonic() < self._until:
            async with asyncio.timeout(ANSWER_S):
                await act(chance)

    async def _ask(self, chance: random.Random) -> None:
        """Send a request; leave one in five in the middle, and give one in five little time."""
        request = self._request(chance, f"{self._seed}-{chance.getrandbits(64):x}")
        leaves, hurries = chance.random() < 0.2, chance.random() < 0.2
        patience = chance.randint(1, 20) if leaves else 1 << 30
        stub: Any = GenerationServiceStub(self._channel)
        call = stub.Generate(request, timeout=chance.uniform(0.01, 3) if hurries else None)
        kinds: list[str] = []
        try:
            async for event in call:
                kinds.append(event.WhichOneof("event") or "")
                if len(kinds) == patience:
                    call.cancel()
            outcome = _DONE
        except asyncio.CancelledError:
            outcome = _LEFT
        except aio.AioRpcError as error:
            outcome = self._failed(refusal(error), kinds, hurries=hurries)
        if outcome == _DONE and (kinds.count("completed"), kinds[-1]) != (1, "completed"):
            self.faults.append(f"an answer without its end: {kinds[-3:]}")
        self.outcomes[outcome] += 1
        if not (leaves or hurries):
            self.answered.append(request.request_id)
        await asyncio.sleep(chance.uniform(0, 0.1))

    def _request(self, chance: random.Random, request_id: str) -> generation_pb2.GenerateRequest:
        return generation_pb2.GenerateRequest(
            request_id=request_id,
            model=self._name(chance),
            lora=chance.choice(self._loras).name if chance.random() < 0.3 else "",
            text="The sky is blue. " * chance.randint(1, 20),
            sampling=generation_pb2.SamplingParams(temperature=chance.choice([0, 1]), seed=1),
            stopping=generation_pb2.Stopping(max_tokens=chance.choice([1, 8, 64, 400]), ignore_eos=True),
            output=generation_pb2.OutputOptions(progress=chance.random() < 0.3),
            n=chance.choice([1, 1, 1, 3]),
        )

    def _name(self, chance: random.Random) -> str:
        """A model; two of them are asked for more often, and so have more LoRAs."""
        return chance.choice([*self._names, *[*self._names[:2]] * 4])

    def _failed(self, failure: Refusal, kinds: list[str], *, hurries: bool) -> str:
        match failure.code:
            case grpc.StatusCode.DEADLINE_EXCEEDED if hurries:
                return _LATE
            case grpc.StatusCode.UNAVAILABLE if "RetryInfo" in failure.details and "completed" not in kinds:
                return _CUT
            case grpc.StatusCode.RESOURCE_EXHAUSTED if failure.info.reason in {"QUEUE_FULL", "INSUFFICIENT_MEMORY"}:
                return _REFUSED
            case grpc.StatusCode.NOT_FOUND if not kinds and _is_of_lora(failure):
                return _REFUSED
            case _:
                self.faults.append(f"{failure.code}: {failure.message} after {kinds[-3:]}")
                return "fault"

    async def _operate(self, chance: random.Random) -> None:
        """Load or unload a model; one in five does not wait for that."""
        operator, name = Operator(self._channel), chance.choice(self._names)
        deed = next(self._operations)
        self.done[deed] += 1
        if deed == "load":
            call = operator.stub.LoadModel(models_pb2.LoadModelRequest(name=name))
        else:
            request = models_pb2.UnloadModelRequest(name=name, force=deed == "unload by force")
            call = operator.stub.UnloadModel(request)
        leaves = chance.random() < 0.2
        await self._told(call, chance.uniform(0, 0.5) if leaves else None)
        await asyncio.sleep(chance.uniform(0, 1))

    async def _told(self, call: Any, leaves_after: float | None) -> None:
        """Wait for a call to an operator's end. It may be that nothing comes of it, but not for any reason."""
        if leaves_after is not None:
            await asyncio.sleep(leaves_after)
            call.cancel()
        try:
            if isinstance(call, aio.UnaryStreamCall):
                _ = [event async for event in call]
            else:
                await call
        except asyncio.CancelledError:
            if leaves_after is None:
                raise
        except aio.AioRpcError as error:
            if not _is_for_operators(failure := refusal(error)):
                self.faults.append(f"an operator was told {failure.code}: {failure.message}")

    async def _adapt(self, chance: random.Random) -> None:
        """Put a LoRA on a model or take it off; one in five does not wait for that."""
        stub, path, name = Operator(self._channel).lora_stub, chance.choice(self._loras), self._name(chance)
        deed = next(self._adaptations)
        self.done[deed] += 1
        if deed == "load a LoRA":
            call = stub.LoadLora(loras_pb2.LoadLoraRequest(model=name, name=path.name, path=str(path)))
        else:
            call = stub.UnloadLora(loras_pb2.UnloadLoraRequest(model=name, name=path.name))
        await self._told(call, chance.uniform(0, 0.5) if chance.random() < 0.2 else None)
        await asyncio.sleep(chance.uniform(0, 0.5))

    async def _pin(self, chance: random.Random) -> None:
        """Pin a model for a moment."""
        operator, name = Operator(self._channel), chance.choice(self._names)
        await operator.pin(name)
        self.done["pin"] += 1
        await asyncio.sleep(chance.uniform(0, 2))
        await operator.unpin(name)
        await asyncio.sleep(chance.uniform(0, 1))

    async def _kill(self, chance: random.Random) -> None:
        """Kill an engine, the spare one too, or stop it for a while, or for longer than the service allows."""
        await asyncio.sleep(chance.uniform(0.5, 3))
        running = engines(self._service)
        if not running:
            return
        engine, attack = chance.choice(running), next(self._attacks)
        self.done[attack] += 1
        with contextlib.suppress(psutil.NoSuchProcess):
            if attack == "kill":
                engine.kill()
            else:
                engine.suspend()
                await asyncio.sleep(chance.choice([1, 6]))
                engine.resume()

    async def _sample(self) -> None:
        """Look at the memory all along."""
        while True:
            self.reserved.append((await server_info(self._channel)).memory_reserved_bytes)
            taken = {}
            for engine in engines(self._service):
                with contextlib.suppress(psutil.NoSuchProcess):
                    taken[engine.pid] = engine.memory_info().rss
            self.samples.append((datetime.now(UTC), taken))
            await asyncio.sleep(_SAMPLE_S)


def _is_of_lora(failure: Refusal) -> bool:
    """Whether a LoRA is not there that a call has named."""
    resource = failure.details.get("ResourceInfo")
    return isinstance(resource, error_details_pb2.ResourceInfo) and resource.resource_type == "lora"


def _is_for_operators(failure: Refusal) -> bool:
    """Whether this is what may come of a load: cut by an unload or a death, no room, or a LoRA that is there or not."""
    match failure.code:
        case grpc.StatusCode.UNAVAILABLE:
            return "RetryInfo" in failure.details
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return failure.info.reason in {"QUEUE_FULL", "INSUFFICIENT_MEMORY"}
        case grpc.StatusCode.INVALID_ARGUMENT:
            return failure.fields == ["name"] and "taken" in failure.message
        case _:
            return failure.code is grpc.StatusCode.NOT_FOUND and _is_of_lora(failure)
