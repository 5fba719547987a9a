"""What becomes of prompts that are processed: the choices of a request, and requests for no tokens."""

import pytest
from mlx.nn.layers.base import Module

from service.engine.frames import Sampling
from tests.service.engine.models import Engine, Faulty, Solitary, Unmergeable, Wrapped, alone, wide


def test_no_tokens_are_no_tokens(plain: Module) -> None:
    """The prompt is processed all the same, which scoring needs."""
    engine = Engine(plain)
    engine.submit(0, [1, 2, 3], max_tokens=0)
    engine.run()
    assert (engine.tokens[0], engine.finish(0)) == ([], "length")
    assert engine.processed[0] == [3]


def test_choices_share_one_prefill(plain: Module) -> None:
    """The prompt is processed once; each choice draws by itself; the first is what it would be without the others."""
    model = Faulty(plain)
    processed: list[int] = []
    model.fault = lambda tokens: bool(processed.append(len(tokens) * len(tokens[0])))  # type: ignore[func-returns-value]
    engine = Engine(model)
    sampling = Sampling(seed=3, temperature=2)
    processed.clear()
    engine.submit(0, list(range(60)), sampling, max_tokens=5, choices=4)
    engine.run()
    assert sum(processed) == 59 + 4 * 5
    texts = [tuple(engine.choices[0, choice]) for choice in range(4)]
    assert len(set(texts)) == 4
    assert list(texts[0]) == alone(plain, list(range(60)), sampling, max_tokens=5)


@pytest.mark.parametrize("places", [1, 2, 8])
def test_every_choice_starts_where_the_prompt_ends(model: Module, places: int) -> None:
    """What one of them has said by then is not in the cache of another."""
    engine = Engine(model, max_running=places)
    engine.submit(0, list(range(30)), max_tokens=6, choices=4)
    engine.run()
    expected = alone(model, list(range(30)), max_tokens=6)
    assert [engine.choices[0, choice] for choice in range(4)] == [expected] * 4


def test_choices_beyond_the_places_get_their_turn(plain: Module) -> None:
    """They go on from the same prefill, and say what they would say with places enough."""
    sampling = Sampling(seed=3, temperature=1)
    said = []
    for places in (3, 16):
        engine = Engine(plain, max_running=places)
        engine.submit(0, list(range(60)), sampling, max_tokens=5, choices=8)
        engine.run()
        assert {engine.finishes[0, choice] for choice in range(8)} == {"length"}
        said.append([engine.choices[0, choice] for choice in range(8)])
    assert said[0] == said[1]


def test_one_choice_may_be_aborted(plain: Module) -> None:
    """The others go on, those that still wait for a place too."""
    engine = Engine(plain, max_running=2)
    sampling = Sampling(seed=3, temperature=1)
    engine.submit(0, [1, 2, 3], sampling, max_tokens=6, choices=4)
    while not engine.tokens[0]:
        engine.step()
    engine.scheduler.abort(0, 1)
    engine.scheduler.abort(0, 3)
    engine.run()
    assert {choice for seq, choice in engine.finishes if seq == 0} == {0, 2}


@pytest.mark.parametrize("make", [Solitary, Unmergeable])
def test_choices_of_caches_that_cannot_merge_run_one_by_one(make: type[Wrapped]) -> None:
    """They start where the first one did."""
    model = make(wide())
    sampling = Sampling(seed=3, temperature=2)
    engine = Engine(model)
    engine.submit(0, [1, 2, 3, 4], sampling, max_tokens=5, choices=3)
    engine.run()
    assert set(engine.finishes.values()) == {"length"}
    assert engine.choices[0, 0] == alone(model, [1, 2, 3, 4], sampling, max_tokens=5)
