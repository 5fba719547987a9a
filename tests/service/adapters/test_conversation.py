"""Tests of what a template is given to render."""

import pytest

from service.adapters.conversation import Conversation
from service.errors import InvalidField, UnsupportedField
from service.text.template import ChatTemplate
from service.types import Message, Role, Tool, ToolCall
from tests.service.adapters.families import CONVERSATION, SYSTEM, TOKENS, USER, published

GENERIC = "{% for m in messages %}[{{ m.role }}|{{ m.content }}]{% endfor %}"
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{% endfor %}" + GENERIC
)
DROPS_SYSTEM = "{% for m in messages if m.role != 'system' %}[{{ m.role }}|{{ m.content }}]{% endfor %}"
FIRST_ONLY = (
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('no') }}{% endif %}"
    "{% endfor %}" + GENERIC
)
ANSWER = Message(Role.ASSISTANT, "Ho.")
DEVELOPER = Message(Role.DEVELOPER, "Be kind.")
CALL = Message(Role.ASSISTANT, None, tool_calls=(ToolCall("c1", "look", '{"n": 1.0, "big": 12345678901234567890}'),))
RESULT = Message(Role.TOOL, "42", tool_call_id="c1")


def conversation(source: str, *, thinking_parts: bool = False) -> Conversation:
    return Conversation(ChatTemplate(source, TOKENS), thinking_parts=thinking_parts)


def spoken(source: str, *messages: Message) -> list[tuple[object, object]]:
    return [(message["role"], message["content"]) for message in conversation(source).messages(messages)]


def test_a_template_that_takes_a_system_role_gets_it() -> None:
    """Messages go through as they are, in order."""
    assert spoken(GENERIC, *CONVERSATION) == [
        ("system", "Be brief."), ("user", "Hi?"), ("assistant", "Ho."), ("user", "And?"),
    ]  # fmt: skip


@pytest.mark.parametrize("source", [NO_SYSTEM, DROPS_SYSTEM], ids=["refuses", "drops"])
def test_a_system_text_that_would_be_refused_or_dropped_goes_to_the_user(source: str) -> None:
    """The system text opens the first user message."""
    assert spoken(source, SYSTEM, USER, ANSWER, USER) == [
        ("user", "Be brief.\n\nHi?"), ("assistant", "Ho."), ("user", "Hi?"),
    ]  # fmt: skip
    assert spoken(source, USER, ANSWER, SYSTEM, USER)[-1] == ("user", "Be brief.\n\nHi?")
    assert spoken(source, SYSTEM) == [("user", "Be brief.")]
    assert spoken(source, SYSTEM, ANSWER) == [("user", "Be brief."), ("assistant", "Ho.")]


def test_a_later_system_text_is_folded_where_only_the_first_is_taken() -> None:
    """A template may take a system message at the start and refuse it later."""
    assert spoken(FIRST_ONLY, SYSTEM, USER, ANSWER, SYSTEM, USER) == [
        ("system", "Be brief."), ("user", "Hi?"), ("assistant", "Ho."), ("user", "Be brief.\n\nHi?"),
    ]  # fmt: skip


def test_neighbouring_instructions_are_one() -> None:
    """Several system and developer messages in a row become one, since templates look at the first only."""
    assert spoken(GENERIC, SYSTEM, DEVELOPER, USER)[0] == ("system", "Be brief.\n\nBe kind.")
    assert spoken(GENERIC, USER, ANSWER, SYSTEM, SYSTEM)[2:] == [("system", "Be brief.\n\nBe brief.")]


def test_developer_is_system_unless_the_template_knows_it() -> None:
    """The developer role is rendered where the template has it."""
    assert spoken(GENERIC, DEVELOPER, USER)[0][0] == "system"
    assert spoken("Help a developer." + GENERIC, DEVELOPER, USER)[0][0] == "system"
    assert spoken(published("gpt-oss"), DEVELOPER, USER)[0][0] == "developer"


def test_a_template_that_fails_for_everything_is_not_blamed_on_the_system_role() -> None:
    """The failure comes with the request's own rendering."""
    template = ChatTemplate("{{ raise_exception('never') }}", TOKENS)
    with pytest.raises(InvalidField, match="never"):
        template.render(Conversation(template).messages([USER]), tools=None, kwargs={})


def test_names_reasoning_and_ids_are_handed_over() -> None:
    """A message's dict has what is set, and nothing that is not."""
    told = conversation(published("qwen3")).messages(
        [Message(Role.USER, "Hi?", name="Ann"), Message(Role.ASSISTANT, "Ho.", reasoning="hm"), CALL, RESULT]
    )
    call = {"name": "look", "arguments": {"n": 1.0, "big": 12345678901234567890}}
    assert told == [
        {"role": "user", "content": "Hi?", "name": "Ann"},
        {"role": "assistant", "content": "Ho.", "reasoning_content": "hm", "thinking": "hm"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": call}]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
    ]
    assert isinstance(told[2]["tool_calls"][0]["function"]["arguments"]["n"], float)  # type: ignore[index]


def test_no_content_is_none_where_the_template_asks_for_it() -> None:
    """Beside tool calls no content is None for a template that tests it, else an empty text."""
    assert conversation(published("r1-distill")).messages([CALL])[0]["content"] is None
    assert conversation(published("gpt-oss")).messages([CALL])[0]["content"] == ""
    assert spoken(GENERIC, Message(Role.ASSISTANT, None, reasoning="hm")) == [("assistant", "")]


def test_reasoning_is_a_part_of_the_content_for_templates_that_read_it_so() -> None:
    """Ministral's template has the thinking between its markers."""
    template = ChatTemplate(published("ministral-3-reasoning"), TOKENS)
    messages = [USER, Message(Role.ASSISTANT, "Ho.", reasoning="hm"), USER]
    told = Conversation(template, thinking_parts=True).messages(messages)
    assert "[THINK]hm[/THINK]Ho.</s>" in template.render(told, tools=None, kwargs={})
    assert conversation(GENERIC, thinking_parts=True).messages(messages)[1]["content"] == "Ho."


@pytest.mark.parametrize(
    ("messages", "field"),
    [([USER, CALL], "messages[1].tool_calls"), ([USER, ANSWER, RESULT], "messages[2].role")],
)
def test_calls_and_results_that_the_template_does_not_know_are_unsupported(messages: list[Message], field: str) -> None:
    """A conversation with tools is refused, by its path, where the template would drop them."""
    with pytest.raises(UnsupportedField) as caught:
        conversation(GENERIC).messages(messages)
    assert caught.value.field == field


def test_paths_count_the_messages_of_the_request() -> None:
    """A path names the caller's message, though instructions before it became one."""
    with pytest.raises(UnsupportedField) as caught:
        conversation(GENERIC).messages([SYSTEM, SYSTEM, USER, CALL])
    assert caught.value.field == "messages[3].tool_calls"


def test_tools_have_the_shape_of_openai() -> None:
    """A tool's parameters are its parsed schema; none are an object without properties."""
    tools = [Tool("look", "Looks.", '{"type": "object", "x": 1}'), Tool("rest", "", "")]
    assert conversation(published("qwen3")).tools(tools) == [
        {"type": "function", "function": {
            "name": "look", "description": "Looks.", "parameters": {"type": "object", "x": 1}}},
        {"type": "function", "function": {
            "name": "rest", "description": "", "parameters": {"type": "object", "properties": {}}}},
    ]  # fmt: skip
    assert conversation(GENERIC).tools([]) is None


def test_tools_that_the_template_does_not_read_are_unsupported() -> None:
    """Tools are refused rather than dropped."""
    with pytest.raises(UnsupportedField) as caught:
        conversation(GENERIC).tools([Tool("look", "", "")])
    assert caught.value.field == "tools"


@pytest.mark.parametrize("text", ["{", "nope", "[1]", '"x"', "[" * 100_000, "\ud800", '{"a": NaN}'])
def test_arguments_that_are_no_json_object_are_refused(text: str) -> None:
    """Tool arguments must be a JSON object, and are named by their path."""
    bad = Message(Role.ASSISTANT, None, tool_calls=(ToolCall("c", "f", "{}"), ToolCall("c", "f", text)))
    with pytest.raises(InvalidField) as caught:
        conversation(published("qwen3")).messages([USER, bad])
    assert caught.value.field == "messages[1].tool_calls[1].arguments"


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_a_schema_that_is_no_json_is_refused(text: str) -> None:
    """A tool's parameters must be JSON, and are named by their path."""
    with pytest.raises(InvalidField) as caught:
        conversation(published("qwen3")).tools([Tool("a", "", "{}"), Tool("b", "", text)])
    assert caught.value.field == "tools[1].parameters_json"
