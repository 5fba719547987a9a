"""What a request leaves open is filled with the model's defaults."""

from pathlib import Path
from typing import Any

import pytest

from service.engine import frames
from service.errors import ContextTooLong
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


def generation(model: Model, prompt: list[int], **stopping: Any) -> Generation:
    """Submit a greedy request."""
    assert model.facts is not None
    rule = Stopping(**stopping)
    parser = Parser(model.facts.tokenizer, rule)
    return Generation(model, model.facts, prompt, parser, Sampling(temperature=0), rule, arrived=0)


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
