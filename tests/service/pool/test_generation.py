"""One request's way through a model."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.engine.frames import Abort, Logprob, Progress, Queued, Row, Submit
from service.errors import ContextTooLong, DeadlineExceeded, EngineFault, InsufficientMemory, InvalidField, Unavailable
from service.pool import generation as module
from service.pool.events import Completed, GenerationEvent, Prefilled, Said, Started
from service.pool.events import Queued as Waiting
from service.pool.facts import ModelFacts
from service.pool.generation import Generation
from service.pool.model import Model
from service.pool.prompt import Prompt
from service.text.answer import AnswerForm, Calls
from service.text.grammar import Grammar
from service.text.pieces import CallText, Ended, Text
from service.text.tools.hermes import HERMES
from service.types import Ask, FinishReason, Origin, Output, Sampling, Stopping, Tool
from tests.service.fakes import FakeEngines, FakeProcess, ids, logprob, token
from tests.service.pool.conftest import MakePool, load, mine

PLAIN = AnswerForm()
LENGTH = Ended(FinishReason.LENGTH)
END = token("<|im_end|>")
ORIGIN = Origin("me", arrived=1)


@pytest.fixture
async def model(make_pool: MakePool, engines: FakeEngines, fake_folder: Path) -> Model:
    """Give a model on a fake engine."""
    return await load(make_pool(mine(fake_folder)))


@pytest.fixture
def process(model: Model, engines: FakeEngines) -> FakeProcess:
    return engines.process


def generation(
    model: Model, prompt: Sequence[int] = (1, 2, 3), text: str = "", answer: AnswerForm = PLAIN, **fields: Any
) -> Generation:
    """Submit a greedy request; `fields` are those of Ask."""
    assert model.facts is not None
    ask = replace(Ask("mine", "r", Sampling(temperature=0), Stopping()), **fields)
    return Generation(model, model.facts, Prompt(list(prompt), text, answer), ask, ORIGIN)


async def said_by(running: Generation) -> list[Said]:
    """Take all that a request says."""
    said: list[Said] = []
    async with asyncio.timeout(30):
        while taken := await running.take():
            said += taken
    return said


def of(choice: int, said: list[Said]) -> list[GenerationEvent]:
    """What was said of a choice, without what was said of the request."""
    about_request = Started | Completed | Prefilled | Waiting
    return [event for index, event in said if index == choice and not isinstance(event, about_request)]


def text_of(choice: int, said: list[Said]) -> str:
    return "".join(event.text for event in of(choice, said) if isinstance(event, Text))


def completed(said: list[Said]) -> Completed:
    """What was said last, and only then."""
    assert [isinstance(event, Completed) for _, event in said] == [False] * (len(said) - 1) + [True]
    last = said[-1][1]
    assert isinstance(last, Completed)
    return last


async def test_choices_are_told_apart(model: Model, process: FakeProcess) -> None:
    """Each has its own text and end, the request one start, and one count of all tokens, the prompt's once."""
    running = generation(model, n=3)
    seq = (await process.begin()).seq
    words = [ids("the sky"), ids("is blue"), ids("because")]
    longest = max(map(len, words))
    for place in range(longest):
        rows = [
            Row(seq, [word[place]], "length" if place == len(word) - 1 else None, choice)
            for choice, word in enumerate(words)
            if place < len(word)
        ]
        process.step(*rows)
        await asyncio.sleep(0)
    said = await said_by(running)
    assert said[0] == (0, Started("mine", 3))
    assert [text_of(choice, said) for choice in range(3)] == ["the sky", "is blue", "because"]
    assert [of(choice, said)[-1] for choice in range(3)] == [LENGTH] * 3
    usage = completed(said).usage
    assert (usage.prompt, usage.completion) == (3, sum(map(len, words)))
    assert running.finishes == [LENGTH] * 3
    assert (model.running, process.unheard) == (0, [])


async def test_a_stop_string_ends_its_own_choice(model: Model, process: FakeProcess) -> None:
    """The engine is told to drop that one; what it still says of it is not heard, and the other goes on."""
    running = generation(model, n=2, stopping=Stopping(stop=("b",)))
    seq = (await process.begin()).seq
    process.step(Row(seq, ids("b")), Row(seq, ids("a"), choice=1))
    said = await running.take()
    assert of(0, said)[-1] == Ended(FinishReason.STOP, stop_string="b")
    assert of(1, said) == [Text("a", tuple(ids("a")))]
    assert await process.heard(Abort) == Abort(seq, 0)
    process.step(Row(seq, ids("c"), "length"), Row(seq, ids("d"), choice=1))
    assert await running.take() == [(1, Text("d", tuple(ids("d"))))]
    process.step(Row(seq, ids("b"), choice=1))
    said = await said_by(running)
    assert of(1, said)[-1] == Ended(FinishReason.STOP, stop_string="b")
    assert completed(said).usage.completion == 4
    assert await process.heard(Abort) == Abort(seq, None)
    assert (model.running, await running.take()) == (0, [])


async def test_giving_up_ends_all_choices(model: Model, process: FakeProcess) -> None:
    """With one word to the engine, however often it is said."""
    running = generation(model, n=2)
    seq = (await process.begin()).seq
    running.close()
    running.close()
    assert await process.heard(Abort) == Abort(seq, None)
    assert (model.running, process.unheard) == (0, [])


@pytest.mark.parametrize(("finish", "error"), [("error", EngineFault), ("deadline", DeadlineExceeded)])
async def test_a_choice_that_fails_fails_the_request(
    model: Model, process: FakeProcess, finish: str, error: type[Exception]
) -> None:
    """All of its choices, of which the engine has none left to work on."""
    running = generation(model, n=2)
    seq = (await process.begin()).seq
    process.step(Row(seq, ids("a"), choice=1))
    assert len(await running.take()) == 2
    process.step(Row(seq, [], finish, error="KeyError: inside"))
    with pytest.raises(error):
        await running.take()
    assert await process.heard(Abort) == Abort(seq, None)
    running.close()
    assert (model.running, process.unheard) == (0, [])


async def test_a_grammar_that_cannot_be_used_is_blamed_on_its_field(model: Model, process: FakeProcess) -> None:
    """The engine's words are the reason; a fault of the engine's own in the same words is no fault of the caller's."""
    answer = AnswerForm(grammar=Grammar("start: /(/", "constraint.regex"))
    running = generation(model, answer=answer, n=2)
    process.step(Row((await process.heard(Submit)).seq, [], "invalid", error="line 1, column 8: unclosed group"))
    with pytest.raises(InvalidField) as raised:
        await running.take()
    assert (raised.value.field, raised.value.reason) == ("constraint.regex", "cannot be enforced: unclosed group")
    assert (model.running, await process.heard(Abort)) == (0, Abort(1, None))
    running = generation(model, answer=answer)
    process.step(Row((await process.begin()).seq, [], "error", error="unclosed group"))
    with pytest.raises(EngineFault):
        await running.take()


async def test_what_nothing_may_follow_is_complete(model: Model, process: FakeProcess) -> None:
    """It stops without a stop token, and its last token is part of the answer."""
    running = generation(model, answer=AnswerForm(grammar=Grammar('start: "ab"', "constraint.grammar")))
    seq = (await process.begin()).seq
    process.step(Row(seq, ids("a")))
    process.step(Row(seq, ids("b"), "complete"))
    said = await said_by(running)
    assert (text_of(0, said), of(0, said)[-1]) == ("ab", Ended(FinishReason.STOP))
    assert completed(said).usage.completion == 2


WEATHER = Tool("weather", "", "{}")
CALL = '<tool_call>\n{"name": "weather", "arguments": {"a": 1}}\n</tool_call>'


async def test_each_choice_has_its_own_calls(model: Model, process: FakeProcess) -> None:
    """They are read from the answer, with ids of their own, and the choice ends for them."""
    calls = Calls(HERMES, (WEATHER,))
    running = generation(model, answer=AnswerForm(calls=calls), n=2)
    seq = (await process.begin()).seq
    process.step(*(Row(seq, [*ids(CALL), END], "stop", choice) for choice in (0, 1)))
    said = await said_by(running)
    names = [[event for event in of(choice, said) if isinstance(event, CallText) and event.name] for choice in (0, 1)]
    assert [[(call.index, call.name) for call in each] for each in names] == [[(0, "weather")]] * 2
    assert names[0][0].id != names[1][0].id
    assert [of(choice, said)[-1] for choice in (0, 1)] == [Ended(FinishReason.TOOL_CALLS, stop_token=END)] * 2


async def test_the_first_call_ends_a_choice_that_may_have_one(model: Model, process: FakeProcess) -> None:
    """The engine is told that nobody waits for more."""
    running = generation(model, answer=AnswerForm(calls=Calls(HERMES, (WEATHER,), several=False)))
    seq = (await process.begin()).seq
    process.step(Row(seq, ids(CALL + CALL)))
    said = await said_by(running)
    assert [event.name for event in of(0, said) if isinstance(event, CallText) and event.name] == ["weather"]
    assert of(0, said)[-1] == Ended(FinishReason.TOOL_CALLS)
    assert await process.heard(Abort) == Abort(seq, None)


async def test_a_request_that_never_starts_may_run_out_of_time(model: Model, process: FakeProcess) -> None:
    """It was not said to have started, and waits no more."""
    running = generation(model)
    process.step(Row((await process.heard(Submit)).seq, [], "deadline"))
    with pytest.raises(DeadlineExceeded):
        await running.take()
    assert running.timings.prefill == 0


async def test_each_choice_begins_with_an_echo(model: Model, process: FakeProcess) -> None:
    """As soon as the first chunk is processed, and without ids: it was not generated."""
    running = generation(model, ids("the sky"), "the sky", n=2, output=Output(echo=True))
    seq = (await process.heard(Submit)).seq
    process.step(Progress(seq, 1, 0.0))
    assert await running.take() == [(0, Started("mine", 3)), (0, Text("the sky")), (1, Text("the sky"))]
    process.step(Progress(seq, 3, 0.0))
    process.step(Row(seq, ids("a"), "length"), Row(seq, ids("a"), "length", 1))
    said = await said_by(running)
    assert [text_of(choice, said) for choice in (0, 1)] == ["a", "a"]


SCORES: list[Logprob | None] = [None, logprob(-1.0, (5, -0.5)), logprob(-2.0), logprob(-3.0)]


@pytest.mark.parametrize("text", ["", "abcd"])
async def test_the_prompts_log_probabilities_come_with_the_first_text(
    model: Model, process: FakeProcess, text: str
) -> None:
    """Gathered over its chunks, and for each choice; its text is the prompt if that is echoed."""
    prompt = ids("abcd")
    output = Output(echo=bool(text), prompt_logprobs=1)
    running = generation(model, prompt, text, n=2, output=output, stopping=Stopping(max_tokens=0))
    seq = (await process.heard(Submit)).seq
    process.step(Progress(seq, 3, 0.0, logprobs=SCORES[:3]))
    assert await running.take() == [(0, Started("mine", 4))]
    process.step(Progress(seq, 4, 0.0, logprobs=SCORES[3:]), *(Row(seq, [], "length", choice) for choice in (0, 1)))
    said = await said_by(running)
    for choice in (0, 1):
        assert of(choice, said) == [Text(text, tuple(prompt), tuple(SCORES)), LENGTH]
    assert completed(said).usage.completion == 0


async def test_a_long_prompt_is_told_in_parts(
    model: Model, process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message stays small; the first has the text."""
    monkeypatch.setattr(module, "_MAX_SCORES", 6)
    prompt = ids("abcd")
    output = Output(echo=True, prompt_logprobs=1)
    running = generation(model, prompt, "abcd", output=output, stopping=Stopping(max_tokens=0))
    seq = (await process.heard(Submit)).seq
    process.step(Progress(seq, 4, 0.0, logprobs=SCORES), Row(seq, [], "length"))
    assert of(0, await said_by(running)) == [
        Text("abcd", tuple(prompt[:3]), tuple(SCORES[:3])),
        Text("", tuple(prompt[3:]), tuple(SCORES[3:])),
        LENGTH,
    ]


async def test_a_prompt_that_is_put_back_is_scored_once(model: Model, process: FakeProcess) -> None:
    """What is processed again takes the place of what was there; a chunk may tell of the token after it."""
    prompt = ids("abcd")
    running = generation(model, prompt, output=Output(prompt_logprobs=1))
    seq = (await process.heard(Submit)).seq
    for start, end in ((0, 2), (2, 3), (0, 3), (3, 4)):
        process.step(Progress(seq, end if end == len(prompt) else end - 1, 0.0, logprobs=SCORES[start:end]))
    assert of(0, await running.take()) == [Text("", tuple(prompt), tuple(SCORES))]
    process.step(Progress(seq, 2, 0.0, logprobs=SCORES[:2]))
    process.step(Row(seq, ids("a"), "length"))
    assert of(0, await said_by(running)) == [Text("a", tuple(ids("a"))), LENGTH]


async def test_progress_is_told_to_those_who_ask(model: Model, process: FakeProcess) -> None:
    """The places in the queue, the start, and each chunk; that it was put back is not told."""
    running = generation(model, range(1, 6), output=Output(progress=True))
    seq = (await process.heard(Submit)).seq
    process.step(Queued(seq, 2))
    process.step(Queued(seq, 1))
    process.step(Progress(seq, 4, 0.0, cached=3))
    process.step(Progress(seq, 5, 0.0, cached=3))
    process.step(Queued(seq, 1), Progress(seq, 4, 0.0, cached=3), Row(seq, ids("a"), "length"))
    events = [event for _, event in await said_by(running)]
    assert events[:-1] == [
        *(Waiting(2), Waiting(1), Started("mine", 5), Prefilled(4, 5, 3), Prefilled(5, 5, 3)),
        *(Text("a", tuple(ids("a"))), LENGTH),
    ]


async def test_nobody_else_hears_of_progress(model: Model, process: FakeProcess) -> None:
    """The first message commits a call, so it says that the call has started."""
    running = generation(model, range(1, 6))
    seq = (await process.heard(Submit)).seq
    process.step(Progress(seq, 4, 0.0))
    process.step(Progress(seq, 5, 0.0))
    assert await running.take() == [(0, Started("mine", 5))]


async def test_cached_tokens_are_counted(model: Model, process: FakeProcess) -> None:
    """Those that the request found when it was admitted, not those of its own that it finds again."""
    running = generation(model)
    seq = (await process.begin(cached=2)).seq
    process.step(Row(seq, ids("a")))
    process.step(Progress(seq, 3, 0.0, cached=3))
    process.step(Row(seq, ids("b"), "length"))
    assert completed(await said_by(running)).usage.cached == 2


async def test_log_probabilities_stay_with_their_tokens(model: Model, process: FakeProcess) -> None:
    """However much gathers, those of a stop token too; each choice has its own."""
    running = generation(model, n=2, output=Output(logprobs=True))
    seq = (await process.begin()).seq
    a, b, end = logprob(-1.0, (7, -0.5)), logprob(-2.0), logprob(-3.0)
    process.step(Row(seq, ids("a"), logprobs=[a]), Row(seq, ids("b"), choice=1, logprobs=[b]))
    process.step(Row(seq, [END], "stop", logprobs=[end]), Row(seq, [END], "stop", 1, logprobs=[end]))
    said = await said_by(running)
    for choice, (word, score) in enumerate((("a", a), ("b", b))):
        assert of(choice, said) == [
            Text(word, (*ids(word), END), (score, end)),
            Ended(FinishReason.STOP, stop_token=END),
        ]


async def test_an_engine_that_ends_ends_the_request(model: Model, process: FakeProcess) -> None:
    """After what it has said."""
    running = generation(model, n=2)
    seq = (await process.begin()).seq
    process.step(Row(seq, ids("a"), choice=1))
    assert len(await running.take()) == 2
    process.lose()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(running.take(), 5)


async def test_what_does_not_fit_is_not_submitted(model: Model, process: FakeProcess) -> None:
    """Neither into the context nor into memory."""
    assert model.facts is not None
    with pytest.raises(ContextTooLong) as raised:
        generation(model, [1] * 1000)
    assert (raised.value.limit, raised.value.got) == (1000, 1000)
    small = replace(model.facts, context_length=2000)
    with pytest.raises(InsufficientMemory):
        Generation(model, small, Prompt([1] * 1000), Ask("mine", "r", Sampling(), Stopping(max_tokens=1)), ORIGIN)
    assert (model.running, process.unheard) == (0, [])


def real(model: Model, facts: ModelFacts | None = None, **stopping: Any) -> Generation:
    """Submit a greedy request, with other facts than the model's where they are given."""
    facts = facts or model.facts
    assert facts is not None
    ask = Ask("mine", "r", Sampling(temperature=0), Stopping(**stopping))
    return Generation(model, facts, Prompt([1, 2, 3]), ask, ORIGIN)


async def test_a_request_from_start_to_end(make_pool: MakePool, tiny_model: Path) -> None:
    """Started first, completed last, and nothing after it; a stop string ends the sequence in the engine too."""
    model = await load(make_pool(mine(tiny_model)))
    plain = await said_by(real(model, max_tokens=50, ignore_eos=True))
    text = text_of(0, plain)
    assert plain[0] == (0, Started("mine", 3))
    assert plain[-2] == (0, LENGTH)
    assert (completed(plain).usage.prompt, completed(plain).usage.completion) == (3, 50)

    stop = text[10:14]
    running = real(model, max_tokens=30_000, ignore_eos=True, stop=[stop])
    stopped = await said_by(running)
    assert text_of(0, stopped) == text[: text.index(stop)]
    assert stopped[-2] == (0, Ended(FinishReason.STOP, stop_string=stop))
    assert (model.running, await running.take()) == (0, [])


async def finished(model: Model) -> None:
    """Wait until the engine has nothing left to do."""
    async with asyncio.timeout(30):
        while model.running:  # noqa: ASYNC110 - the stream is the only one that is told, and it is not read
            await asyncio.sleep(0.01)


async def test_a_slow_reader_gets_many_tokens_at_once(make_pool: MakePool, tiny_model: Path) -> None:
    """All that has gathered is one piece of text, whole and in its order."""
    model = await load(make_pool(mine(tiny_model)))
    quick = await said_by(real(model, max_tokens=200, ignore_eos=True))
    slow = real(model, max_tokens=200, ignore_eos=True)
    await finished(model)
    began, gathered, ended, last = [event for _, event in await slow.take()]
    told = [event for _, event in quick if isinstance(event, Text)]
    assert len(told) > 10
    assert gathered == Text("".join(piece.text for piece in told), tuple(i for piece in told for i in piece.token_ids))
    assert len(gathered.token_ids) == 200
    assert (began, ended) == (Started("mine", 3), LENGTH)
    assert isinstance(last, Completed)


async def test_stop_tokens_beyond_the_vocabulary_do_no_harm(make_pool: MakePool, tiny_model: Path) -> None:
    """A family has its own, and a model that was cut down may lack them; min_tokens bans them all the same."""
    model = await load(make_pool(mine(tiny_model)))
    facts = model.facts
    assert facts is not None
    beyond = facts.loaded.vocab_size + 5
    family = replace(facts, format=replace(facts.format, stop_ids=facts.format.stop_ids | {beyond}))
    running = real(model, family, max_tokens=6, min_tokens=6)
    assert completed(await said_by(running)).usage.completion == 6
    assert running.finishes == [LENGTH]
