"""What a generation says, as messages of the wire."""

from typing import TypeVar

from google.protobuf.duration_pb2 import Duration

from mlx_grpc.v1 import generation_pb2 as pb
from service.pool.generation import Completed, GenerationEvent, Started
from service.text.parser import Ended, ReasoningEnded, ReasoningText, Text
from service.types import Ask, FinishReason

Response = TypeVar("Response", pb.ChatResponse, pb.GenerateResponse)

_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}


def to_response(event: GenerationEvent, ask: Ask, response: type[Response]) -> Response | None:
    """The message of an event, or None where it would say nothing."""
    match event:
        case Text(text, token_ids):
            ids = token_ids if ask.token_ids else ()
            return response(text=pb.TextDelta(text=text, token_ids=ids)) if text or ids else None
        case ReasoningText(text, token_ids):
            ids = token_ids if ask.token_ids else ()
            delta = pb.ReasoningDelta(text=text, token_ids=ids)
            return response(reasoning=delta) if text or ids else None  # type: ignore[call-arg] # Generate has none
        case ReasoningEnded(duration):
            done = pb.ReasoningDone(duration=_duration(duration))
            return response(reasoning_done=done)  # type: ignore[call-arg] # Generate has none
        case Started(model, prompt_tokens):
            started = pb.Started(request_id=ask.request_id, model=model, prompt_tokens=prompt_tokens)
            return response(started=started)
        case Ended(reason, stop_string, stop_token):
            finish = pb.Finish(reason=_REASONS[reason])
            if stop_string is not None:
                finish.stop_string = stop_string
            if stop_token is not None:
                finish.stop_token_id = stop_token
            return response(finish=finish)
        case Completed():
            return response(completed=_completed(event))


def _completed(event: Completed) -> pb.Completed:
    usage, timings = event.usage, event.timings
    return pb.Completed(
        usage=pb.Usage(
            prompt_tokens=usage.prompt, completion_tokens=usage.completion, reasoning_tokens=usage.reasoning
        ),
        timings=pb.Timings(
            queue=_duration(timings.queue),
            prefill=_duration(timings.prefill),
            time_to_first_token=_duration(timings.first_token),
            decode=_duration(timings.decode),
            total=_duration(timings.total),
        ),
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
