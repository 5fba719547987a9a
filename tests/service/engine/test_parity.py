"""Whatever else the engine does meanwhile, a row says what it says alone."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.nn.layers.base import Module

from service.engine.compiler import Compiler
from service.engine.frames import Sampling, Thinking
from tests.service.engine.models import GREEDY, MODELS, VOCAB, Engine, alone

GRAMMARS = [
    'start: %json {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 30}',
    "start: /[a-m]+( [n-z]+)*/",
    'start: "yes" | "no" | /[0-9]{1,9}/',
]
THINKING = Thinking(4, [], [70], [71, 72, 70], is_open=True)
"""The markers are letters and digits, which some of the grammars let come and some do not."""
SYSTEM = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]
"""A prefix that prompts share."""


@dataclass(frozen=True)
class Request:
    """One of a schedule: it comes at a step, and may leave some steps later."""

    seq: int
    prompt: tuple[int, ...]
    sampling: Sampling
    max_tokens: int
    arrives: int
    leaves: int | None
    choices: int
    salt: str
    bypass: bool
    priority: int
    boundaries: list[int] = field(default_factory=list)
    grammar: str = ""
    thinking: Thinking | None = None
    logprobs: int = -1


def schedule(seed: int) -> list[Request]:
    """Make requests of all kinds; some are greedy, some are long, some go on where another one has ended."""
    chance = random.Random(seed)
    requests: list[Request] = []
    for seq in range(chance.randint(3, 9)):
        tail = [chance.randrange(VOCAB) for _ in range(chance.choice([1, 3, 9, 30, 150]))]
        shared = chance.choice([[], SYSTEM, SYSTEM[:7], list(chance.choice(requests).prompt) if requests else []])
        greedy = chance.random() < 0.6
        sampling = GREEDY if greedy else Sampling(seed, temperature=chance.choice([0.5, 1, 1.7]), top_p=0.9)
        prompt = (*shared, *tail)
        requests.append(
            Request(
                seq,
                prompt,
                sampling,
                chance.choice([1, 2, 7, 20, 40]),
                chance.randint(0, 12),
                chance.choice([None, None, None, 1, 4, 11]),
                chance.choice([1, 1, 1, 2, 4]),
                chance.choice(["", "", "salt"]),
                chance.random() < 0.2,
                chance.choice([0, 0, 1]),
                [len(SYSTEM)] if len(prompt) > len(SYSTEM) else [],
                chance.choice(["", "", "", *GRAMMARS]),
                chance.choice([None, None, THINKING]),
                chance.choice([-1, -1, 2]),
            )
        )
    return requests


def run(engine: Engine, requests: list[Request]) -> None:
    """Step the engine through a schedule."""
    step = 0
    while step < 30 or not engine.scheduler.is_idle:
        for request in requests:
            if request.arrives == step:
                engine.submit(
                    request.seq,
                    list(request.prompt),
                    request.sampling,
                    request.max_tokens,
                    choices=request.choices,
                    salt=request.salt,
                    bypass=request.bypass,
                    priority=request.priority,
                    boundaries=request.boundaries,
                    **held(request),
                )
            if request.leaves is not None and request.arrives + request.leaves == step:
                engine.scheduler.abort(request.seq)
        engine.step()
        step += 1


def held(request: Request) -> dict[str, Any]:
    """Say what a request is held to."""
    return {"grammar": request.grammar, "thinking": request.thinking, "logprobs": request.logprobs}


def check(model: Module, engine: Engine, requests: list[Request], compiler: Compiler) -> None:
    """Hold what the engine has said against each choice alone."""
    for request in requests:
        expected = Engine(model, max_running=request.choices, compiler=compiler)
        more = held(request)
        expected.submit(0, list(request.prompt), request.sampling, request.max_tokens, choices=request.choices, **more)
        expected.run()
        for choice in range(request.choices):
            said = engine.choices.get((request.seq, choice), [])
            whole = expected.choices[0, choice]
            assert said == whole[: len(said)], (request, choice)
            assert len(said) == len(whole) or request.leaves is not None
        if not request.grammar:
            first = alone(model, list(request.prompt), request.sampling, request.max_tokens, **more)
            assert expected.choices[0, 0] == first


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Module:
    """Give a model of each kind of cache."""
    return MODELS[request.param]()


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 20), chunk=st.sampled_from([3, 16, 64]), memory=st.sampled_from([1 << 30, 400_000]))
def test_schedules_change_no_text(model: Module, compiler: Compiler, seed: int, chunk: int, memory: int) -> None:
    """Admissions, cancels, further choices, rows put back for want of memory, prefixes that are known or not.

    Some rows are held to a grammar, to a budget of reasoning, or to both.
    """
    requests = schedule(seed)
    limits = {"max_running": 5, "prefill_chunk": chunk, "kv_bytes": memory, "prefix_bytes": memory // 4}
    engine = Engine(model, compiler=compiler, **limits)
    run(engine, requests)
    check(model, engine, requests, compiler)


def test_rows_that_outgrow_the_memory_are_put_back(caplog: pytest.LogCaptureFixture) -> None:
    """The youngest give way; their clients see a pause and nothing else."""
    model = MODELS["llama"]()
    engine = Engine(model, kv_bytes=5 * 256 * 512)
    with caplog.at_level("INFO"):
        for seq in range(4):
            engine.submit(seq, [seq, 1, 2] * 20, max_tokens=400)
        engine.run()
    assert any("put back" in message for message in caplog.messages)
    for seq in range(4):
        assert engine.tokens[seq] == alone(model, [seq, 1, 2] * 20, max_tokens=400)


@pytest.mark.parametrize("room", [3, 4, 5, 8])
def test_choices_come_once_however_little_memory_there_is(room: int) -> None:
    """Their requests' rows may be put back at any time."""
    model = MODELS["llama"]()
    sampling = Sampling(seed=1, temperature=2)
    plenty, scarce = Engine(model, max_running=8), Engine(model, max_running=8, kv_bytes=room * 256 * 512)
    for engine in (plenty, scarce):
        engine.submit(0, [1, 2, 3] * 30, sampling, max_tokens=200, choices=6)
        engine.submit(1, [3, 2, 1] * 30, max_tokens=300)
        engine.run()
    assert scarce.choices == plenty.choices
