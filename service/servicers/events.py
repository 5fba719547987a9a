"""What a generation says, as messages of the wire."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from google.protobuf.duration_pb2 import Duration

from mlx_grpc.v1 import generation_pb2 as pb
from mlx_grpc.v1 import models_pb2 as models_pb
from service.engine.frames import Logprob
from service.pool.events import Completed, GenerationEvent, Prefilled, Queued, Started
from service.pool.progress import LoadProgress, Stage
from service.text.pieces import CallText, Ended, ReasoningEnded, ReasoningText, Text
from service.types import Ask, FinishReason

Response = TypeVar("Response", pb.ChatResponse, pb.GenerateResponse)
_Delta = pb.TextDelta | pb.ReasoningDelta | pb.ToolCallDelta

_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
}


_STATES = {
    Stage.RESOLVING: models_pb.MODEL_STATE_DOWNLOADING,
    Stage.DOWNLOADING: models_pb.MODEL_STATE_DOWNLOADING,
    Stage.WAITING: models_pb.MODEL_STATE_UNLOADED,
    Stage.LOADING: models_pb.MODEL_STATE_LOADING,
    Stage.WARMING: models_pb.MODEL_STATE_WARMING,
    Stage.READY: models_pb.MODEL_STATE_READY,
}


def loading(response: type[Response], progress: LoadProgress) -> Response:
    """The message of how far the model is that a call waits for."""
    fraction = progress.fraction
    if progress.stage is Stage.DOWNLOADING and progress.total_bytes:
        fraction = progress.bytes / progress.total_bytes
    return response(loading=pb.ModelProgress(state=_STATES[progress.stage], fraction=fraction))


class EventWriter(Generic[Response]):
    """Writes the messages of one call."""

    def __init__(self, ask: Ask, response: type[Response], token_bytes: Mapping[int, bytes]) -> None:
        """`token_bytes` are the bytes of each token."""
        self._response: type[Response] = response
        self._request_id = ask.request_id
        self._with_ids = ask.output.token_ids
        self._token_bytes = token_bytes

    def message(self, choice: int, event: GenerationEvent) -> Response | None:
        """The message of an event about a choice, or None where it would say nothing."""
        # Filled in place: a message that is made first and handed over is copied.
        message = self._response(index=choice) if choice else self._response()
        match event:
            case Text():
                message.text.text = event.text
                return message if self._tokens(message.text, event) or event.text else None
            case ReasoningText():
                message.reasoning.text = event.text  # type: ignore[attr-defined] # Chat only
                return message if self._tokens(message.reasoning, event) or event.text else None  # type: ignore[attr-defined]
            case CallText(index, id, name, arguments):
                call = message.tool_call  # type: ignore[attr-defined] # Chat only
                call.tool_index, call.id, call.name, call.arguments_delta = index, id, name, arguments
                return message if self._tokens(call, event) or name or arguments else None
            case ReasoningEnded(duration):
                message.reasoning_done.duration.CopyFrom(_duration(duration))  # type: ignore[attr-defined] # Chat only
            case Started(model, prompt_tokens):
                message.started.request_id = self._request_id
                message.started.model = model
                message.started.prompt_tokens = prompt_tokens
            case Queued(position):
                message.queue.position = position
            case Prefilled(processed, total, cached):
                message.progress.CopyFrom(pb.PromptProgress(processed=processed, total=total, cached=cached))
            case Ended():
                message.finish.CopyFrom(_finish(event))
            case Completed():
                message.completed.CopyFrom(_completed(event))
        return message

    def _tokens(self, delta: _Delta, piece: Text | ReasoningText | CallText) -> bool:
        """Say the tokens of a piece; whether there was anything to say."""
        if self._with_ids:
            delta.token_ids.extend(piece.token_ids)
        if piece.logprobs:
            delta.logprobs.extend(map(self._logprob, piece.token_ids, piece.logprobs))
        return bool(piece.logprobs or (self._with_ids and piece.token_ids))

    def _logprob(self, token: int, logprob: Logprob | None) -> pb.TokenLogprob:
        names = self._token_bytes
        if logprob is None:
            return pb.TokenLogprob(token_id=token, token=names[token])
        top = [pb.TopLogprob(token_id=other, token=names[other], logprob=value) for other, value in logprob.top]
        return pb.TokenLogprob(token_id=token, token=names[token], logprob=logprob.logprob, top=top)


def _finish(ended: Ended) -> pb.Finish:
    finish = pb.Finish(reason=_REASONS[ended.reason])
    if ended.stop_string is not None:
        finish.stop_string = ended.stop_string
    if ended.stop_token is not None:
        finish.stop_token_id = ended.stop_token
    return finish


def _completed(event: Completed) -> pb.Completed:
    usage, timings = event.usage, event.timings
    return pb.Completed(
        usage=pb.Usage(
            prompt_tokens=usage.prompt,
            completion_tokens=usage.completion,
            cached_tokens=usage.cached,
            reasoning_tokens=usage.reasoning,
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
