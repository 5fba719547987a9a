"""OpenAI's error object, and the one place where a gRPC status becomes an HTTP one."""

import math
from collections.abc import Iterable, Mapping
from typing import TypedDict, TypeVar

import grpc
import orjson
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2 as details_pb2
from google.rpc import status_pb2
from grpc import aio
from starlette.responses import Response

from shim.params import Params

M = TypeVar("M", bound=Message)

_STATUS_KEY = "grpc-status-details-bin"
_SERVER_ERROR = "The server had an error while processing the request."
_UNAVAILABLE = "The service is unavailable. Try again later."


class ErrorFields(TypedDict):
    """The fields of OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    """OpenAI's error object, as it is the body of a response and an event of a stream."""

    error: ErrorFields


class ClientGoneError(Exception):
    """The client closed its connection, so there is nobody to answer."""


class ApiError(Exception):
    """An error that the client is told about: an HTTP status and OpenAI's error object."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body: ErrorBody = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    @property
    def message(self) -> str:
        """What the client is told."""
        return self.body["error"]["message"]

    def response(self) -> Response:
        """Make the whole HTTP response of the error."""
        return Response(orjson.dumps(self.body), self.status, self.headers, "application/json")


def bad_request(message: str, param: str | None, code: str | None = None) -> ApiError:
    """Blame a field of the request, or its body as a whole where `param` is None."""
    return ApiError(400, message, param=param, code=code)


def too_large(limit: int) -> ApiError:
    """Refuse a body of more than `limit` bytes."""
    return ApiError(413, f"The request body is larger than {limit} bytes.")


def too_slow(seconds: float) -> ApiError:
    """Refuse a body that did not come within `seconds`, and close the connection that the rest may come on."""
    message = f"The request body did not arrive within {seconds:g} seconds."
    return ApiError(408, message, code="request_timeout", headers={"connection": "close"})


def server_error() -> ApiError:
    """Hide a bug from the client."""
    return ApiError(500, _SERVER_ERROR, "server_error")


def unavailable(message: str = _UNAVAILABLE, retry_after_s: int = 1) -> ApiError:
    """Ask the client to come back later."""
    return ApiError(503, message, "server_error", code="unavailable", headers={"retry-after": str(retry_after_s)})


class RichStatus:
    """The google.rpc details of a failed call, of which all are optional."""

    def __init__(self, error: aio.AioRpcError) -> None:
        self.code = error.code()
        self.message = error.details() or ""
        self._details = list(_details(error))
        self.reason = self._find(details_pb2.ErrorInfo).reason
        self.request_id = self._find(details_pb2.RequestInfo).request_id
        violations = self._find(details_pb2.BadRequest).field_violations
        self.violation = violations[0] if violations else None
        self.over_quota = bool(self._find(details_pb2.QuotaFailure).violations)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds until a retry makes sense, at least 1."""
        delay = self._find(details_pb2.RetryInfo).retry_delay
        seconds: float = delay.seconds + delay.nanos / 1e9
        return max(1, math.ceil(seconds))

    @property
    def is_queue_full(self) -> bool:
        """Whether too many wait there already."""
        return self.code is grpc.StatusCode.RESOURCE_EXHAUSTED and self.reason == "QUEUE_FULL"

    @property
    def is_of_one_replica(self) -> bool:
        """Whether another replica may well take what this one refuses."""
        return self.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND} or self.is_queue_full

    @property
    def hopelessness(self) -> int:
        """How little a refusal of one replica promises of a retry; that of one that cannot be asked says least."""
        if self.is_queue_full:
            return 0
        if not self.is_service_made:
            return 3
        return 1 if self.code is grpc.StatusCode.UNAVAILABLE else 2

    @property
    def is_service_made(self) -> bool:
        """Whether the service wrote the message, rather than gRPC about a connection."""
        return bool(self._details)

    def _find(self, kind: type[M]) -> M:
        found = kind()
        for detail in self._details:
            if detail.Unpack(found):
                break
        return found


def from_grpc(error: aio.AioRpcError, params: Params) -> ApiError:
    """Map a failed call to what the client is told, in the names that it used."""
    status = RichStatus(error)
    mapped = _mapped(status, params)
    if status.request_id:
        mapped.headers.setdefault("x-request-id", status.request_id)
    return mapped


def _mapped(status: RichStatus, params: Params) -> ApiError:  # noqa: PLR0911 - one for each status
    message = status.message
    match status.code:
        case grpc.StatusCode.INVALID_ARGUMENT if status.reason == "CONTEXT_LENGTH_EXCEEDED":
            return bad_request(message, params.prompt, "context_length_exceeded")
        case (
            grpc.StatusCode.INVALID_ARGUMENT
            | grpc.StatusCode.OUT_OF_RANGE
            | grpc.StatusCode.FAILED_PRECONDITION
            | grpc.StatusCode.UNIMPLEMENTED
        ):
            return _refused(status, params)
        case grpc.StatusCode.NOT_FOUND:
            return ApiError(404, message, param="model", code="model_not_found")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return _exhausted(status)
        case grpc.StatusCode.UNAVAILABLE:
            return unavailable(message if status.is_service_made else _UNAVAILABLE, status.retry_after_s)
        case grpc.StatusCode.UNAUTHENTICATED:
            return ApiError(401, message, code="invalid_api_key")
        case grpc.StatusCode.PERMISSION_DENIED:
            return ApiError(403, message, "permission_error", code="permission_denied")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return ApiError(504, "The request ran past its deadline.", "server_error", code="timeout")
        case grpc.StatusCode.ABORTED:
            return ApiError(409, message, "server_error", code="request_aborted")
        case _:
            return server_error()


def _refused(status: RichStatus, params: Params) -> ApiError:
    code = status.reason.lower() or None
    if status.violation is None:
        return bad_request(status.message, None, code)
    code = code or ("unsupported_parameter" if status.code is grpc.StatusCode.UNIMPLEMENTED else "invalid_value")
    param = params.name(status.violation.field)
    # The description may begin with the wire's path, which the client did not send.
    field, text = status.violation.field, status.violation.description or status.message
    text = text.removeprefix(f"{field}: ").removeprefix(f"{field} ")
    return bad_request(f"{param}: {text}", param, code)


def _exhausted(status: RichStatus) -> ApiError:
    if status.reason == "INSUFFICIENT_MEMORY":
        return ApiError(503, status.message, "server_error", code="insufficient_memory")
    # gRPC's own refusal of a large message carries no details, only this wording.
    if not status.is_service_made and "larger than max" in status.message:
        return ApiError(413, "The request is larger than the service accepts.")
    code = "insufficient_quota" if status.over_quota else "rate_limit_exceeded"
    headers = {"retry-after": str(status.retry_after_s)}
    return ApiError(429, status.message, "rate_limit_error", code=code, headers=headers)


def _details(error: aio.AioRpcError) -> Iterable[Any]:
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_KEY:
            try:
                status: Iterable[Any] = status_pb2.Status.FromString(value).details
            except DecodeError:
                break
            return status
    return ()
