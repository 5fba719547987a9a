"""The interceptor around every call of ours: what is raised inside becomes a rich status, in this one place."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn, TypeAlias

import grpc
import structlog
from grpc import aio

from service.errors import ServiceError, SetupError
from service.servicers.status import internal, to_status, trailer

log = structlog.get_logger()

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Context = aio.ServicerContext[Any, Any]


class Guard(aio.ServerInterceptor):
    """Wraps the handlers of our own package; those of libraries report their errors themselves."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """See aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith("/mlx_grpc."):
            return handler
        wrap = (
            grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
        )
        inner = _guard_stream(handler.unary_stream) if handler.response_streaming else _guard_unary(handler.unary_unary)
        return wrap(inner, handler.request_deserializer, handler.response_serializer)


def _guard_unary(call: Any) -> Callable[[Any, Context], Awaitable[Any]]:
    async def guarded(request: Any, context: Context) -> Any:
        try:
            return await call(request, context)
        except Exception as error:  # noqa: BLE001 - the last place that can turn a bug into a status
            await _abort(context, request, error)

    return guarded


def _guard_stream(call: Any) -> Callable[[Any, Context], AsyncIterator[Any]]:
    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            # Closed here and now: a call that ends in the middle of a write must not wait for the garbage collector.
            async with aclosing(call(request, context)) as responses:
                async for response in responses:
                    yield response
        except Exception as error:  # noqa: BLE001 - the last place that can turn a bug into a status
            await _abort(context, request, error)

    return guarded


async def _abort(context: Context, request: Any, error: Exception) -> NoReturn:
    if isinstance(error, ServiceError) and not isinstance(error, SetupError):  # which is nobody's who calls
        code, status = to_status(error)
    else:
        request_id = getattr(request, "request_id", "")
        log.error("bug", request_id=request_id, exc_info=error)
        code, status = internal(request_id)
    await context.abort(code, status.message, trailer(status))
