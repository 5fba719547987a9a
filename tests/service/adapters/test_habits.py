"""What published templates do with messages."""

import pytest

from service.adapters.habits import CallHabits, Habits
from service.text.template import ChatTemplate
from tests.service.adapters.families import TOKENS, published


def habits(source: str) -> Habits:
    return Habits(ChatTemplate(source, TOKENS))


@pytest.mark.parametrize(
    ("name", "tools", "calls"),
    [
        ("qwen3", True, CallHabits("", False, True, False, True, True, True, True, True)),
        ("gpt-oss", True, CallHabits("", False, True, False, True, False, True, False, True)),
        ("gemma-4", True, CallHabits("", False, True, False, True, True, True, False, False)),
        ("mistral-nemo", True, CallHabits("", False, True, True, True, True, True, True, True)),
        ("ministral-3-reasoning", True, CallHabits("", False, True, False, True, True, True, True, True)),
        ("deepseek-v3.1", False, CallHabits("", False, True, False, True, True, True, True, True)),
        ("r1-distill", False, CallHabits(None, True, True, False, False, False, True, True, True)),
        ("phi-4", False, None),
    ],
)
def test_published_templates(name: str, tools: bool, calls: CallHabits | None) -> None:
    """Whether they show tools, and how they want calls and results."""
    found = habits(published(name))
    assert found.tools is tools
    assert found.calls == calls


def test_tools_that_are_read_and_not_shown_are_not_known() -> None:
    """A template may look at them without printing one."""
    assert not habits("{% if tools %}x{% endif %}{{ messages[0].content }}").tools
    assert habits("{% for t in tools or [] %}{{ t.function.name }}{% endfor %}").tools


def test_results_may_be_unknown_where_calls_are_known() -> None:
    """They are found out apart."""
    source = (
        "{% for m in messages if m.role != 'tool' %}"
        "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}{% endfor %}"
    )
    known = habits(source).calls
    assert known is not None
    assert not known.results


def test_a_template_that_refuses_everything_has_no_habits() -> None:
    """It is found out without harm."""
    found = habits("{{ raise_exception('never') }}")
    assert (found.system_first, found.system_later, found.tools, found.calls) == (False, False, False, None)
