"""One line a request in the log: who asked what of which model, what came of it and how long it took."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from mlx_grpc.v1 import generation_pb2 as pb
from service.errors import MAX_QUOTED, ServiceError
from service.pool.generation import Generation

log = structlog.get_logger()


@dataclass(slots=True)
class RequestLog:
    """What is known of a request so far."""

    request: pb.ChatRequest | pb.GenerateRequest
    generation: Generation | None = None
    outcome: str = "ok"

    def write(self) -> None:
        """Log the line. Durations are in milliseconds; the prompt and the answer are not in it."""
        fields: dict[str, object] = {}
        if (generation := self.generation) is not None:
            usage, timings = generation.usage, generation.timings
            finish = generation.finish
            fields = {
                "model": generation.model,
                "prompt_tokens": usage.prompt,
                "completion_tokens": usage.completion,
                "finish": finish.reason.value if finish else None,
                "queue_ms": round(timings.queue * 1000, 1),
                "prefill_ms": round(timings.prefill * 1000, 1),
                "first_token_ms": round(timings.first_token * 1000, 1),
                "total_ms": round(timings.total * 1000, 1),
            }
        rpc = self.request.DESCRIPTOR.name.removesuffix("Request")
        fields = {"model": self.request.model[:MAX_QUOTED]} | fields
        log.info("request", rpc=rpc, id=self.request.request_id[:MAX_QUOTED], outcome=self.outcome, **fields)


@contextmanager
def logged(request: pb.ChatRequest | pb.GenerateRequest) -> Iterator[RequestLog]:
    """Write the line of a request when it ends, however it ends."""
    entry = RequestLog(request)
    try:
        yield entry
    except (asyncio.CancelledError, GeneratorExit):
        entry.outcome = "cancelled"
        raise
    except ServiceError as error:
        entry.outcome = type(error).__name__
        raise
    except Exception:
        entry.outcome = "bug"
        raise
    finally:
        entry.write()
