"""A request in the engine's words."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.config import ModelConfig
from service.engine import frames
from service.pool.facts import ModelFacts
from service.pool.prompt import Prompt
from service.pool.submission import resolve, submission
from service.text.answer import AnswerForm
from service.text.grammar import Grammar
from service.types import Ask, Cache, Origin, Output, Sampling, Stopping
from tests.service.fakes import loaded, token

OWN = frames.Defaults(temperature=0.3, top_p=0.8, top_k=7, min_p=0.1, repetition_penalty=1.1)
BOUND = frames.Thinking(3, [1], [2], [2, 4])
ORIGIN = Origin("me", arrived=1.0)


@pytest.fixture
def facts(tmp_path: Path) -> ModelFacts:
    return ModelFacts.of(ModelConfig("m", path="/m"), loaded(tmp_path))


def submitted(facts: ModelFacts, prompt: Prompt | None = None, origin: Origin = ORIGIN, **fields: Any) -> frames.Submit:
    ask = replace(Ask("m", "r", Sampling(), Stopping()), **fields)
    return submission(facts, prompt or Prompt([1, 2, 3]), ask, origin)


def test_the_request_wins_over_the_model() -> None:
    """Its zeros too."""
    asked = Sampling(temperature=0, top_p=1, top_k=0, min_p=0, repetition_penalty=1, seed=0)
    resolved = resolve(asked, OWN)
    assert (resolved.temperature, resolved.top_p, resolved.top_k, resolved.min_p) == (0, 1, 0, 0)
    assert (resolved.repetition_penalty, resolved.seed) == (1, 0)


def test_the_model_wins_over_the_neutral_values() -> None:
    """Where the request says nothing."""
    resolved = resolve(Sampling(), OWN)
    assert (resolved.temperature, resolved.top_p, resolved.top_k, resolved.min_p) == (0.3, 0.8, 7, 0.1)
    assert resolved.repetition_penalty == 1.1


def test_neutral_values_change_nothing() -> None:
    """Where neither says anything; only the seed is drawn."""
    first, second = (resolve(Sampling(), frames.Defaults()) for _ in range(2))
    assert first == frames.Sampling(seed=first.seed)
    assert first.seed != second.seed


def test_nothing_asked_for_costs_nothing(facts: ModelFacts) -> None:
    """One choice, no log-probabilities, no reports, and the cache is used."""
    submit = submitted(facts)
    assert (submit.choices, submit.logprobs, submit.prompt_logprobs, submit.report) == (1, -1, -1, False)
    assert (submit.priority, submit.deadline, submit.salt, submit.bypass) == (0, None, "", False)
    assert (submit.prompt, submit.max_tokens, submit.boundaries) == ([1, 2, 3], 997, [])
    assert (submit.grammar, submit.thinking) == ("", None)


def test_all_that_is_asked_for_is_told(facts: ModelFacts) -> None:
    """In the engine's words."""
    submit = submitted(
        facts,
        Prompt([1, 2, 3], answer=AnswerForm(grammar=Grammar("start: /a/", "tools"), thinking=BOUND), boundaries=[1, 2]),
        Origin("me", arrived=1.0, deadline=2.5),
        stopping=Stopping(max_tokens=7, min_tokens=2),
        output=Output(logprobs=True, top_logprobs=5, prompt_logprobs=0, progress=True),
        cache=Cache("salt", bypass=True),
        n=3,
        priority=-4,
    )
    assert (submit.choices, submit.logprobs, submit.prompt_logprobs, submit.report) == (3, 5, 0, True)
    assert (submit.caller, submit.priority, submit.deadline) == ("me", -4, 2.5)
    assert (submit.salt, submit.bypass, submit.boundaries) == ("salt", True, [1, 2])
    assert (submit.max_tokens, submit.min_tokens) == (7, 2)
    assert (submit.grammar, submit.thinking) == ("start: /a/", BOUND)


def test_log_probabilities_without_alternatives_are_some(facts: ModelFacts) -> None:
    """None at all is below zero."""
    assert submitted(facts, output=Output(logprobs=True)).logprobs == 0


def test_a_request_stops_at_the_models_tokens_and_its_own(facts: ModelFacts) -> None:
    """Its own alone if it ignores the end of a turn."""
    end, own = token("<|im_end|>"), token("a")
    stopping = Stopping(stop_token_ids=(own,))
    assert sorted(submitted(facts, stopping=stopping).stop_ids) == sorted({own, *facts.format.stop_ids})
    assert end in facts.format.stop_ids
    assert submitted(facts, stopping=replace(stopping, ignore_eos=True)).stop_ids == [own]
