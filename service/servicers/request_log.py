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
    caller: str | None = None
    generation: Generation | None = None
    outcome: str = "ok"
    error: str | None = None

    def write(self) -> None:
        """Log the line. Durations are in milliseconds; the prompt and the answer are not in it."""
        log.info(
            "request",
            rpc=self.request.DESCRIPTOR.name.removesuffix("Request"),
            request_id=self.request.request_id[:MAX_QUOTED],
            caller=self.caller,
            model=self.generation.model if self.generation else self.request.model[:MAX_QUOTED],
            lora=self.request.lora[:MAX_QUOTED] or None,
            outcome=self.outcome,
            error=self.error,
            **(_figures(self.generation) if self.generation else {}),
        )


def _figures(generation: Generation) -> dict[str, object]:
    usage, timings = generation.usage, generation.timings
    finishes = [finish.reason.value if finish else None for finish in generation.finishes]
    return {
        "finish": finishes[0] if len(finishes) == 1 else finishes,
        "prompt_tokens": usage.prompt,
        "cached_tokens": usage.cached,
        "completion_tokens": usage.completion,
        "reasoning_tokens": usage.reasoning,
        "queue_ms": round(timings.queue * 1000, 1),
        "prefill_ms": round(timings.prefill * 1000, 1),
        "first_token_ms": round(timings.first_token * 1000, 1),
        "decode_ms": round(timings.decode * 1000, 1),
        "total_ms": round(timings.total * 1000, 1),
    }


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
        entry.outcome, entry.error = type(error).__name__, str(error)[:MAX_QUOTED]
        raise
    except Exception:
        entry.outcome = "bug"
        raise
    finally:
        entry.write()
