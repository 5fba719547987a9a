"""Both generating calls over a real channel, on tiny models."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import jsonschema
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from mlx_grpc.v1 import generation_pb2 as pb
from mlx_grpc.v1 import tokenizer_pb2 as tokenizer_pb
from mlx_grpc.v1 import tokenizer_pb2_grpc as tokenizer_grpc
from service.engine.frames import Abort, Progress, Queued, Row, Submit
from tests.calls import (
    ENDLESS,
    Answer,
    Call,
    Refusal,
    Request,
    answer,
    beside,
    call,
    chat_request,
    first_text,
    refused,
    started,
    text_request,
)
from tests.conftest import StartService
from tests.service.fakes import ids as fake_ids
from tests.service.fakes import logprob, token
from tests.service.servicers.conftest import Spoken
from tests.tiny import DIALOGUES

SKY, SUM, COUNT, HELLO = DIALOGUES
PROMPT = "The sky is"
IDS = {"tokenIds": True}
PROMPT_S = 5.0
"""What an answer of a few tokens may take at most, on a busy machine; an endless one takes far longer."""
HELD_UP_S = 0.7
"""How long one caller's request may keep another waiting at most, on a busy machine."""


async def tokens(channel: aio.Channel, model: str, text: str) -> list[int]:
    """Tokenize a text."""
    stub: Any = tokenizer_grpc.TokenizerServiceStub(channel)
    return list((await stub.Tokenize(tokenizer_pb.TokenizeRequest(model=model, text=text))).ids)


def seconds(duration: Duration) -> float:
    return duration.ToNanoseconds() / 1e9


@pytest.mark.parametrize("question", DIALOGUES)
async def test_chat_says_what_the_model_says(channel: aio.Channel, question: str) -> None:
    """Text and reasoning arrive whole, whatever characters they have."""
    result = await answer(channel, chat_request(question))
    reasoning, _, text = DIALOGUES[question].rpartition("</think>\n\n")
    assert result.text == text
    assert result.reasoning == reasoning.removeprefix("<think>\n").removesuffix("\n")
    assert "\ufffd" not in "".join(event.text.text for event in result.events)


async def test_events_come_in_order(channel: aio.Channel) -> None:
    """First that it has started, then reasoning and text, one finish, and last that it is complete."""
    result = await answer(channel, chat_request(SKY))
    assert result.kinds == ["started", "reasoning", "reasoning_done", "text", "finish", "completed"]
    kinds = [event.WhichOneof("event") for event in result.events]
    assert [kinds.count(kind) for kind in ("started", "reasoning_done", "finish", "completed")] == [1, 1, 1, 1]
    assert all(event.index == 0 for event in result.events)


async def test_started_names_the_request(channel: aio.Channel) -> None:
    """Id and model are the caller's; without an id the server makes one for each request."""
    request = chat_request(SUM, requestId="mine")
    said = (await answer(channel, request)).started
    assert (said.request_id, said.model, said.prompt_tokens) == ("mine", "talker", 18)
    made = [(await answer(channel, text_request("hi", stopping={"maxTokens": 1}))).started for _ in range(2)]
    assert made[0].request_id
    assert made[0].request_id != made[1].request_id


async def test_no_model_is_the_first_one(channel: aio.Channel) -> None:
    """An empty model means the first that is configured."""
    result = await answer(channel, text_request("hi", model="", stopping={"maxTokens": 1}))
    assert result.started.model == "tiny"


async def test_usage_counts_every_token(channel: aio.Channel) -> None:
    """The stop token and the tokens of the reasoning's markers are counted too."""
    result = await answer(channel, chat_request(SKY, output=IDS, cache={"bypass": True}))
    said = await tokens(channel, "talker", DIALOGUES[SKY] + "<|im_end|>")
    thought = await tokens(channel, "talker", DIALOGUES[SKY].partition("Because")[0])
    assert result.ids == said
    assert result.usage.completion_tokens == len(said)
    assert result.usage.prompt_tokens == result.started.prompt_tokens
    assert len(thought) - 2 <= result.usage.reasoning_tokens <= len(thought)
    assert result.usage.cached_tokens == 0


async def test_timings_add_up(channel: aio.Channel) -> None:
    """The parts fit into the whole and into what the caller measured."""
    clock = asyncio.get_running_loop().time
    began = clock()
    timings = (await answer(channel, text_request(PROMPT, stopping={"maxTokens": 50, "ignoreEos": True}))).timings
    measured = clock() - began
    assert seconds(timings.decode) > 0
    assert seconds(timings.prefill) > 0
    assert seconds(timings.queue) + seconds(timings.prefill) == pytest.approx(
        seconds(timings.time_to_first_token), abs=1e-6
    )
    assert seconds(timings.time_to_first_token) + seconds(timings.decode) <= seconds(timings.total) < measured


@pytest.mark.parametrize(("include", "text"), [(False, "1, 2"), (True, "1, 2, 3")])
async def test_a_stop_string_ends_the_answer(channel: aio.Channel, include: bool, text: str) -> None:
    """It is found over the borders of tokens, told, and shown only if that is asked for."""
    stopping = {"stop": ["nowhere", ", 3"], "includeStop": include}
    result = await answer(channel, chat_request(COUNT, stopping=stopping))
    assert (result.text, result.finish.stop_string) == (text, ", 3")
    assert result.finish.reason == pb.FINISH_REASON_STOP
    assert result.usage.completion_tokens == len(await tokens(channel, "talker", "1, 2, 3"))


async def test_a_stop_string_that_never_comes_hides_nothing(channel: aio.Channel) -> None:
    """What was held back because it may have become the stop string is sent at the end."""
    result = await answer(channel, chat_request(COUNT, stopping={"stop": [", 5. And"]}))
    assert result.text == DIALOGUES[COUNT]
    assert result.finish.WhichOneof("matched") == "stop_token_id"


async def test_stop_strings_are_not_looked_for_in_reasoning(channel: aio.Channel) -> None:
    """A word that the model thinks of does not end its answer."""
    result = await answer(channel, chat_request(SKY, stopping={"stop": ["waves", " light"]}))
    assert "waves" in result.reasoning
    assert result.text == "Because the air scatters blue"


@pytest.mark.parametrize(("include", "text"), [(False, "1, 2, "), (True, "1, 2, 3")])
async def test_a_stop_token_ends_the_answer(channel: aio.Channel, include: bool, text: str) -> None:
    """The caller's stop tokens count beside the model's own."""
    [three] = await tokens(channel, "talker", "3")
    stopping = {"stopTokenIds": [three], "includeStop": include}
    result = await answer(channel, chat_request(COUNT, stopping=stopping))
    assert (result.text, result.finish.stop_token_id) == (text, three)
    assert result.finish.reason == pb.FINISH_REASON_STOP


@pytest.mark.parametrize(("include", "text"), [(False, "Four."), (True, "Four.<|im_end|>")])
async def test_the_models_own_end_of_turn_ends_the_answer(channel: aio.Channel, include: bool, text: str) -> None:
    """Its text is shown only if that is asked for."""
    [end] = await tokens(channel, "talker", "<|im_end|>")
    result = await answer(channel, chat_request(SUM, stopping={"includeStop": include}))
    assert (result.text, result.finish.stop_token_id) == (text, end)


async def test_max_tokens_ends_the_answer(channel: aio.Channel) -> None:
    """The count is exact, and nothing is said to have matched."""
    result = await answer(channel, chat_request(COUNT, stopping={"maxTokens": 4}))
    assert (result.text, result.usage.completion_tokens) == ("1, 2", 4)
    assert (result.finish.reason, result.finish.WhichOneof("matched")) == (pb.FINISH_REASON_LENGTH, None)


async def test_max_tokens_cuts_no_character(channel: aio.Channel) -> None:
    """Bytes of a character that was not finished are not text of their own while there may be more."""
    whole = await answer(channel, chat_request(HELLO))
    halves = await answer(channel, chat_request(HELLO, stopping={"maxTokens": 4}))
    assert halves.text.rstrip("\ufffd") == whole.text[:1]
    assert halves.usage.completion_tokens == 4


async def test_min_tokens_holds_the_end_back(channel: aio.Channel) -> None:
    """Neither the model's end of turn nor a stop string ends the answer before."""
    longer = await answer(channel, chat_request(SUM, stopping={"minTokens": 12, "maxTokens": 40}))
    assert longer.usage.completion_tokens >= 12
    assert longer.text.startswith("Four.")
    later = await answer(channel, chat_request(COUNT, stopping={"stop": [","], "minTokens": 4}))
    assert later.text == "1, 2"


async def test_ignore_eos_goes_on(channel: aio.Channel) -> None:
    """The model's own stop tokens are tokens like any other."""
    stopping = {"ignoreEos": True, "maxTokens": 30}
    result = await answer(channel, chat_request(SUM, stopping=stopping, output=IDS))
    [end] = await tokens(channel, "talker", "<|im_end|>")
    assert (len(result.ids), result.finish.reason) == (30, pb.FINISH_REASON_LENGTH)
    assert end in result.ids


async def test_the_context_caps_max_tokens(channel: aio.Channel) -> None:
    """A request for more than is left gets what is left."""
    for stopping in ({"ignoreEos": True}, {"ignoreEos": True, "maxTokens": 1000}):
        result = await answer(channel, text_request(PROMPT, model="bare", stopping=stopping))
        assert result.usage.prompt_tokens + result.usage.completion_tokens == 64
        assert result.finish.reason == pb.FINISH_REASON_LENGTH


async def test_a_prompt_without_room_is_refused(channel: aio.Channel) -> None:
    """The caller is told how long it may be; one token less is fine."""
    fits = text_request(model="bare", tokenIds={"ids": [1] * 63})
    assert (await answer(channel, fits)).usage.completion_tokens == 1
    refusal = await refused(answer(channel, text_request(model="bare", tokenIds={"ids": [1] * 64})))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED")
    assert refusal.info.metadata == {"limit": "64", "got": "64"}


async def test_echo_begins_with_the_prompt(channel: aio.Channel) -> None:
    """With text that was not asked for as tokens, and without a single new token if none is wanted."""
    plain = await answer(channel, text_request(PROMPT, stopping={"maxTokens": 5}))
    echoed = await answer(channel, text_request(PROMPT, stopping={"maxTokens": 5}, output={"echo": True}))
    assert echoed.text == PROMPT + plain.text
    ids = await tokens(channel, "tiny", PROMPT)
    scored = text_request(tokenIds={"ids": ids}, stopping={"maxTokens": 0}, output={"echo": True})
    result = await answer(channel, scored)
    assert (result.text, result.usage.completion_tokens, result.finish.reason) == (PROMPT, 0, pb.FINISH_REASON_LENGTH)


async def test_a_prompt_of_token_ids_is_used_as_it_is(channel: aio.Channel) -> None:
    """Text and its tokens give the same answer."""
    stopping = {"maxTokens": 20}
    by_text = await answer(channel, text_request(PROMPT, stopping=stopping))
    ids = await tokens(channel, "tiny", PROMPT)
    by_ids = await answer(channel, text_request(tokenIds={"ids": ids}, stopping=stopping))
    assert by_ids.text == by_text.text
    assert by_ids.usage.prompt_tokens == len(ids)


async def test_token_ids_come_only_when_asked_for(channel: aio.Channel) -> None:
    """They decode to the text that they come with."""
    request = text_request(PROMPT, stopping={"maxTokens": 20}, output=IDS)
    result = await answer(channel, request)
    stub: Any = tokenizer_grpc.TokenizerServiceStub(channel)
    decoded = await stub.Detokenize(tokenizer_pb.DetokenizeRequest(model="tiny", ids=result.ids))
    assert decoded.text == result.text
    assert len(result.ids) == result.usage.completion_tokens
    request.output.token_ids = False
    assert (await answer(channel, request)).ids == []


async def test_logit_bias_reaches_the_draw(channel: aio.Channel) -> None:
    """What is pushed up comes, and what is pushed down does not."""
    stopping = {"maxTokens": 6, "ignoreEos": True}
    plain = await answer(channel, text_request(PROMPT, stopping=stopping, output=IDS))
    [wanted] = await tokens(channel, "tiny", "Q")
    up = {"temperature": 0, "logitBias": {str(wanted): 100}}
    down = {"temperature": 0, "logitBias": {str(plain.ids[0]): -100}}
    pushed = await answer(channel, text_request(PROMPT, sampling=up, stopping=stopping, output=IDS))
    assert pushed.ids == [wanted] * 6
    pulled = await answer(channel, text_request(PROMPT, sampling=down, stopping=stopping, output=IDS))
    assert plain.ids[0] not in pulled.ids


@pytest.mark.parametrize("penalty", ["frequencyPenalty", "presencePenalty", "repetitionPenalty"])
async def test_penalties_reach_the_draw(channel: aio.Channel, penalty: str) -> None:
    """A model that repeats itself does so less."""
    stopping = {"maxTokens": 100, "ignoreEos": True}
    plain = await answer(channel, text_request(PROMPT, stopping=stopping, output=IDS))
    sampling = {"temperature": 0, penalty: 2}
    varied = await answer(channel, text_request(PROMPT, sampling=sampling, stopping=stopping, output=IDS))
    assert len(set(varied.ids)) > len(set(plain.ids))


async def test_a_seed_gives_the_same_text_in_any_company(channel: aio.Channel) -> None:
    """Alone and among requests that come and go beside it; another seed gives another text."""

    def request(seed: int, count: int = 60) -> pb.GenerateRequest:
        sampling = {"temperature": 1.2, "topP": 0.95, "seed": seed}
        return text_request(PROMPT, sampling=sampling, stopping={"maxTokens": count, "ignoreEos": True}, output=IDS)

    alone = await answer(channel, request(7))
    others = [answer(channel, request(100 + index, 10 * index + 5)) for index in range(6)]
    among, *company = await asyncio.gather(answer(channel, request(7)), *others)
    assert among.ids == alone.ids
    assert len({tuple(other.ids[:5]) for other in company}) > 3


async def test_no_seed_is_a_new_one_each_time(channel: aio.Channel) -> None:
    """Two requests that say nothing get two texts."""
    request = text_request(PROMPT, sampling={"temperature": 2}, stopping={"maxTokens": 40, "ignoreEos": True})
    assert (await answer(channel, request)).text != (await answer(channel, request)).text


async def test_requests_run_side_by_side(channel: aio.Channel) -> None:
    """Each of many at a time gets its own answer."""
    questions = [*DIALOGUES] * 6
    results = await asyncio.gather(*(answer(channel, chat_request(question)) for question in questions))
    for question, result in zip(questions, results, strict=True):
        assert result.text == DIALOGUES[question].rpartition("</think>\n\n")[2]


async def test_unknown_models_are_not_found(channel: aio.Channel) -> None:
    """The caller learns which name was wrong."""
    refusal = await refused(answer(channel, chat_request(SUM, model="nobody")))
    assert refusal.code == grpc.StatusCode.NOT_FOUND
    assert refusal.details["ResourceInfo"].resource_name == "nobody"  # type: ignore[attr-defined]


async def test_a_model_without_a_template_cannot_chat(channel: aio.Channel) -> None:
    """It says so and still generates."""
    refusal = await refused(answer(channel, chat_request(SUM, model="bare")))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_CHAT_TEMPLATE")
    assert (await answer(channel, text_request(PROMPT, model="bare"))).usage.completion_tokens > 0


async def test_a_request_that_is_too_large_is_refused(channel: aio.Channel) -> None:
    """The bound is gRPC's own, and the channel lives on."""
    refusal = await refused(answer(channel, text_request("x" * (17 << 20))))
    assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await answer(channel, chat_request(SUM))).text == "Four."


@pytest.mark.parametrize("make", [text_request, chat_request], ids=["Generate", "Chat"])
async def test_a_text_that_cannot_fit_is_refused_unread(channel: aio.Channel, make: Callable[[str], Request]) -> None:
    """Tokenizing it would take seconds; nobody else waits, and the caller not for long."""
    refusal, times = await beside(channel, refused(answer(channel, make("a b c d " * 500_000))))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED")
    assert int(refusal.info.metadata["got"]) > int(refusal.info.metadata["limit"]) == 1 << 15
    assert times.longest_wait < HELD_UP_S
    assert times.took < 2


@pytest.mark.parametrize("name", ["m" * 3000, "m" * 100_000, "é" * 3000, "\N{WAVING HAND SIGN}" * 3000, "\n" * 3000])
async def test_an_unknown_model_may_have_any_name(channel: aio.Channel, name: str) -> None:
    """However long it is and whatever is in it, its start is told, and the call has its status."""
    refusal = await refused(answer(channel, text_request(PROMPT, model=name)))
    assert refusal.code == grpc.StatusCode.NOT_FOUND
    resource = refusal.details["ResourceInfo"].resource_name  # type: ignore[attr-defined]
    assert name.startswith(resource)
    assert 0 < len(resource) < 300
    assert len(refusal.message) < 400


@pytest.mark.parametrize("data", [b"\xff" * 100, b"\x22\x02\xc3\x28"], ids=["no message", "not UTF-8"])
async def test_bytes_that_are_no_request_are_refused(channel: aio.Channel, data: bytes) -> None:
    """They end their own call, and the channel lives on."""
    raw: Any = channel.unary_stream("/mlx_grpc.v1.GenerationService/Generate")
    with pytest.raises(aio.AioRpcError):
        await raw(data).read()
    assert (await answer(channel, chat_request(SUM))).text == "Four."


@pytest.mark.parametrize(
    "request_",
    [text_request(PROMPT, stopping=ENDLESS), text_request(tokenIds={"ids": [5] * 30_000}, stopping=ENDLESS)],
    ids=["decoding", "prefilling"],
)
async def test_a_cancelled_call_gives_its_place_up(narrow: aio.Channel, request_: Request) -> None:
    """The next request starts at once, though it can only run alone."""
    running = call(narrow, request_)
    await started(running)
    running.cancel()
    async with asyncio.timeout(PROMPT_S):
        result = await answer(narrow, text_request(PROMPT, stopping={"maxTokens": 1}))
    assert result.usage.completion_tokens == 1


async def test_a_cancelled_call_that_was_not_read_gives_its_place_up(narrow: aio.Channel) -> None:
    """Its handler is blocked in a write that the reader's window has no room for."""
    text = "The sky is blue because the air scatters blue light. " * 2500
    running = call(narrow, text_request(text, stopping={"ignoreEos": True}, output={"echo": True}))
    await started(running)
    running.cancel()
    async with asyncio.timeout(PROMPT_S):
        await answer(narrow, text_request(PROMPT, stopping={"maxTokens": 1}))


async def test_a_call_that_is_cancelled_while_it_waits_never_runs(narrow: aio.Channel) -> None:
    """Else it would run once the one before it ends, and the next would wait for it."""
    running, _, waiting = await full_queue(narrow)
    waiting.cancel()
    await asyncio.wait([waiting])
    running.cancel()
    async with asyncio.timeout(PROMPT_S):
        await answer(narrow, text_request(PROMPT, stopping={"maxTokens": 1}))


async def test_a_deadline_ends_the_call_and_frees_its_place(narrow: aio.Channel) -> None:
    """The caller's own clock decides."""
    running = call(narrow, text_request(PROMPT, stopping=ENDLESS), timeout=0.5)
    with pytest.raises(aio.AioRpcError) as raised:
        _ = [event async for event in running]
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(PROMPT_S):
        await answer(narrow, text_request(PROMPT, stopping={"maxTokens": 1}))


async def test_a_full_queue_turns_callers_away(narrow: aio.Channel) -> None:
    """They are told when to come back; those that wait get their turn."""
    running, refusal, waiting = await full_queue(narrow, {"maxTokens": 1})
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert refusal.details["RetryInfo"].retry_delay.ToSeconds() >= 1  # type: ignore[attr-defined]
    assert not waiting.done()
    running.cancel()
    assert (await waiting).usage.completion_tokens == 1


async def full_queue(
    narrow: aio.Channel, stopping: dict[str, Any] = ENDLESS
) -> tuple[Call, Refusal, "asyncio.Task[Answer]"]:
    """Run one request, queue one and try one more: the first's call, how the last failed, and the second."""
    running = call(narrow, text_request(PROMPT, stopping=ENDLESS))
    await first_text(running)
    # Whichever comes first gets the place that is left.
    two = {asyncio.create_task(answer(narrow, text_request(PROMPT, stopping=stopping))) for _ in range(2)}
    [turned_away], [waiting] = await asyncio.wait(two, return_when=asyncio.FIRST_COMPLETED)
    return running, await refused(turned_away), waiting


async def test_a_slow_reader_misses_nothing_and_holds_nobody_up(channel: aio.Channel) -> None:
    """What it has not read is kept for it, while others go on."""
    request = text_request(PROMPT, stopping={"maxTokens": 800, "ignoreEos": True}, output=IDS)
    slow = call(channel, request)
    await started(slow)
    quick = await answer(channel, request)
    rest = [event async for event in slow]
    ids = [number for event in rest for number in event.text.token_ids]
    assert ids == quick.ids
    assert len(ids) == 800


def kinds_of(result: Answer, index: int) -> list[str | None]:
    """Kinds of a choice's own events, in their order."""
    return [event.WhichOneof("event") for event in result.events if event.index == index]


async def test_choices_are_told_apart_on_the_wire(spoken: Spoken) -> None:
    """Each event names its choice; the request starts once and is complete once, at the end."""
    running = asyncio.create_task(answer(spoken.channel, text_request("hi", model="a", n=3)))
    seq = (await spoken.a.begin()).seq
    spoken.a.step(*(Row(seq, [token(letter)], choice=choice) for choice, letter in enumerate("abe")))
    spoken.a.step(*(Row(seq, [token("o")], "length", choice) for choice in (2, 0, 1)))
    result = await running
    texts = ["".join(event.text.text for event in result.events if event.index == choice) for choice in range(3)]
    assert texts == ["ao", "bo", "eo"]
    assert [kinds_of(result, choice)[-1] for choice in (1, 2)] == ["finish", "finish"]
    kinds = [event.WhichOneof("event") for event in result.events]
    assert (kinds[0], kinds[-1]) == ("started", "completed")
    assert [kinds.count(kind) for kind in ("started", "finish", "completed")] == [1, 3, 1]
    assert result.usage.completion_tokens == 6


async def test_progress_is_streamed_to_those_who_ask(spoken: Spoken) -> None:
    """Places in the queue before the start, and each chunk of the prompt."""
    request = text_request(tokenIds={"ids": [5] * 9}, model="a", output={"progress": True})
    running = asyncio.create_task(answer(spoken.channel, request))
    submit = await spoken.a.heard(Submit)
    assert submit.report
    spoken.a.step(Queued(submit.seq, 1))
    spoken.a.step(Progress(submit.seq, 6, 0.0, cached=4))
    spoken.a.step(Progress(submit.seq, 9, 0.0, cached=4))
    spoken.a.step(Row(submit.seq, [token("a")], "length"))
    result = await running
    assert [event.WhichOneof("event") for event in result.events] == [
        *("queue", "started", "progress", "progress"),
        *("text", "finish", "completed"),
    ]
    assert result.events[0].queue == pb.QueueUpdate(position=1)
    assert [event.progress for event in result.events[2:4]] == [
        pb.PromptProgress(processed=done, total=9, cached=4) for done in (6, 9)
    ]
    assert result.usage.cached_tokens == 4


async def test_log_probabilities_reach_the_wire(spoken: Spoken) -> None:
    """Those of the prompt with its echo, those of the answer with their tokens."""
    prompt = fake_ids("the")
    output = {"logprobs": True, "topLogprobs": 1, "promptLogprobs": 0, "echo": True, "tokenIds": True}
    running = asyncio.create_task(answer(spoken.channel, text_request("the", model="a", output=output)))
    submit = await spoken.a.heard(Submit)
    assert (submit.logprobs, submit.prompt_logprobs) == (1, 0)
    scores = [None, *(logprob(-float(place)) for place in range(1, len(prompt)))]
    spoken.a.step(Progress(submit.seq, len(prompt), 0.0, logprobs=scores))
    spoken.a.step(Row(submit.seq, [token("a")], "length", logprobs=[logprob(-0.5, (token("e"), -0.25))]))
    first, second = [event.text for event in (await running).events if event.HasField("text")]
    assert (first.text, list(first.token_ids), b"".join(each.token for each in first.logprobs)) == (
        "the",
        prompt,
        b"the",
    )
    assert [each.HasField("logprob") for each in first.logprobs] == [False] + [True] * (len(prompt) - 1)
    top = pb.TopLogprob(token_id=token("e"), token=b"e", logprob=-0.25)
    assert list(second.logprobs) == [pb.TokenLogprob(token_id=token("a"), token=b"a", logprob=-0.5, top=[top])]


async def test_a_conversation_tells_where_it_may_part(spoken: Spoken) -> None:
    """After the end of each turn; a prompt of plain text does not know."""
    messages = [{"role": f"ROLE_{role}", "content": [{"text": role}]} for role in ("SYSTEM", "USER")]
    chat = call(spoken.channel, chat_request(model="a", messages=messages))
    submit = await spoken.a.heard(Submit)
    end = token("<|im_end|>")
    assert [submit.prompt[length - 1] for length in submit.boundaries] == [end, end]
    assert submit.boundaries == [place for place, number in enumerate(submit.prompt, 1) if number == end]
    text = call(spoken.channel, text_request("<|im_end|>a", model="a"))
    assert (await spoken.a.heard(Submit)).boundaries == []
    for running in (chat, text):
        running.cancel()


async def test_a_cancelled_call_ends_all_of_its_choices(spoken: Spoken) -> None:
    """The engine hears of it once."""
    running = call(spoken.channel, text_request("hi", model="a", n=4))
    seq = (await spoken.a.begin()).seq
    await started(running)
    running.cancel()
    assert await spoken.a.heard(Abort) == Abort(seq, None)
    assert spoken.a.unheard == []


async def test_work_that_cannot_be_done_in_time_is_refused(spoken: Spoken) -> None:
    """By the engine, which sees it coming."""
    running = asyncio.create_task(refused(answer(spoken.channel, text_request("hi", model="a"))))
    spoken.a.step(Row((await spoken.a.heard(Submit)).seq, [], "deadline"))
    refusal = await running
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_choices_share_a_seed_and_differ(channel: aio.Channel) -> None:
    """Each draws by itself, and the same again the next time; greedy ones agree."""

    def request(temperature: float) -> pb.GenerateRequest:
        sampling = {"temperature": temperature, "seed": 7}
        return text_request(PROMPT, n=4, sampling=sampling, stopping={"maxTokens": 12, "ignoreEos": True}, output=IDS)

    def choices(result: Answer) -> list[tuple[int, ...]]:
        return [
            tuple(number for event in result.events if event.index == choice for number in event.text.token_ids)
            for choice in range(4)
        ]

    first, again = [choices(await answer(channel, request(1.5))) for _ in range(2)]
    assert [len(ids) for ids in first] == [12] * 4
    assert len(set(first)) == 4
    assert again == first
    assert len(set(choices(await answer(channel, request(0))))) == 1


async def test_a_stop_string_in_one_choice_leaves_the_others(channel: aio.Channel) -> None:
    """Each choice has its own end."""
    sampling = {"temperature": 1.5, "seed": 3}
    request = text_request(PROMPT, n=3, sampling=sampling, stopping={"maxTokens": 40, "ignoreEos": True})
    plain = await answer(channel, request)
    texts = ["".join(event.text.text for event in plain.events if event.index == choice) for choice in range(3)]
    stop = texts[1][5:9]
    request.stopping.stop.append(stop)
    stopped = await answer(channel, request)
    for choice, text in enumerate(texts):
        said = "".join(event.text.text for event in stopped.events if event.index == choice)
        assert said == text.partition(stop)[0]


async def test_log_probabilities_are_those_of_the_model(channel: aio.Channel) -> None:
    """The likeliest token is what a greedy request takes; scored as a prompt, the same tokens have the same figures."""
    output = {"logprobs": True, "topLogprobs": 3, "tokenIds": True}
    result = await answer(channel, text_request(PROMPT, stopping={"maxTokens": 8, "ignoreEos": True}, output=output))
    drawn = [each for event in result.events for each in event.text.logprobs]
    assert [each.token_id for each in drawn] == result.ids
    assert b"".join(each.token for each in drawn).decode(errors="replace") == result.text
    for each in drawn:
        assert each.logprob <= 0
        assert (each.top[0].token_id, len(each.top)) == (each.token_id, 3)
        assert [top.logprob for top in each.top] == sorted((top.logprob for top in each.top), reverse=True)

    prompt = await tokens(channel, "tiny", PROMPT)
    scoring = {"promptLogprobs": 3, "tokenIds": True}
    scored = text_request(tokenIds={"ids": prompt + result.ids}, stopping={"maxTokens": 0}, output=scoring)
    told = await answer(channel, scored)
    assert told.ids == prompt + result.ids
    scores = [each for event in told.events for each in event.text.logprobs]
    assert [each.HasField("logprob") for each in scores] == [False] + [True] * (len(told.ids) - 1)
    for mine, theirs in zip(drawn, scores[len(prompt) :], strict=True):
        assert mine.token_id == theirs.token_id
        assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-3)


async def test_a_prompt_that_was_seen_is_cached(channel: aio.Channel) -> None:
    """For requests of the same salt that do not go round the cache, and the answer is the same."""
    request = text_request("A conversation that goes on and on, in the same words.", stopping={"maxTokens": 5})
    request.cache.salt = "mine"
    first = await answer(channel, request)
    assert first.usage.cached_tokens == 0
    second = await answer(channel, request)
    assert 0 < second.usage.cached_tokens < second.usage.prompt_tokens
    assert second.text == first.text
    for salt, bypass in (("other", False), ("mine", True)):
        request.cache.salt, request.cache.bypass = salt, bypass
        assert (await answer(channel, request)).usage.cached_tokens == 0


async def test_what_memory_can_never_hold_is_refused(start_service: StartService, tiny_model: Path) -> None:
    """At once, with what it would take; an answer of no given length takes what there is."""
    process = await start_service({"tiny": tiny_model}, "--kv-cache-bytes", str(1 << 20))
    async with aio.insecure_channel(process.address) as channel:
        refusal = await refused(answer(channel, text_request(tokenIds={"ids": [5] * 20_000})))
        assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "INSUFFICIENT_MEMORY")
        available = int(refusal.info.metadata["available_tokens"])
        assert 0 < available < int(refusal.info.metadata["needed_tokens"]) == 20_001
        longer = text_request("hi", stopping={"maxTokens": available})
        assert (await refused(answer(channel, longer))).info.reason == "INSUFFICIENT_MEMORY"
        result = await answer(
            channel, text_request(tokenIds={"ids": [5] * (available - 3)}, stopping={"ignoreEos": True})
        )
        assert result.usage.completion_tokens == 3


async def test_a_place_in_the_queue_is_told(narrow: aio.Channel) -> None:
    """One that waits learns so before it starts."""
    running = call(narrow, text_request(PROMPT, stopping=ENDLESS))
    await first_text(running)
    waiting = call(narrow, text_request(PROMPT, stopping={"maxTokens": 1}, output={"progress": True}))
    events = aiter(waiting)
    assert (await anext(events)).WhichOneof("event") == "queue"
    running.cancel()
    kinds = [event.WhichOneof("event") async for event in events]
    assert [kind for kind in kinds if kind != "queue"] == ["started", "progress", "text", "finish", "completed"]


WARM = {"temperature": 1.5, "seed": 7}
"""Sampling that would never give JSON by itself."""
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WORD = {"type": "object", "properties": {"word": {"enum": ["sky", "sea"]}}, "required": ["word"]}
LOOK_UP = {
    "name": "look_up",
    "description": "Looks a word up.",
    "parametersJson": json.dumps(WORD | {"additionalProperties": False}),
}
REST = {"name": "rest", "parametersJson": '{"type": "object", "properties": {}, "additionalProperties": false}'}


def follows(constraint: dict[str, Any], text: str) -> bool:
    """Whether a text is what a constraint asks for."""
    match constraint:
        case {"jsonSchema": schema}:
            jsonschema.validate(json.loads(text), json.loads(schema))
            return True
        case {"jsonObject": _}:
            return isinstance(json.loads(text), dict)
        case {"regex": regex}:
            return re.fullmatch(regex, text) is not None
        case {"choice": {"options": options}}:
            return text in options
        case _:
            return text in {"hi you", "ho you"}


CONSTRAINTS: list[dict[str, Any]] = [
    {"jsonSchema": json.dumps(PERSON)},
    {"regex": "[a-c]{3}-[0-9]{2}"},
    {"choice": {"options": ["yes", "no", "no idea"]}},
    {"grammar": 'start: ("hi" | "ho") " you"'},
]


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=[next(iter(constraint)) for constraint in CONSTRAINTS])
async def test_a_constraint_holds_whatever_the_model_says(channel: aio.Channel, constraint: dict[str, Any]) -> None:
    """For every choice, of a random model at a high temperature too; it ends where nothing may follow."""
    request = text_request(PROMPT, constraint=constraint, sampling=WARM, n=3, stopping={"maxTokens": 200})
    result = await answer(channel, request)
    for choice in range(3):
        events = [event for event in result.events if event.index == choice]
        assert follows(constraint, "".join(event.text.text for event in events))
    assert all(event.finish.reason == pb.FINISH_REASON_STOP for event in result.events if event.HasField("finish"))


async def test_a_constraint_holds_after_the_reasoning(channel: aio.Channel) -> None:
    """The talker thinks as it has learned, and then says what it must."""
    constraint = {"jsonSchema": json.dumps(PERSON)}
    result = await answer(channel, chat_request(SKY, constraint=constraint, stopping={"maxTokens": 300}))
    assert result.reasoning == "Short waves scatter the most."
    assert follows(constraint, result.text)


async def test_reasoning_that_is_switched_off_or_bounded(channel: aio.Channel) -> None:
    """The answer comes at once, or after as many tokens as it may think for."""
    none = await answer(channel, chat_request(SKY, reasoning={"effort": "none"}, stopping={"maxTokens": 60}))
    assert none.reasoning.strip() == ""
    few = await answer(channel, chat_request(SKY, reasoning={"budget": 3}, stopping={"maxTokens": 60}))
    [whole] = [await answer(channel, chat_request(SKY))]
    assert 0 < len(few.reasoning) < len(whole.reasoning)
    assert whole.reasoning.startswith(few.reasoning)
    held = await answer(channel, chat_request(SKY, reasoning={"budget": 3}, constraint=CONSTRAINTS[2]))
    assert (held.reasoning, follows(CONSTRAINTS[2], held.text)) == (few.reasoning, True)


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("question", [SUM, SKY])
async def test_required_calls_are_calls(channel: aio.Channel, question: str, parallel: bool) -> None:
    """Of the request's tools, with arguments that hold to their schemas, and nothing beside them."""
    request = chat_request(
        question,
        tools=[LOOK_UP, REST],
        toolChoice={"mode": "TOOL_CHOICE_MODE_REQUIRED"},
        parallelToolCalls=parallel,
        reasoning={"budget": 20},
        stopping={"maxTokens": 300},
    )
    result = await answer(channel, request)
    calls = calls_of(result)
    if parallel and result.finish.reason == pb.FINISH_REASON_LENGTH:
        calls.pop()  # a model that knows no calls goes on for ever
    else:
        assert (len(calls) == 1 or parallel, result.finish.reason) == (True, pb.FINISH_REASON_TOOL_CALLS)
        assert result.text.strip() == ""
    assert calls
    for name, arguments in calls:
        [tool] = [tool for tool in (LOOK_UP, REST) if tool["name"] == name]
        jsonschema.validate(json.loads(arguments), json.loads(tool["parametersJson"]))


async def test_a_named_function_is_called_once(channel: aio.Channel) -> None:
    """With an id, in the first piece, and its tokens where they are asked for."""
    choice = {"mode": "TOOL_CHOICE_MODE_FUNCTION", "functionName": "look_up"}
    result = await answer(channel, chat_request(SUM, tools=[REST, LOOK_UP], toolChoice=choice, output=IDS))
    [(name, arguments)] = calls_of(result)
    assert (name, json.loads(arguments)["word"] in {"sky", "sea"}) == ("look_up", True)
    first, *more = deltas_of(result)
    assert first.id.startswith("call_")
    assert not any(delta.id or delta.name for delta in more)


async def test_tools_that_may_not_be_called_are_not_shown(channel: aio.Channel) -> None:
    """The prompt is the same as without them, and so is the answer."""
    request = chat_request(SUM, tools=[LOOK_UP], toolChoice={"mode": "TOOL_CHOICE_MODE_NONE"})
    result, plain = await answer(channel, request), await answer(channel, chat_request(SUM))
    assert (result.text, result.usage.prompt_tokens) == (DIALOGUES[SUM], plain.usage.prompt_tokens)
    shown = await answer(channel, chat_request(SUM, tools=[LOOK_UP], stopping={"maxTokens": 1}))
    assert shown.usage.prompt_tokens > plain.usage.prompt_tokens


UNENFORCEABLE = '{"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=a)b"}}, "required": ["a"]}'


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("constraint.json_schema", {"constraint": {"jsonSchema": UNENFORCEABLE}}),
        ("constraint.json_schema", {"constraint": {"jsonSchema": '{"not": {"type": "string"}}'}}),
        ("constraint.json_schema", {"constraint": {"jsonSchema": "false"}}),
        ("constraint.regex", {"constraint": {"regex": "(a"}}),
        ("constraint.grammar", {"constraint": {"grammar": "start: nothing"}}),
        (
            "tools[1].parameters_json",
            {
                "tools": [REST, {"name": "f", "parametersJson": UNENFORCEABLE}],
                "toolChoice": {"mode": "TOOL_CHOICE_MODE_FUNCTION", "functionName": "f"},
            },
        ),
    ],
)
async def test_what_cannot_be_enforced_is_refused_with_the_reason(
    channel: aio.Channel, field: str, fields: dict[str, Any]
) -> None:
    """Before anything is said; the next request is served."""
    refusal = await refused(answer(channel, chat_request(SUM, **fields)))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    assert "cannot be enforced: " in refusal.message
    assert (await answer(channel, chat_request(SUM))).text == DIALOGUES[SUM]


def deltas_of(result: Answer) -> list[pb.ToolCallDelta]:
    """The pieces of an answer's calls."""
    events = [event for event in result.events if isinstance(event, pb.ChatResponse)]
    return [event.tool_call for event in events if event.HasField("tool_call")]


def calls_of(result: Answer) -> list[tuple[str, str]]:
    """Names and arguments of the calls of an answer."""
    calls: list[tuple[str, str]] = []
    for delta in deltas_of(result):
        if delta.name:
            calls.append((delta.name, ""))
        assert delta.tool_index == len(calls) - 1
        calls[-1] = (calls[-1][0], calls[-1][1] + delta.arguments_delta)
    return calls
