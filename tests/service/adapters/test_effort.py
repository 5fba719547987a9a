"""What templates are told of how much to think."""

import pytest

from service.adapters.effort import ReasoningSwitches
from service.text.template import ChatTemplate
from service.types import Effort, Reasoning
from tests.service.adapters.families import TOKENS, published

BOTH_ENDS = "{% if reasoning_effort not in ['none', 'high'] %}{{ raise_exception('no') }}{% endif %}"


def told(source: str, effort: Effort | None, budget: int | None = None) -> dict[str, object]:
    return ReasoningSwitches(ChatTemplate(source, TOKENS)).variables(Reasoning(effort, budget))


@pytest.mark.parametrize(
    ("name", "none", "low"),
    [
        ("qwen3", {"enable_thinking": False}, {"enable_thinking": True}),
        ("gemma-4", {"enable_thinking": False}, {"enable_thinking": True}),
        ("granite-3.3", {"thinking": False}, {"thinking": True}),
        ("deepseek-v3.1", {"enable_thinking": False, "thinking": False}, {"enable_thinking": True, "thinking": True}),
        ("gpt-oss", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ("qwq", {}, {}),
    ],
)
def test_published_templates(name: str, none: dict[str, object], low: dict[str, object]) -> None:
    """Each is told through the variables that it reads, and nothing else."""
    assert (told(published(name), Effort.NONE), told(published(name), Effort.LOW)) == (none, low)
    assert told(published(name), None) == {}


@pytest.mark.parametrize(
    ("effort", "usual", "both_ends"),
    [
        (Effort.NONE, "low", "none"),
        (Effort.MINIMAL, "low", "high"),
        (Effort.LOW, "low", "high"),
        (Effort.MEDIUM, "medium", "high"),
        (Effort.HIGH, "high", "high"),
    ],
)
def test_a_level_is_the_nearest_that_the_template_knows(effort: Effort, usual: str, both_ends: str) -> None:
    """And not none, unless that is what was asked for."""
    assert told("{{ reasoning_effort }}", effort) == {"reasoning_effort": usual}
    assert told(BOTH_ENDS, effort) == {"reasoning_effort": both_ends}


def test_a_budget_is_told_to_a_template_that_reads_one() -> None:
    """It was trained with it."""
    assert told("{{ thinking_budget }}", None, 0) == {"thinking_budget": 0}
    assert told("{{ reasoning_effort }}", None, 0) == {}


def test_a_request_may_set_a_switch_itself() -> None:
    """One that the template reads."""
    switches = ReasoningSwitches(ChatTemplate(published("qwen3"), TOKENS))
    assert switches.are_set_in({"enable_thinking": True, "x": 1})
    assert not switches.are_set_in({"reasoning_effort": "low"})
