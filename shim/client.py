"""The service's replicas: which is asked, and failing over before a call's first event."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Generic, Protocol, TypeVar

from grpc import aio

from mlx_grpc.v1.generation_pb2 import ChatRequest, ChatResponse, GenerateRequest, GenerateResponse, Started
from mlx_grpc.v1.models_pb2 import ListModelsRequest, ListModelsResponse
from shim.caller import METADATA_KEY
from shim.errors import RichStatus, server_error
from shim.names import Named, Names
from shim.replica import Replica

E = TypeVar("E", bound=ChatResponse | GenerateResponse)
Q = TypeVar("Q", bound=ChatRequest | GenerateRequest)
E_co = TypeVar("E_co", bound=ChatResponse | GenerateResponse, covariant=True)
T = TypeVar("T")

_LIST_S = 10.0
"""Longest time, in seconds, that a list of the models may take."""


class Events(Protocol[E_co]):
    """What the service has to say about a request that it has admitted."""

    started: Started

    def __aiter__(self) -> AsyncIterator[E_co]:
        """Iterate over what follows `started`; aio.AioRpcError where it fails."""

    def close(self) -> None:
        """End what still runs; may be called at any time and from any task."""


class EventStream(Generic[E]):
    """Events of one call."""

    def __init__(self, call: aio.Call, rest: AsyncIterator[E], started: Started) -> None:
        self._call = call
        self._rest = rest
        self.started = started

    @classmethod
    async def open(cls, call: "aio.UnaryStreamCall[Q, E]") -> "EventStream[E]":
        """Wait for the call's first event, which commits it; the call is cancelled if the wait is."""
        opened = False
        try:
            events = aiter(call)
            first = await anext(events, None)
            if first is None or first.WhichOneof("event") != "started":
                raise server_error()
            opened = True
            return cls(call, events, first.started)
        finally:
            if not opened:
                call.cancel()

    def __aiter__(self) -> AsyncIterator[E]:
        return self._rest

    def close(self) -> None:
        """Cancel the call unless it is over."""
        self._call.cancel()


class Replicas:
    """All replicas of the service. To be made on the event loop that uses it."""

    def __init__(self, targets: Sequence[str], deadline_s: float | None = None) -> None:
        self.all = [Replica.connect(target) for target in targets]
        self._names = Names(self._aliases)
        self._deadline_s = deadline_s
        self._turn = 0

    async def chat(self, request: ChatRequest, caller: str | None = None) -> EventStream[ChatResponse]:
        """Start Chat and wait for it to be admitted; aio.AioRpcError where no replica does.

        The request's model may be `base:lora`.
        """
        told = _metadata(caller)
        return await self._generation(
            request, lambda replica: EventStream.open(replica.chat(request, self._deadline_s, told))
        )

    async def generate(self, request: GenerateRequest, caller: str | None = None) -> EventStream[GenerateResponse]:
        """Start Generate and wait for it to be admitted, as `chat` does."""
        told = _metadata(caller)
        return await self._generation(
            request, lambda replica: EventStream.open(replica.generate(request, self._deadline_s, told))
        )

    async def list_models(self) -> ListModelsResponse:
        """Ask for all models; aio.AioRpcError where no replica tells."""
        return await self.ask(lambda replica: replica.models.ListModels(ListModelsRequest(), timeout=_LIST_S))

    async def ask(self, attempt: Callable[[Replica], Awaitable[T]]) -> T:
        """Make the attempt at the replicas until one takes it, beginning with that which has least in flight.

        Where all are UNAVAILABLE, have full queues or do not know what is asked for, the refusal is raised after which
        a retry makes sense soonest, which is one of a full queue if there is any.
        """
        refusals = []
        for replica in self._in_order():
            try:
                return await attempt(replica)
            except aio.AioRpcError as error:
                refusal = RichStatus(error)
                if not refusal.is_of_one_replica:
                    raise
                refusals.append((refusal.hopelessness, refusal.retry_after_s, error))
        raise min(refusals, key=lambda refusal: refusal[:-1])[-1]

    async def close(self) -> None:
        """Close the channels; calls that still run are cancelled."""
        for replica in self.all:
            await replica.channel.close()

    def _in_order(self) -> list[Replica]:
        """The least busy first; those that are equally busy take turns."""
        start, self._turn = self._turn, (self._turn + 1) % len(self.all)
        return sorted(self.all[start:] + self.all[:start], key=lambda replica: replica.in_flight)

    async def _generation(
        self, request: ChatRequest | GenerateRequest, attempt: Callable[[Replica], Awaitable[T]]
    ) -> T:
        def named(meant: Named) -> Awaitable[T]:
            request.model, request.lora = meant.model, meant.lora
            return self.ask(attempt)

        return await self._names.ask(request.model, named)

    async def _aliases(self) -> Collection[str]:
        return {model.name for model in (await self.list_models()).models}


def _metadata(caller: str | None) -> aio.Metadata:
    return aio.Metadata() if caller is None else aio.Metadata((METADATA_KEY, caller))
