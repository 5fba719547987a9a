"""Events as messages of the wire."""

from mlx_grpc.v1 import generation_pb2 as pb
from service.pool.generation import Completed, Started, Timings, Usage
from service.servicers.convert import to_ask
from service.servicers.events import to_response
from service.text.pieces import Ended, ReasoningEnded, ReasoningText, Text
from service.types import FinishReason
from tests.calls import chat_request

PLAIN = to_ask(chat_request("hi", requestId="r1"))
WITH_IDS = to_ask(chat_request("hi", output={"tokenIds": True}))


def test_text_has_ids_only_where_they_are_asked_for() -> None:
    """In both kinds of text."""
    for event, name in ((Text("a", (1, 2)), "text"), (ReasoningText("a", (1, 2)), "reasoning")):
        plain, full = (to_response(event, ask, pb.ChatResponse) for ask in (PLAIN, WITH_IDS))
        assert plain is not None
        assert full is not None
        assert getattr(plain, name).text == getattr(full, name).text == "a"
        assert (list(getattr(plain, name).token_ids), list(getattr(full, name).token_ids)) == ([], [1, 2])


def test_what_says_nothing_is_not_sent() -> None:
    """An empty text is a message only where it brings token ids."""
    for event in (Text("", (1,)), ReasoningText("", (1,))):
        assert to_response(event, PLAIN, pb.ChatResponse) is None
        assert to_response(event, WITH_IDS, pb.ChatResponse) is not None


def test_the_end_tells_what_matched() -> None:
    """A stop string, a stop token, whose id may be 0, or nothing."""
    for ended, matched in (
        (Ended(FinishReason.STOP, stop_string="x"), "stop_string"),
        (Ended(FinishReason.STOP, stop_token=0), "stop_token_id"),
        (Ended(FinishReason.LENGTH), None),
    ):
        message = to_response(ended, PLAIN, pb.GenerateResponse)
        assert message is not None
        assert message.finish.WhichOneof("matched") == matched


def test_durations_keep_their_unit() -> None:
    """Seconds inside are durations outside."""
    timings = Timings(queue=0.5, prefill=1, first_token=1.5, decode=2, total=4.25)
    message = to_response(Completed(Usage(3, 4, 2), timings), PLAIN, pb.ChatResponse)
    assert message is not None
    sent = message.completed
    parts = (sent.timings.queue, sent.timings.prefill, sent.timings.time_to_first_token)
    assert [part.ToMilliseconds() for part in (*parts, sent.timings.decode, sent.timings.total)] == [
        *(500, 1000, 1500),
        *(2000, 4250),
    ]
    assert (sent.usage.prompt_tokens, sent.usage.completion_tokens, sent.usage.reasoning_tokens) == (3, 4, 2)


def test_the_others_say_what_they_know() -> None:
    """Start and end of reasoning."""
    started = to_response(Started("m", 3), PLAIN, pb.ChatResponse)
    assert started == pb.ChatResponse(started=pb.Started(request_id="r1", model="m", prompt_tokens=3))
    done = to_response(ReasoningEnded(0.25), PLAIN, pb.ChatResponse)
    assert done is not None
    assert done.reasoning_done.duration.ToMilliseconds() == 250
