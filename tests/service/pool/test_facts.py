"""What is known of a model that is loaded."""

from pathlib import Path

import pytest

from service.config import ModelConfig
from service.errors import ContextTooLong, InsufficientMemory
from service.pool.facts import ModelFacts
from tests.service.fakes import loaded


def facts(folder: Path, context: int, kv_tokens: int) -> ModelFacts:
    return ModelFacts.of(
        ModelConfig("m", path=str(folder)), loaded(folder, context_length=context, kv_tokens=kv_tokens)
    )


@pytest.mark.parametrize(
    ("context", "memory", "prompt", "asked", "room"),
    [
        (100, 1000, 60, None, 40),
        (100, 1000, 60, 10, 10),
        (100, 1000, 60, 50, 40),
        (100, 1000, 100, 0, 0),
        (100, 80, 60, None, 20),
        (100, 80, 60, 20, 20),
        (100, 80, 80, 0, 0),
        (100, 80, 79, None, 1),
        (80, 80, 60, 50, 20),
    ],
)
def test_an_answer_has_the_room_that_is_left(
    tmp_path: Path, context: int, memory: int, prompt: int, asked: int | None, room: int
) -> None:
    """By context and memory; more than the context leaves is cut."""
    assert facts(tmp_path, context, memory).room(prompt, asked) == room


@pytest.mark.parametrize(
    ("prompt", "asked", "needed"), [(81, 0, 81), (80, None, 81), (80, 1, 81), (60, 21, 81), (60, 50, 100)]
)
def test_what_can_never_fit_is_refused(tmp_path: Path, prompt: int, asked: int | None, needed: int) -> None:
    """With what it would take, the context's cut counted, and what there is."""
    with pytest.raises(InsufficientMemory) as raised:
        facts(tmp_path, 100, 80).room(prompt, asked)
    assert (raised.value.needed, raised.value.available) == (needed, 80)


@pytest.mark.parametrize(("prompt", "asked"), [(101, 0), (101, None), (100, 1), (100, None)])
def test_the_context_comes_first(tmp_path: Path, prompt: int, asked: int | None) -> None:
    """A prompt that no memory would help is told so."""
    with pytest.raises(ContextTooLong):
        facts(tmp_path, 100, 80).room(prompt, asked)
