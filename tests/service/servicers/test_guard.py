"""What is raised inside a call becomes a status."""

from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import grpc
import pytest
import structlog
from grpc import aio

from mlx_grpc.v1 import generation_pb2 as pb
from mlx_grpc.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc
from service.errors import EngineFault, InvalidField, Unavailable
from service.servicers.guard import Guard
from tests.calls import answer, refused, text_request

SECRET = "secret of the inside"
FAILURES: dict[str, Exception] = {
    "field": InvalidField("text", "is wrong"),
    "unavailable": Unavailable("gone"),
    "fault": EngineFault(SECRET),
    "bug": KeyError(SECRET),
    **{f"long {kind}": InvalidField("messages", kind * 100_000) for kind in ("x", "語", "\n")},
}


class FailingGeneration(generation_pb2_grpc.GenerationServiceServicer):
    """Raises what the request asks for, after the first event."""

    def Chat(self, request: pb.ChatRequest, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:  # noqa: ARG002, N802
        yield pb.GenerateResponse(started=pb.Started())
        raise FAILURES[request.text]


class FailingModels(models_pb2_grpc.ModelServiceServicer):
    """Raises what the request asks for."""

    async def ListModels(self, request: models_pb2.ListModelsRequest, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def GetModel(self, request: models_pb2.GetModelRequest, context: Any) -> models_pb2.GetModelResponse:  # noqa: ARG002, N802
        raise FAILURES[request.name]


@pytest.fixture
async def failing() -> AsyncIterator[aio.Channel]:
    server = aio.server(interceptors=[Guard()])
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(FailingGeneration(), server)
    models_pb2_grpc.add_ModelServiceServicer_to_server(FailingModels(), server)  # type: ignore[abstract] # two are enough
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


@pytest.fixture(autouse=True)
def logged() -> Any:
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.mark.parametrize(
    ("failure", "code"), [("field", grpc.StatusCode.INVALID_ARGUMENT), ("unavailable", grpc.StatusCode.UNAVAILABLE)]
)
async def test_a_failure_with_a_meaning_is_told(failing: aio.Channel, failure: str, code: grpc.StatusCode) -> None:
    """In a stream as in a single answer."""
    stub: Any = models_pb2_grpc.ModelServiceStub(failing)
    for call in (answer(failing, text_request(failure)), stub.GetModel(models_pb2.GetModelRequest(name=failure))):
        refusal = await refused(call)
        assert (refusal.code, refusal.message) == (code, str(FAILURES[failure]))


@pytest.mark.parametrize("failure", [name for name in FAILURES if name.startswith("long")], ids=ascii)
async def test_a_long_reason_keeps_its_status(failing: aio.Channel, failure: str) -> None:
    """A chat template may refuse a conversation in as many words as it likes; the first ones are told."""
    stub: Any = models_pb2_grpc.ModelServiceStub(failing)
    for call in (answer(failing, text_request(failure)), stub.GetModel(models_pb2.GetModelRequest(name=failure))):
        refusal = await refused(call)
        assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["messages"])
        assert str(FAILURES[failure]).startswith(refusal.message.removesuffix("…"))
        assert len(refusal.message) > 100


@pytest.mark.parametrize("failure", ["fault", "bug"])
async def test_a_bug_is_internal_and_logged(
    failing: aio.Channel, logged: list[MutableMapping[str, Any]], failure: str
) -> None:
    """The caller learns no more than the request's id, under which the log has the rest."""
    stub: Any = models_pb2_grpc.ModelServiceStub(failing)
    streamed = await refused(answer(failing, text_request(failure, requestId="r1")))
    single = await refused(stub.GetModel(models_pb2.GetModelRequest(name=failure)))
    for refusal in (streamed, single):
        assert refusal.code == grpc.StatusCode.INTERNAL
        assert SECRET not in refusal.message
        assert list(refusal.details) == ["RequestInfo"]
    assert [(entry["event"], entry["request_id"], entry["exc_info"]) for entry in logged] == [
        ("bug", "r1", FAILURES[failure]),
        ("bug", "", FAILURES[failure]),
    ]


async def test_what_came_before_a_failure_arrives(failing: aio.Channel) -> None:
    """The events of a stream are not taken back."""
    stub: Any = generation_pb2_grpc.GenerationServiceStub(failing)
    events = aiter(stub.Generate(text_request("bug")))
    assert (await anext(events)).HasField("started")
    with pytest.raises(aio.AioRpcError):
        await anext(events)


async def test_an_unknown_call_stays_unimplemented(failing: aio.Channel) -> None:
    """There is nothing to guard where there is no handler."""
    unknown: Any = failing.unary_unary("/mlx_grpc.v1.Nothing/Nothing")
    assert (await refused(unknown(b""))).code == grpc.StatusCode.UNIMPLEMENTED
