"""What a request leaves open is filled with the model's defaults."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.engine import frames
from service.errors import ContextTooLong
from service.pool.facts import ModelFacts
from service.pool.generation import Completed, Generation, Started, _resolve
from service.pool.model import Model
from service.text.parser import Parser
from service.text.pieces import Ended, Text
from service.types import FinishReason, Sampling, Stopping
from tests.service.pool.conftest import MakeModel, load

OWN = frames.Defaults(temperature=0.3, top_p=0.8, top_k=7, min_p=0.1, repetition_penalty=1.1)


def test_the_request_wins_over_the_model() -> None:
    """Its zeros too."""
    asked = Sampling(temperature=0, top_p=1, top_k=0, min_p=0, repetition_penalty=1, seed=0)
    resolved = _resolve(asked, OWN)
    assert (resolved.temperature, resolved.top_p, resolved.top_k, resolved.min_p) == (0, 1, 0, 0)
    assert (resolved.repetition_penalty, resolved.seed) == (1, 0)


def test_the_model_wins_over_the_neutral_values() -> None:
    """Where the request says nothing."""
    resolved = _resolve(Sampling(), OWN)
    assert (resolved.temperature, resolved.top_p, resolved.top_k, resolved.min_p) == (0.3, 0.8, 7, 0.1)
    assert resolved.repetition_penalty == 1.1


def test_neutral_values_change_nothing() -> None:
    """Where neither says anything; only the seed is drawn."""
    first, second = (_resolve(Sampling(), frames.Defaults()) for _ in range(2))
    assert first == frames.Sampling(seed=first.seed)
    assert first.seed != second.seed


def generation(model: Model, prompt: list[int], facts: ModelFacts | None = None, **stopping: Any) -> Generation:
    """Submit a greedy request, with other facts than the model's where they are given."""
    facts = facts or model.facts
    assert facts is not None
    rule = Stopping(**stopping)
    parser = Parser(facts.tokenizer, rule)
    return Generation(model, facts, prompt, parser, Sampling(temperature=0), rule, arrived=0)


async def events_of(running: Generation) -> list[Any]:
    """Take all that a request gives."""
    events: list[Any] = []
    while taken := await running.take():
        events += taken
    return events


async def test_a_request_from_start_to_end(make_model: MakeModel, tiny_model: Path) -> None:
    """Started first, completed last, and nothing after it; a stop string ends the sequence in the engine too."""
    model = await load(make_model(tiny_model), tiny_model)
    plain = await events_of(generation(model, [1, 2, 3], max_tokens=50, ignore_eos=True))
    text = "".join(event.text for event in plain if isinstance(event, Text))
    assert plain[0] == Started("mine", 3)
    assert plain[-2] == Ended(FinishReason.LENGTH)
    assert isinstance(plain[-1], Completed)
    assert (plain[-1].usage.prompt, plain[-1].usage.completion) == (3, 50)

    stop = text[10:14]
    running = generation(model, [1, 2, 3], max_tokens=30_000, ignore_eos=True, stop=[stop])
    stopped = await events_of(running)
    assert "".join(event.text for event in stopped if isinstance(event, Text)) == text[: text.index(stop)]
    assert stopped[-2] == Ended(FinishReason.STOP, stop_string=stop)
    assert (model.running, await running.take()) == (0, [])


async def test_a_prompt_must_leave_room(make_model: MakeModel, tiny_model: Path) -> None:
    """For one token at least."""
    model = await load(make_model(tiny_model), tiny_model)
    with pytest.raises(ContextTooLong) as raised:
        generation(model, [1] * (1 << 15))
    assert (raised.value.limit, raised.value.got) == (1 << 15, 1 << 15)
    assert model.running == 0


async def finished(model: Model) -> None:
    """Wait until the engine has nothing left to do."""
    async with asyncio.timeout(30):
        while model.running:  # noqa: ASYNC110 - the stream is the only one that is told, and it is not read
            await asyncio.sleep(0.01)


async def test_a_slow_reader_gets_many_tokens_at_once(make_model: MakeModel, tiny_model: Path) -> None:
    """All that has gathered is one piece of text, whole and in its order."""
    model = await load(make_model(tiny_model), tiny_model)
    quick = await events_of(generation(model, [1, 2, 3], max_tokens=200, ignore_eos=True))
    slow = generation(model, [1, 2, 3], max_tokens=200, ignore_eos=True)
    await finished(model)
    began, gathered, ended, completed = await slow.take()
    told = [event for event in quick if isinstance(event, Text)]
    assert len(told) > 10
    assert gathered == Text("".join(piece.text for piece in told), tuple(i for piece in told for i in piece.token_ids))
    assert len(gathered.token_ids) == 200
    assert (began, ended) == (Started("mine", 3), Ended(FinishReason.LENGTH))
    assert isinstance(completed, Completed)


async def test_stop_tokens_beyond_the_vocabulary_do_no_harm(make_model: MakeModel, tiny_model: Path) -> None:
    """A family has its own, and a model that was cut down may lack them; min_tokens bans them all the same."""
    model = await load(make_model(tiny_model), tiny_model)
    facts = model.facts
    assert facts is not None
    beyond = facts.loaded.vocab_size + 5
    family = replace(facts, format=replace(facts.format, stop_ids=facts.format.stop_ids | {beyond}))
    running = generation(model, [1, 2, 3], facts=family, max_tokens=6, min_tokens=6)
    completed = (await events_of(running))[-1]
    assert (completed.usage.completion, running.finish) == (6, Ended(FinishReason.LENGTH))
