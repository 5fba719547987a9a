"""Events as messages of the wire."""

from typing import Any

import pytest

from mlx_grpc.v1 import generation_pb2 as pb
from mlx_grpc.v1 import models_pb2
from service.pool.events import Completed, GenerationEvent, Prefilled, Queued, Started, Timings, Usage
from service.pool.progress import LoadProgress, Stage
from service.servicers.convert import to_ask
from service.servicers.events import EventWriter, Response, loading
from service.text.pieces import CallText, Ended, ReasoningEnded, ReasoningText, Text
from service.types import FinishReason
from tests.calls import chat_request
from tests.service.fakes import logprob

NAMES = {1: b"a", 2: b"\xe6", 3: b"c"}
IDS = {"tokenIds": True}


def written(event: GenerationEvent, response: type[Response], choice: int = 0, **output: Any) -> Response | None:
    """Write an event of a request with that output."""
    ask = to_ask(chat_request("hi", requestId="r1", output=output))
    return EventWriter(ask, response, NAMES).message(choice, event)


def chat(event: GenerationEvent, choice: int = 0, **output: Any) -> pb.ChatResponse:
    """Write an event that says something."""
    message = written(event, pb.ChatResponse, choice, **output)
    assert message is not None
    return message


def test_text_has_ids_only_where_they_are_asked_for() -> None:
    """In both kinds of text."""
    for event, name in ((Text("a", (1, 2)), "text"), (ReasoningText("a", (1, 2)), "reasoning")):
        plain, full = getattr(chat(event), name), getattr(chat(event, **IDS), name)
        assert plain.text == full.text == "a"
        assert (list(plain.token_ids), list(full.token_ids)) == ([], [1, 2])


def test_what_says_nothing_is_not_sent() -> None:
    """An empty text is a message only where it brings token ids or log-probabilities."""
    for kind, name in ((Text, "text"), (ReasoningText, "reasoning")):
        assert written(kind("", (1,)), pb.ChatResponse) is None
        assert chat(kind("", (1,)), **IDS).WhichOneof("event") == name
        assert chat(kind("", (1,), (logprob(-1.0),))).WhichOneof("event") == name


def test_a_call_is_told_in_pieces() -> None:
    """Its name once, its arguments as they form, its tokens where they are asked for; what says nothing is not sent."""
    first, more = CallText(1, "c1", "look", token_ids=(1,)), CallText(1, arguments='{"a', token_ids=(2, 3))
    assert chat(first).tool_call == pb.ToolCallDelta(tool_index=1, id="c1", name="look")
    assert chat(more, **IDS).tool_call == pb.ToolCallDelta(tool_index=1, arguments_delta='{"a', token_ids=[2, 3])
    assert [each.token for each in chat(CallText(0, logprobs=(logprob(-1.0),), token_ids=(3,))).tool_call.logprobs] == [
        b"c"
    ]
    assert written(CallText(0, token_ids=(1,)), pb.ChatResponse) is None
    assert chat(Ended(FinishReason.TOOL_CALLS)).finish.reason == pb.FINISH_REASON_TOOL_CALLS


def test_every_event_names_its_choice() -> None:
    """From 0."""
    for event in (Text("a"), ReasoningText("a"), ReasoningEnded(1.0), Ended(FinishReason.LENGTH)):
        assert [chat(event, choice).index for choice in (0, 1, 127)] == [0, 1, 127]


def test_log_probabilities_have_the_bytes_of_their_tokens() -> None:
    """Which may be parts of a character, the alternatives' too."""
    piece = Text("a", (1, 2), (logprob(-0.5), logprob(-1.5, (3, -0.25), (2, -1.5))))
    first, second = chat(piece).text.logprobs
    assert first == pb.TokenLogprob(token_id=1, token=b"a", logprob=-0.5)
    assert second == pb.TokenLogprob(
        token_id=2,
        token=b"\xe6",
        logprob=-1.5,
        top=[
            pb.TopLogprob(token_id=3, token=b"c", logprob=-0.25),
            pb.TopLogprob(token_id=2, token=b"\xe6", logprob=-1.5),
        ],
    )
    assert [each.token for each in chat(ReasoningText("a", piece.token_ids, piece.logprobs)).reasoning.logprobs] == [
        b"a",
        b"\xe6",
    ]


def test_nothing_predicts_the_first_token_of_a_prompt() -> None:
    """Its log-probability is absent, which is not zero."""
    first, second = chat(Text("", (1, 2), (None, logprob(0.0)))).text.logprobs
    assert (first.token_id, first.HasField("logprob"), list(first.top)) == (1, False, [])
    assert (second.HasField("logprob"), second.logprob) == (True, 0.0)


@pytest.mark.parametrize(
    ("ended", "matched"),
    [
        (Ended(FinishReason.STOP, stop_string="x"), "stop_string"),
        (Ended(FinishReason.STOP, stop_token=0), "stop_token_id"),
        (Ended(FinishReason.LENGTH), None),
    ],
)
def test_the_end_tells_what_matched(ended: Ended, matched: str | None) -> None:
    """A stop string, a stop token, whose id may be 0, or nothing."""
    message = written(ended, pb.GenerateResponse, 1)
    assert message is not None
    assert (message.index, message.finish.WhichOneof("matched")) == (1, matched)


def test_durations_keep_their_unit() -> None:
    """Seconds inside are durations outside."""
    timings = Timings(queue=0.5, prefill=1, first_token=1.5, decode=2, total=4.25)
    sent = chat(Completed(Usage(3, 4, 2, 1), timings)).completed
    parts = (sent.timings.queue, sent.timings.prefill, sent.timings.time_to_first_token)
    assert [part.ToMilliseconds() for part in (*parts, sent.timings.decode, sent.timings.total)] == [
        *(500, 1000, 1500),
        *(2000, 4250),
    ]
    assert sent.usage == pb.Usage(prompt_tokens=3, completion_tokens=4, reasoning_tokens=2, cached_tokens=1)


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (Started("m", 3), {"started": pb.Started(request_id="r1", model="m", prompt_tokens=3)}),
        (Queued(0), {"queue": pb.QueueUpdate(position=0)}),
        (Queued(2), {"queue": pb.QueueUpdate(position=2)}),
        (Prefilled(0, 9, 0), {"progress": pb.PromptProgress(total=9)}),
        (Prefilled(5, 9, 4), {"progress": pb.PromptProgress(processed=5, total=9, cached=4)}),
    ],
)
def test_the_others_say_what_they_know(event: GenerationEvent, fields: dict[str, Any]) -> None:
    """In both kinds of answer; zeros are said too."""
    assert chat(event) == pb.ChatResponse(**fields)
    assert written(event, pb.GenerateResponse) == pb.GenerateResponse(**fields)


def test_the_end_of_reasoning_has_its_duration() -> None:
    """In seconds inside."""
    assert chat(ReasoningEnded(0.25)).reasoning_done.duration.ToMilliseconds() == 250


@pytest.mark.parametrize(
    ("progress", "state", "fraction"),
    [
        (LoadProgress(Stage.RESOLVING), models_pb2.MODEL_STATE_DOWNLOADING, 0),
        (LoadProgress(Stage.DOWNLOADING, 3, 12), models_pb2.MODEL_STATE_DOWNLOADING, 0.25),
        (LoadProgress(Stage.DOWNLOADING, 3, 0), models_pb2.MODEL_STATE_DOWNLOADING, 0),
        (LoadProgress(Stage.WAITING, 3, 12), models_pb2.MODEL_STATE_UNLOADED, 0),
        (LoadProgress(Stage.LOADING, fraction=0.5), models_pb2.MODEL_STATE_LOADING, 0.5),
        (LoadProgress(Stage.WARMING), models_pb2.MODEL_STATE_WARMING, 0),
        (LoadProgress(Stage.READY, fraction=1.0), models_pb2.MODEL_STATE_READY, 1),
    ],
)
def test_a_load_is_told_as_a_state_and_a_fraction(
    progress: LoadProgress, state: "models_pb2.ModelState.ValueType", fraction: float
) -> None:
    """In both kinds of answer; bytes are a fraction of those that there are, where that is known."""
    told = pb.ModelProgress(state=state, fraction=fraction)
    assert loading(pb.ChatResponse, progress) == pb.ChatResponse(loading=told)
    assert loading(pb.GenerateResponse, progress) == pb.GenerateResponse(loading=told)


def test_every_stage_of_a_load_can_be_told() -> None:
    """A new one cannot be left out."""
    for stage in Stage:
        assert loading(pb.ChatResponse, LoadProgress(stage)).loading.state != models_pb2.MODEL_STATE_UNSPECIFIED
