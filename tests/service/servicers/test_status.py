"""Failures in gRPC's words."""

from base64 import b64encode
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.rpc import error_details_pb2

from service import errors
from service.servicers.status import internal, to_status, trailer

Code = grpc.StatusCode
CASES: list[tuple[errors.ServiceError, Code, list[str]]] = [
    (errors.InvalidField("a.b", "must be 1"), Code.INVALID_ARGUMENT, ["BadRequest"]),
    (errors.UnsupportedField("a.b"), Code.UNIMPLEMENTED, ["BadRequest"]),
    (errors.ContextTooLong(8, 9), Code.INVALID_ARGUMENT, ["ErrorInfo"]),
    (errors.InsufficientMemory(9, 8), Code.RESOURCE_EXHAUSTED, ["ErrorInfo"]),
    (errors.DeadlineExceeded(), Code.DEADLINE_EXCEEDED, ["ErrorInfo"]),
    (errors.ModelTooLarge("m", 9, 8), Code.RESOURCE_EXHAUSTED, ["ErrorInfo"]),
    (errors.PathNotAllowed("/etc"), Code.PERMISSION_DENIED, ["ErrorInfo"]),
    (errors.UnknownModel("m"), Code.NOT_FOUND, ["ResourceInfo"]),
    (errors.UnknownLora("m", "l"), Code.NOT_FOUND, ["ResourceInfo"]),
    (errors.NoChatTemplate("m"), Code.FAILED_PRECONDITION, ["ErrorInfo"]),
    (errors.QueueFull("m"), Code.RESOURCE_EXHAUSTED, ["RetryInfo", "ErrorInfo"]),
    (errors.Unavailable("gone"), Code.UNAVAILABLE, ["RetryInfo"]),
]


def unpacked(error: errors.ServiceError) -> dict[str, Any]:
    """Give the details of a failure by their types."""
    _, status = to_status(error)
    details = {}
    for packed in status.details:
        kind = packed.TypeName().rpartition(".")[2]
        details[kind] = getattr(error_details_pb2, kind)()
        assert packed.Unpack(details[kind])
    return details


@pytest.mark.parametrize(("error", "code", "kinds"), CASES, ids=[type(error).__name__ for error, _, _ in CASES])
def test_a_failure_has_its_code_and_details(error: errors.ServiceError, code: Code, kinds: list[str]) -> None:
    """The code of the call and that of the rich status agree, and the text is the error's own."""
    found, status = to_status(error)
    assert (found, status.code, status.message) == (code, code.value[0], str(error))
    assert list(unpacked(error)) == kinds


def test_every_failure_that_a_caller_can_meet_has_a_case() -> None:
    """A new class of errors cannot be left without a status."""
    covered = {type(error) for error, _, _ in CASES} | {errors.FieldError, errors.SetupError}
    known = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ServiceError)}
    assert known - {errors.ServiceError} == covered


def test_details_say_what_the_error_knows() -> None:
    """Field, figures, names and pauses are there for programs to read."""
    [violation] = unpacked(errors.InvalidField("a.b", "must be 1"))["BadRequest"].field_violations
    assert (violation.field, violation.description) == ("a.b", "a.b must be 1")
    info = unpacked(errors.ContextTooLong(8, 9))["ErrorInfo"]
    assert (info.reason, info.domain, info.metadata) == (
        "CONTEXT_LENGTH_EXCEEDED",
        "mlx-grpc",
        {"limit": "8", "got": "9"},
    )
    info = unpacked(errors.InsufficientMemory(9, 8))["ErrorInfo"]
    assert (info.reason, info.metadata) == ("INSUFFICIENT_MEMORY", {"needed_tokens": "9", "available_tokens": "8"})
    info = unpacked(errors.ModelTooLarge("m", 9, -1))["ErrorInfo"]
    figures = {"model": "m", "needed_bytes": "9", "available_bytes": "0"}
    assert (info.reason, info.metadata) == ("INSUFFICIENT_MEMORY", figures)
    assert unpacked(errors.PathNotAllowed("/etc"))["ErrorInfo"].reason == "PATH_NOT_ALLOWED"
    assert unpacked(errors.UnknownModel("m"))["ResourceInfo"].resource_name == "m"
    lora = unpacked(errors.UnknownLora("m", "l"))["ResourceInfo"]
    assert (lora.resource_type, lora.resource_name, lora.owner) == ("lora", "l", "m")
    assert unpacked(errors.Unavailable("gone", 2.5))["RetryInfo"].retry_delay.ToMilliseconds() == 2500


def test_a_bug_tells_nothing_of_the_inside() -> None:
    """It names the request, which the log has more about."""
    code, status = internal("r1")
    assert (code, status.code, len(status.details)) == (Code.INTERNAL, Code.INTERNAL.value[0], 1)
    detail = error_details_pb2.RequestInfo()
    assert status.details[0].Unpack(detail)
    assert detail.request_id == "r1"


def test_a_setup_error_is_not_for_callers() -> None:
    """It may quote anything of the machine, so it must not be mapped by accident."""
    with pytest.raises(TypeError):
        to_status(errors.SetupError("secret"))


def test_the_trailer_is_the_one_that_clients_look_for() -> None:
    """Key and content are those of gRPC's richer error model."""
    _, status = to_status(errors.Unavailable("gone"))
    assert trailer(status) == (("grpc-status-details-bin", status.SerializeToString()),)


@pytest.mark.parametrize("character", ["x", "é", "語", "\N{WAVING HAND SIGN}", "\n", "\U000e0001"])
@pytest.mark.parametrize("length", [3000, 100_000])
def test_a_status_fits_into_the_trailers(character: str, length: int) -> None:
    """Whatever a caller's own words come to; a trailer of more than 8 KiB may be dropped, and the status with it."""
    words = character * length
    for error in (
        errors.UnknownModel(words),
        errors.UnknownLora(words, words),
        errors.ModelTooLarge(words, 1 << 62, 1 << 62),
        errors.PathNotAllowed(words),
        errors.InvalidField("messages", f"are refused by the chat template: {words}"),
        errors.UnsupportedField("messages", words),
    ):
        _, status = to_status(error)
        in_trailers = len(quote(status.message)) + len(b64encode(status.SerializeToString()))
        assert in_trailers < 8000
