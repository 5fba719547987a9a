"""Tests of what a template is given to render."""

import json
from dataclasses import replace

import pytest

from service.adapters.conversation import Conversation
from service.errors import InvalidField
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
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": call}]},
        {"role": "tool", "content": "42", "name": "look", "tool_call_id": "c1"},
    ]
    assert isinstance(told[2]["tool_calls"][0]["function"]["arguments"]["n"], float)  # type: ignore[index]


def test_no_content_is_none_where_the_template_asks_for_it() -> None:
    """Beside tool calls no content is an empty text, and None for a template that shows the calls only then."""
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


def test_calls_and_results_that_the_template_does_not_know_are_said_as_text() -> None:
    """Neither is dropped; the results of several calls and what the user says next are one message."""
    second = Message(Role.TOOL, "43", tool_call_id="c2")
    call = '<tool_call>\n{"name": "look", "arguments": {"n": 1.0, "big": 12345678901234567890}}\n</tool_call>'
    results = "<tool_response>\n42\n</tool_response>\n<tool_response>\n43\n</tool_response>"
    assert spoken(GENERIC, USER, replace(CALL, content="I look."), RESULT, second, USER, ANSWER) == [
        ("user", "Hi?"), ("assistant", f"I look.\n{call}"), ("user", f"{results}\nHi?"), ("assistant", "Ho."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "qwen3",
        "gpt-oss",
        "gemma-4",
        "mistral-nemo",
        "deepseek-v3.1",
        "r1-distill",
        "granite-3.3",
        "ministral-3-reasoning",
    ],
)
@pytest.mark.parametrize("content", [None, "", "Let me look."])
def test_every_template_shows_a_call_and_its_result(name: str, content: str | None) -> None:
    """Whatever it wants of ids, of arguments and of the content beside a call: OpenAI's clients send only theirs."""
    call = ToolCall("call_0a1b2c3d4e5f6a7b8c9d0e1f", "look_up", '{"place": "Köln", "deep": {"n": [1, 2]}}')
    asked = Message(Role.ASSISTANT, content, tool_calls=(call,), reasoning="hm")
    found = Message(Role.TOOL, "It rains.", tool_call_id=call.id)
    template = ChatTemplate(published(name), TOKENS)
    told = Conversation(template).messages([USER, asked, found])
    text = template.render(told, tools=None, kwargs={})
    assert all(part in text for part in ("look_up", "Köln", "It rains."))
    assert "{'" not in text


def test_ids_that_a_template_refuses_are_replaced_alike() -> None:
    """A call's and its result's stay the same, and those that it takes are kept."""
    calls = (ToolCall("call_0a1b2c3d4e5f6a7b8c9d0e1f", "f", "{}"), ToolCall("abc123def", "g", "{}"))
    results = [Message(Role.TOOL, "1", tool_call_id=call.id) for call in calls]
    told = conversation(published("mistral-nemo")).messages(
        [USER, Message(Role.ASSISTANT, None, tool_calls=calls), *results]
    )
    made = [call["id"] for call in told[1]["tool_calls"]]  # type: ignore[attr-defined]
    assert [message["tool_call_id"] for message in told[2:]] == made
    assert (len(made[0]), made[0].isalnum(), made[1]) == (9, True, "abc123def")


def test_arguments_are_text_where_the_template_joins_them() -> None:
    """A template that adds them to a string gets JSON text, one that prints them as JSON a mapping."""
    joins = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name + c.function.arguments }}"
        "{% endfor %}{{ m.content }}{% endfor %}"
    )
    for source, kind in ((joins, str), (joins.replace(" + ", " ~ "), str), (published("qwen3"), dict)):
        [message] = conversation(source).messages([CALL])
        assert isinstance(message["tool_calls"][0]["function"]["arguments"], kind)  # type: ignore[index]


def test_words_beside_calls_come_before_them_where_they_would_hide_them() -> None:
    """R1's template shows the calls of a message only if it says nothing."""
    told = conversation(published("r1-distill")).messages([USER, replace(CALL, content="I look."), RESULT])
    assert [(message["content"], "tool_calls" in message) for message in told] == [
        ("Hi?", False), ("I look.", False), (None, True), ("42", False),
    ]  # fmt: skip


def test_reasoning_is_left_out_where_it_may_not_stand_beside_a_text() -> None:
    """GPT-OSS' template takes one of the two beside calls."""
    [said] = conversation(published("gpt-oss")).messages([replace(CALL, content="I look.", reasoning="hm")])
    assert (said["content"], "thinking" in said) == ("I look.", False)


LOOK = Tool("look", "Looks.", '{"type": "object", "x": 1}')


@pytest.mark.parametrize("messages", [[USER], [SYSTEM, USER], [DEVELOPER, SYSTEM, USER, ANSWER, USER]])
def test_a_template_without_tools_has_them_in_its_system_text(messages: list[Message]) -> None:
    """After the instructions that there are, or in the user's message where the template takes none."""
    for source, role in ((GENERIC, "system"), (NO_SYSTEM, "user"), (published("r1-distill"), "system")):
        made = conversation(source)
        assert made.tools([LOOK]) is None
        told = made.messages(messages, [LOOK])
        assert told[0]["role"] == role
        content = str(told[0]["content"])
        assert '"name": "look"' in content
        assert "<tool_call>" in content
        assert "Be brief." not in content or content.index("Be brief.") < content.index("look")


def test_calls_are_said_as_the_system_text_asks_for_them() -> None:
    """Even where the template knows calls of another kind."""
    told = conversation(published("r1-distill")).messages([USER, CALL, RESULT], [LOOK])
    assert [message["role"] for message in told] == ["system", "user", "assistant", "user"]
    assert "<tool_call>" in str(told[2]["content"])


def test_a_template_that_shows_tools_gets_no_system_text() -> None:
    """It says what it wants to say of them."""
    assert [message["role"] for message in conversation(published("qwen3")).messages([USER], [LOOK])] == ["user"]


def test_a_result_names_its_function() -> None:
    """Clients leave the name to the id; a name that is there is kept."""
    named = replace(RESULT, name="mine")
    told = conversation(published("qwen3")).messages([USER, CALL, RESULT, named])
    assert [message.get("name") for message in told] == [None, None, "look", "mine"]


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


BROKEN = ["{", "nope", "[1]", '"x"', "[" * 2_000, '{"a": NaN}', '{"city": "Par']
"""What a model may have written and a client sends back."""
ITEMS = "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}{% endfor %}{{ m.content }}{% endfor %}"  # noqa: E501


@pytest.mark.parametrize("name", ["qwen3", "gpt-oss", "ministral-3-reasoning", "gemma-4", "qwq", "r1-distill"])
@pytest.mark.parametrize("text", BROKEN)
def test_arguments_that_a_model_broke_are_shown_to_it(name: str, text: str) -> None:
    """As the text that they are; some templates write it as a JSON string."""
    bad = Message(Role.ASSISTANT, None, tool_calls=(ToolCall("abc123def", "f", text),))
    template = ChatTemplate(published(name), TOKENS)
    shown = template.render(
        conversation(published(name)).messages([USER, bad, replace(RESULT, tool_call_id="abc123def")]),
        tools=None,
        kwargs={},
    )
    assert text in shown or json.dumps(text) in shown


@pytest.mark.parametrize("text", BROKEN)
def test_arguments_that_a_model_broke_are_an_argument_where_a_template_takes_no_text(text: str) -> None:
    """Which is better than a refusal."""
    bad = Message(Role.ASSISTANT, None, tool_calls=(ToolCall("c", "f", text),))
    shown = ChatTemplate(ITEMS, TOKENS).render(conversation(ITEMS).messages([USER, bad]), tools=None, kwargs={})
    assert f"farguments={text}" in shown


def test_arguments_that_a_model_broke_may_be_said_as_text() -> None:
    """Where the template knows no calls."""
    calls = (ToolCall("c", "f", '{"a'), ToolCall("c", "g", "{}"))
    [said] = conversation(GENERIC).messages([Message(Role.ASSISTANT, None, tool_calls=calls)])
    assert '{"name": "f", "arguments": "{\\"a"}' in str(said["content"])
    assert '{"name": "g", "arguments": {}}' in str(said["content"])


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_a_schema_that_is_no_json_is_refused(text: str) -> None:
    """A tool's parameters must be JSON, and are named by their path."""
    with pytest.raises(InvalidField) as caught:
        conversation(published("qwen3")).tools([Tool("a", "", "{}"), Tool("b", "", text)])
    assert caught.value.field == "tools[1].parameters_json"


@pytest.mark.parametrize(
    ("name", "messages", "refused"),
    [
        ("gemma-4", [USER, RESULT], 1),
        ("gemma-4", [SYSTEM, USER, CALL, replace(RESULT, tool_call_id="c2")], 3),
        ("gemma-4", [USER, CALL, RESULT, replace(RESULT, tool_call_id="c2")], 3),
        ("gemma-4", [USER, CALL, replace(RESULT, tool_call_id="c2", name="look")], None),
        ("gemma-4", [USER, CALL, RESULT], None),
        ("gemma-4", [USER, RESULT, CALL], 1),
        ("gpt-oss", [USER, RESULT], 1),
        ("gpt-oss", [USER, CALL, replace(RESULT, tool_call_id="c2")], None),
        ("qwen3", [USER, RESULT], None),
        ("qwen3", [USER, CALL, replace(RESULT, tool_call_id="c2")], None),
        ("phi-4", [USER, RESULT], None),
    ],
)
def test_a_result_whose_call_is_missing_is_named_where_the_template_needs_it(
    name: str, messages: list[Message], refused: int | None
) -> None:
    """Only there; all that is taken shows."""
    template = ChatTemplate(published(name), TOKENS)
    spoken = Conversation(template)
    if refused is None:
        assert "42" in template.render(spoken.messages(messages), tools=None, kwargs={})
    else:
        with pytest.raises(InvalidField) as raised:
            spoken.messages(messages)
        assert raised.value.field == f"messages[{refused}].tool_call_id"
