"""Tests of chat templates."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from service.errors import InvalidField, SetupError
from service.text import template as module
from service.text.template import ChatTemplate

TEMPLATES = sorted((Path(__file__).parents[1] / "adapters" / "templates").glob("*.jinja"))
TOKENS: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>"}
USER: list[dict[str, object]] = [{"role": "user", "content": "hi"}]


def render(source: str, messages: list[dict[str, object]] | None = None, **kwargs: object) -> str:
    return ChatTemplate(source, TOKENS).render(USER if messages is None else messages, tools=None, kwargs=kwargs)


def theirs(source: str, messages: list[dict[str, object]], **kwargs: Any) -> str:
    """Return what transformers renders."""
    rendered: Any = render_jinja_template(
        [messages], chat_template=source, add_generation_prompt=True, **TOKENS, **kwargs
    )
    return str(rendered[0][0])


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
@pytest.mark.parametrize("roles", [("user",), ("system", "user"), ("user", "assistant", "user")])
@pytest.mark.parametrize("kwargs", [{}, {"enable_thinking": False}, {"thinking": True, "reasoning_effort": "low"}])
def test_published_templates_render_as_in_transformers(
    path: Path, roles: tuple[str, ...], kwargs: dict[str, object]
) -> None:
    """Every published template gives what transformers makes of it, or is refused where transformers refuses."""
    source = path.read_text(encoding="utf-8")
    messages: list[dict[str, object]] = [{"role": role, "content": f" {role} ü "} for role in roles]
    try:
        expected = theirs(source, messages, **kwargs)
    except Exception:  # noqa: BLE001 - transformers lets through whatever a template raises
        with pytest.raises(InvalidField):
            render(source, messages, **kwargs)
    else:
        assert render(source, messages, **kwargs) == expected


@pytest.mark.parametrize("name", ["qwen3", "gpt-oss", "granite-3.3", "mistral-nemo", "gemma-4"])
def test_tools_render_as_in_transformers(name: str) -> None:
    """Tools, which go through tojson in several ways, give what transformers makes of them."""
    source = next(path for path in TEMPLATES if path.stem == name).read_text(encoding="utf-8")
    parameters = {"type": "object", "properties": {"where": {"type": "string", "description": "<Ort> & 'Straße'"}}}
    function = {"name": "look", "description": "Looks.", "parameters": parameters}
    tools: list[dict[str, object]] = [{"type": "function", "function": function}]
    assert ChatTemplate(source, TOKENS).render(USER, tools=tools, kwargs={}) == theirs(source, USER, tools=tools)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(value=json_values, indent=st.sampled_from([None, 2, 4]))
@settings(deadline=None, max_examples=60)
def test_tojson_is_plain_json(value: object, indent: int | None) -> None:
    """`tojson` escapes neither HTML nor what is not ASCII, and indents as asked."""
    assert render("{{ value | tojson(indent=indent) }}", value=value, indent=indent) == json.dumps(
        value, ensure_ascii=False, indent=indent
    )


def test_tojson_takes_the_options_that_transformers_gives_it() -> None:
    """Separators, sorted keys and ASCII are there for templates that ask for them."""
    source = "{{ value | tojson(ensure_ascii=true, separators=(',', ':'), sort_keys=true) }}"
    assert render(source, value={"b": "é", "a": 1}) == '{"a":1,"b":"\\u00e9"}'


def test_blocks_are_trimmed_and_loops_can_be_left() -> None:
    """Lines that hold a block alone leave nothing, and break and continue work."""
    source = (
        "{% for i in range(9) %}\n  {% if i == 1 %}{% continue %}{% endif %}\n"
        "  {% if i == 3 %}{% break %}{% endif %}\n{{ i }}\n{% endfor %}"
    )
    assert render(source) == "0\n2\n"


def test_the_generation_tag_shows_its_body() -> None:
    """What an assistant said is marked for training masks only."""
    assert render("a{% generation %}b{{ messages[0].content }}{% endgeneration %}c") == "abhic"


def test_a_template_sees_the_variables_that_transformers_gives_it() -> None:
    """A template sees the special tokens, its kwargs, no tools and the generation prompt asked for."""
    source = "{{ bos_token }}{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}{{ level }}"
    assert render(source, level=3) == "<s>TrueTrueTrue3"
    template = ChatTemplate(source, TOKENS)
    assert template.render(USER, tools=None, kwargs={}, add_generation_prompt=False) == "<s>TrueTrueFalse"


def test_the_time_can_be_asked_for() -> None:
    """`strftime_now` gives the date."""
    assert len(render("{{ strftime_now('%Y-%m-%d') }}")) == len("2025-01-01")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ raise_exception('Roles must alternate') }}", "Roles must alternate"),
        ("{{ nothing.at.all }}", "nothing"),
        ("{{ messages[0].content + 1 }}", "str"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ messages | map('upper') | first | int('x') + none }}", "concatenate"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ],
)
def test_what_a_template_raises_is_about_the_messages(source: str, text: str) -> None:
    """A template's own refusal, a failure over its data and a look behind the sandbox name `messages` and say why."""
    with pytest.raises(InvalidField, match=text) as caught:
        render(source)
    assert caught.value.field == "messages"


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ a", "{% for x in y %}", "{{ x | nosuch }}", "(" * 3 + "{{" + "(" * 5000]
)
def test_a_broken_template_is_a_setup_error(source: str) -> None:
    """A template that does not compile is told when it is read."""
    with pytest.raises(SetupError, match="chat template"):
        ChatTemplate(source, {})


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt"])
def test_kwargs_cannot_replace_what_the_request_says(name: str) -> None:
    """A kwarg of the conversation's own names is refused by its path."""
    with pytest.raises(InvalidField) as caught:
        ChatTemplate("", {}).render(USER, tools=None, kwargs={name: []})
    assert caught.value.field == f"chat_template_kwargs.{name}"


def test_a_template_tells_which_variables_it_reads() -> None:
    """Variables that are read count, also where the template sets them first; attributes and texts do not."""
    template = ChatTemplate("{% if not tools is defined %}{% set tools = none %}{% endif %}{{ x.y }}{{ 'z' }}", {})
    assert [template.mentions(name) for name in ("tools", "x", "y", "z")] == [True, True, False, False]
    assert not ChatTemplate("{% set tools = 1 %}", {}).mentions("tools")


class TestBounds:
    """What would hold up the service or eat its memory is refused."""

    HUNGRY: ClassVar = {
        "range": "{% for i in range(10**9) %}{% endfor %}",
        "product": "{{ 'x' * (2**31) }}",
        "list product": "{{ ([0] * 2**31) | length }}",
        "power": "{{ 9 ** (9 ** 12) }}",
        "doubling": "{% set n = namespace(t='x') %}{% for i in range(40) %}{% set n.t = n.t * 2 %}{% endfor %}",
        "output": "{% set t = 'x' * 100000 %}{% for i in range(1000) %}{{ t }}{% endfor %}",
        "steps": "{% for i in range(9999) %}{% for j in range(9999) %}{% if x.y %}{% endif %}{% endfor %}{% endfor %}",
        "items": "{% for i in range(999) %}{% for j in range(1999) %}{{ x['y'] and '' or '' }}{% endfor %}{% endfor %}",
    }

    @pytest.mark.parametrize("name", HUNGRY)
    def test_a_template_cannot_run_away(self, name: str) -> None:
        """Ranges, products, powers, output and work are bounded."""
        with pytest.raises(InvalidField):
            render(self.HUNGRY[name], x={"y": 0})

    def test_many_messages_cannot_hang_a_quadratic_template(self) -> None:
        """A template that goes through all messages for each of them gives up."""
        source = "{% for a in messages %}{% for b in messages %}{{ b.content }}{% endfor %}{% endfor %}"
        assert render(source, USER * 100) == "hi" * 10_000
        with pytest.raises(InvalidField, match="too long"):
            render(source, USER * 100_000)

    def test_nested_json_cannot_blow_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Indenting gives up once the text is too long."""
        monkeypatch.setattr(module, "MAX_TEXT", 10_000)
        value: object = [0] * 1000
        for _ in range(50):
            value = [value]
        with pytest.raises(InvalidField, match="too long"):
            render("{{ value | tojson(indent=4) | length }}", value=value)

    def test_deep_json_is_refused(self) -> None:
        """JSON nested deeper than Python's stack is refused, indented or not."""
        value: object = 0
        for _ in range(100_000):
            value = [value]
        for source in ("{{ value | tojson }}", "{{ value | tojson(indent=1) }}"):
            with pytest.raises(InvalidField):
                render(source, value=value)

    def test_a_rendering_starts_with_its_whole_budget(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What one rendering used is not missing in the next."""
        monkeypatch.setattr(module, "MAX_STEPS", 100)
        template = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", {})
        for _ in range(3):
            assert template.render(USER * 90, tools=None, kwargs={}) == "hi" * 90
        with pytest.raises(InvalidField, match="too long"):
            template.render(USER * 110, tools=None, kwargs={})
