"""Failures in gRPC's words: a status code and google.rpc details. The one place that maps them."""

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status

from service.errors import (
    ContextTooLong,
    DeadlineExceeded,
    FieldError,
    InsufficientMemory,
    InvalidField,
    ModelTooLarge,
    NoChatTemplate,
    PathNotAllowed,
    QueueFull,
    ServiceError,
    Unavailable,
    UnknownLora,
    UnknownModel,
)

DOMAIN = "mlx-grpc"
"""The domain of ErrorInfo reasons."""
_DETAILS_KEY = "grpc-status-details-bin"

_MAX_TEXT = 300
"""Characters of an error's text: a trailer of more than 8 KiB may be dropped, and a character may take 4 bytes."""

Code = grpc.StatusCode


def to_status(error: ServiceError) -> tuple[grpc.StatusCode, Status]:
    """The code and the rich status of a failure."""
    code, details = _describe(error)
    status = Status(code=code.value[0], message=_clipped(str(error)))
    for detail in details:
        status.details.add().Pack(detail)
    return code, status


def internal(request_id: str) -> tuple[grpc.StatusCode, Status]:
    """The status of a bug. It tells where to look in the logs and nothing of the inside."""
    status = Status(
        code=Code.INTERNAL.value[0], message="an internal error; the server's log has it under the request's id"
    )
    status.details.add().Pack(RequestInfo(request_id=request_id))
    return Code.INTERNAL, status


def trailer(status: Status) -> tuple[tuple[str, bytes]]:
    """The trailing metadata that carries a rich status."""
    return ((_DETAILS_KEY, status.SerializeToString()),)


def _describe(error: ServiceError) -> tuple[grpc.StatusCode, list[Message]]:  # noqa: C901, PLR0911, PLR0912 - one a kind
    match error:
        case InvalidField():
            return Code.INVALID_ARGUMENT, [_violation(error)]
        case FieldError():
            return Code.UNIMPLEMENTED, [_violation(error)]
        case ContextTooLong():
            figures = {"limit": str(error.limit), "got": str(error.got)}
            return Code.INVALID_ARGUMENT, [_info("CONTEXT_LENGTH_EXCEEDED", **figures)]
        case InsufficientMemory():
            figures = {"needed_tokens": str(error.needed), "available_tokens": str(error.available)}
            return Code.RESOURCE_EXHAUSTED, [_info("INSUFFICIENT_MEMORY", **figures)]
        case ModelTooLarge():
            figures = {"needed_bytes": str(error.needed_bytes), "available_bytes": str(error.available_bytes)}
            return Code.RESOURCE_EXHAUSTED, [_info("INSUFFICIENT_MEMORY", model=error.model, **figures)]
        case PathNotAllowed():
            return Code.PERMISSION_DENIED, [_info("PATH_NOT_ALLOWED")]
        case DeadlineExceeded():
            return Code.DEADLINE_EXCEEDED, [_info("DEADLINE_EXCEEDED")]
        case UnknownModel():
            return Code.NOT_FOUND, [ResourceInfo(resource_type="model", resource_name=error.name)]
        case UnknownLora():
            return Code.NOT_FOUND, [ResourceInfo(resource_type="lora", resource_name=error.name, owner=error.model)]
        case NoChatTemplate():
            return Code.FAILED_PRECONDITION, [_info("NO_CHAT_TEMPLATE", model=error.model)]
        case QueueFull():
            return Code.RESOURCE_EXHAUSTED, [_retry(error.retry_after), _info("QUEUE_FULL", model=error.model)]
        case Unavailable():
            return Code.UNAVAILABLE, [_retry(error.retry_after)]
        case _:
            raise TypeError(f"{type(error).__name__} has no status") from error


def _clipped(text: str) -> str:
    """What fits into the trailers, where it stands three times."""
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


def _violation(error: FieldError) -> BadRequest:
    return BadRequest(field_violations=[BadRequest.FieldViolation(field=error.field, description=_clipped(str(error)))])


def _info(reason: str, **metadata: str) -> ErrorInfo:
    return ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)


def _retry(seconds: float) -> RetryInfo:
    delay = Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    return RetryInfo(retry_delay=delay)
