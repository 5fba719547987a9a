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

    def count(self, usage: Usage) -> None:
        """Take the token counts that the service tells."""
        self.prompt_tokens = usage.prompt_tokens
        self.completion_tokens = usage.completion_tokens
        self.reasoning_tokens = usage.reasoning_tokens

    def write(self) -> None:
        """Write the request's line, in the names that the service's own has; the duration is in milliseconds."""
        log.info(
            "request",
            **{"from": "shim"},
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


def configure() -> None:
    """Send every log of the process, the libraries' too, to standard error as JSON lines."""
    shared: list[structlog.typing.Processor] = [
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
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("shim").setLevel(logging.INFO)


def _dumps(value: object, **_: object) -> str:
    return orjson.dumps(value, default=repr).decode()
