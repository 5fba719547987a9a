"""Logs as JSON lines on standard error: one event a request, and never a prompt."""

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
import structlog
from starlette.requests import Request
from starlette.types import Scope

from mlx_grpc.v1.generation_pb2 import Usage

log: structlog.stdlib.BoundLogger = structlog.get_logger("shim")

CLIENT_GONE = 499
"""The status of a request whose client has left. Nobody reads it but the log."""


@dataclass(slots=True)
class RequestRecord:
    """What the log will say about a request; routes fill in what they learn."""

    request_id: str
    method: str
    path: str
    started_at: float = field(default_factory=time.perf_counter)
    model: str | None = None
    status: int | None = None
    error: str | None = None
    finish: str | Sequence[str | None] | None = None
    """The answer's finish reason; of several choices, all of theirs."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    routine: bool = False
    """Whether the line is for those only who debug."""

    def leave(self) -> None:
        """Note that the client has left before its answer was whole."""
        self.status, self.finish = CLIENT_GONE, "disconnected"

    def count(self, usage: Usage) -> None:
        """Take the token counts that the service tells."""
        self.prompt_tokens = usage.prompt_tokens
        self.completion_tokens = usage.completion_tokens
        self.reasoning_tokens = usage.reasoning_tokens

    def write(self) -> None:
        """Write the request's line, in the names that the service's own has; the duration is in milliseconds."""
        write = log.debug if self.routine else log.info
        write(
            "request",
            request_id=self.request_id,
            method=self.method,
            route=self.path,
            model=self.model,
            status=self.status,
            error=self.error,
            finish=self.finish,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            reasoning_tokens=self.reasoning_tokens,
            total_ms=round((time.perf_counter() - self.started_at) * 1000, 1),
        )


def record_of(request: Request) -> RequestRecord:
    """Find the record of a request that is being answered."""
    return record_in(request.scope)


def record_in(scope: Scope) -> RequestRecord:
    """Find it in the scope of the request."""
    record: RequestRecord = scope["state"]["record"]
    return record


def configure(level: str) -> None:
    """Send every log of the process to standard error as JSON lines: ours from a level on, the libraries' warnings."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        _sign,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=_dumps),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
    logging.getLogger("shim").setLevel(number)


def _sign(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Say who speaks, in the order that the service's lines have: both often log to the same place."""
    return {"event": event.pop("event"), "from": "shim", **event}


def _dumps(value: object, **_: object) -> str:
    return orjson.dumps(value, default=repr).decode()
