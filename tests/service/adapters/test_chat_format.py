"""Tests of what family and model come to."""

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from msgspec import structs

from service.adapters.base import THINK, ModelAdapter
from service.adapters.chat_format import ChatFormat
from service.adapters.chatml import CHATML
from service.adapters.deepseek import DEEPSEEK_R1
from service.adapters.default import DEFAULT
from service.adapters.gemma import GEMMA4
from service.adapters.gpt_oss import GPT_OSS
from service.adapters.granite import GRANITE
from service.adapters.llama import LLAMA3
from service.adapters.mistral import MISTRAL
from service.engine.frames import Thinking
from service.errors import InvalidField, NoChatTemplate, SetupError, UnsupportedField
from service.text.answer import AnswerForm
from service.text.parser import Parser
from service.text.pieces import CallText, Ended, Text
from service.text.tokenizer import Tokenizer
from service.text.tools.syntax import ToolSyntax
from service.types import (
    Constraint,
    Effort,
    FinishReason,
    Message,
    Reasoning,
    Role,
    Rule,
    Stopping,
    Tool,
    ToolMode,
    ToolUse,
)
from tests.service.adapters.families import CONVERSATION, TOKENS, USER, chat_format, published
from tests.service.text.grammars import drawn, favourites, problem
from tests.service.text.tokenizers import HARMONY, byte_fallback, byte_level
from tests.service.text.tools.formats import SYNTAXES

NO_TOOLS = ToolUse()


def without_think() -> Tokenizer:
    """A tokenizer that knows no reasoning markers."""
    inner = type(byte_level()._inner)(byte_level()._inner.model)
    inner.pre_tokenizer, inner.decoder = byte_level()._inner.pre_tokenizer, byte_level()._inner.decoder
    return Tokenizer(inner)


def syntax_of(name: str) -> ToolSyntax:
    """Return a format of calls by its name."""
    [found] = [syntax for syntax in SYNTAXES if syntax.name == name]
    return found


def names(made: ChatFormat, tokenizer: Tokenizer) -> set[str | None]:
    return {tokenizer.token(number) for number in made.stop_ids}


def test_the_models_own_template_wins() -> None:
    """The family's template is used only where the model brings none."""
    assert chat_format(CHATML, "own").render([USER]).text == "own"
    assert chat_format(CHATML).render([USER]).text == "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n"


def test_an_empty_template_is_the_models_own() -> None:
    """A model that says that there is nothing to add is believed."""
    assert chat_format(CHATML, "").render([USER]).ids == []


def test_no_template_at_all_is_told_with_the_models_name() -> None:
    """A model without one can only continue text."""
    with pytest.raises(NoChatTemplate, match="tiny"):
        chat_format(DEFAULT).render([USER])


def test_a_broken_template_is_a_setup_error() -> None:
    """It is told when the model is set up."""
    with pytest.raises(SetupError):
        chat_format(CHATML, "{% if")


def test_stop_ids_are_the_models_and_the_familys_and_the_end_of_sequence() -> None:
    """All of them end an answer; tokens that the vocabulary lacks are left out."""
    tokenizer = byte_level("<|eot_id|>")
    made = ChatFormat.of(LLAMA3, tokenizer, chat_template=None, special_tokens=TOKENS, stop_ids=[7])
    assert names(made, tokenizer) == {tokenizer.token(7), "<|eot_id|>", "</s>"}
    bare = ChatFormat.of(LLAMA3, tokenizer, chat_template=None, special_tokens={}, stop_ids=[7])
    assert names(bare, tokenizer) == {tokenizer.token(7), "<|eot_id|>"}


def test_the_prompt_is_encoded_with_its_special_tokens_and_no_others() -> None:
    """What the template writes is all there is: no second beginning of sequence."""
    rendered = chat_format(CHATML, "{{ bos_token }}<|im_start|>a").render([USER])
    assert [byte_level().token(number) for number in rendered.ids] == ["<s>", "<|im_start|>", "a"]


def test_a_conversation_that_ends_with_the_assistant_gets_a_generation_prompt() -> None:
    """The model answers anew."""
    text = chat_format(CHATML, published("qwen3")).render([USER, Message(Role.ASSISTANT, "Ho.")]).text
    assert text.endswith("Ho.<|im_end|>\n<|im_start|>assistant\n")


def test_kwargs_reach_the_template() -> None:
    """Variables of the request are the template's."""
    assert chat_format(CHATML, "{{ level }}").render([USER], kwargs={"level": "x"}).text == "x"
    with pytest.raises(InvalidField, match=r"chat_template_kwargs\.tools"):
        chat_format(CHATML, "x").render([USER], kwargs={"tools": []})


def test_tools_reach_every_template() -> None:
    """Those that show tools, and those that do not, through their system text."""
    tool = Tool("look", "Looks.", "")
    assert '"name": "look"' in chat_format(CHATML, published("qwen3")).render([USER], tools=[tool]).text
    assert "<|im_start|>system\nYou have these tools" in chat_format(CHATML).render([USER], tools=[tool]).text


@pytest.mark.parametrize(
    ("adapter", "template", "name"),
    [
        (CHATML, "qwen3", "hermes"),
        (CHATML, None, "hermes"),
        (GPT_OSS, "gpt-oss", "harmony"),
        (GPT_OSS, None, "hermes"),
        (GRANITE, "granite-3.3", "granite"),
        (MISTRAL, "mistral-nemo", "mistral"),
        (MISTRAL, "mistral-7b-v0.2", "hermes"),
        (DEEPSEEK_R1, "r1-distill", "hermes"),
        (GEMMA4, "gemma-4", "gemma4"),
    ],
)
def test_calls_are_written_as_the_template_has_them(adapter: ModelAdapter, template: str | None, name: str) -> None:
    """In the family's format where the template shows tools, else in that of the system text."""
    made = chat_format(adapter, template and published(template))
    assert made.syntax is syntax_of(name)


@pytest.mark.parametrize(
    ("template", "kwargs", "is_open"),
    [
        ("qwen3", {}, False),
        ("qwen3", {"enable_thinking": False}, False),
        ("qwq", {}, True),
        ("r1-distill", {}, True),
        ("deepseek-v3.1", {"thinking": True}, True),
        ("deepseek-v3.1", {}, False),
        ("granite-3.3", {"thinking": True}, False),
    ],
)
def test_a_template_may_open_the_reasoning(template: str, kwargs: dict[str, object], is_open: bool) -> None:
    """The prompt is in reasoning when it ends with the marker, and not when it was closed at once."""
    assert chat_format(CHATML, published(template)).render([USER], kwargs=kwargs).reasoning_open is is_open


def test_a_model_that_knows_no_markers_has_no_markup() -> None:
    """Markup needs each marker in the vocabulary or the template; harmony is always there."""

    def markup(adapter: object, source: str | None) -> object:
        made = ChatFormat.of(
            adapter,  # type: ignore[arg-type]
            without_think(),
            chat_template=source,
            special_tokens={},
            stop_ids=[],
        )
        return made.markup

    assert markup(CHATML, None) is None
    assert markup(CHATML, "<think>") is None
    assert markup(CHATML, "<think> </think>") is THINK
    assert markup(GPT_OSS, None) is GPT_OSS.markup
    assert markup(GRANITE, published("granite-3.3")) is GRANITE.markup
    assert markup(GRANITE, "<think> </think>") is THINK
    assert markup(MISTRAL, "<think> </think>") is THINK
    assert chat_format(CHATML).markup is THINK
    assert chat_format(MISTRAL).markup is MISTRAL.markup


def test_a_rendering_without_markup_is_never_open() -> None:
    """A model without markup writes the marker as text."""
    made = ChatFormat.of(CHATML, without_think(), chat_template="<think>", special_tokens={}, stop_ids=[])
    assert not made.render([USER]).reasoning_open


def test_harmony_never_stops_at_the_end_of_a_message() -> None:
    """GPT-OSS ends messages, of which an answer has several, with a token that is no stop token."""
    tokenizer = byte_level(*HARMONY)
    made = ChatFormat.of(GPT_OSS, tokenizer, chat_template=None, special_tokens={}, stop_ids=[])
    assert names(made, tokenizer) == {"<|return|>", "<|call|>"}


def test_a_sentencepiece_model_renders_too() -> None:
    """The ids are those of the rendered text."""
    tokenizer = byte_fallback()
    made = ChatFormat.of(MISTRAL, tokenizer, chat_template=None, special_tokens=TOKENS, stop_ids=[])
    rendered = made.render(CONVERSATION)
    assert rendered.text == "<s>[INST] Be brief.\n\nHi? [/INST] Ho.</s>[INST] And? [/INST]"
    assert rendered.ids == tokenizer.encode(rendered.text, add_special=False)
    assert rendered.ids[0] == tokenizer.token_id("<s>")


QWEN3, HARMONY_TEMPLATE = published("qwen3"), published("gpt-oss")
SCHEMA = Constraint(Rule.JSON_SCHEMA, '{"type": "object"}')
WEATHER = Tool("weather", "", '{"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}')
CLOCK = Tool("clock", "", '{"type": "object", "properties": {"zone": {"enum": ["utc"]}}, "required": ["zone"]}')
BOTH = (WEATHER, CLOCK)


def form(made: ChatFormat, use: ToolUse = NO_TOOLS, **asked: Any) -> AnswerForm:
    """Render a question and say how it is answered."""
    rendering = {name: asked[name] for name in ("kwargs", "reasoning") if name in asked}
    chat = made.render([USER], tools=use.shown, **rendering)
    return made.answer(chat, use=use, **asked)


def test_nothing_asked_for_is_nothing_held() -> None:
    """No grammar, no bound and no search for calls."""
    made = chat_format(CHATML, QWEN3)
    assert form(made) == AnswerForm(made.markup)


@pytest.mark.parametrize(
    ("reasoning", "kwargs", "shown", "budget"),
    [
        (Reasoning(), {}, True, None),
        (Reasoning(Effort.NONE), {}, False, 0),
        (Reasoning(Effort.HIGH), {}, True, None),
        (Reasoning(Effort.NONE, budget=5), {}, False, 0),
        (Reasoning(budget=5), {}, True, 5),
        (Reasoning(Effort.NONE), {"enable_thinking": True}, True, None),
        (Reasoning(Effort.HIGH), {"enable_thinking": False}, False, None),
        (Reasoning(Effort.HIGH, budget=5), {"enable_thinking": False}, False, 5),
    ],
)
def test_effort_is_told_to_the_template_and_none_is_kept(
    reasoning: Reasoning, kwargs: dict[str, object], shown: bool, budget: int | None
) -> None:
    """The template's switch follows it, unless the request sets it; none and a budget bind the engine."""
    made = chat_format(CHATML, QWEN3)
    rendered = made.render([USER], reasoning=reasoning, kwargs=kwargs)
    assert ("<think>\\n\\n</think>" not in rendered.text.replace("\n", "\\n")) is shown
    thinking = form(made, reasoning=reasoning, kwargs=kwargs).thinking
    assert (thinking and thinking.budget) == budget


def test_a_template_that_always_thinks_can_be_stopped() -> None:
    """It has no switch, and leaves the reasoning open; a budget of nothing ends it at once."""
    made = chat_format(CHATML, published("qwq"))
    answer = form(made, reasoning=Reasoning(Effort.NONE))
    tokenizer = byte_level()
    assert answer.thinking is not None
    assert tokenizer.encode("\n", add_special=False)[0] in answer.thinking.blanks
    assert structs.replace(answer.thinking, blanks=[]) == Thinking(
        budget=0,
        opening=tokenizer.encode("<think>", add_special=False),
        closing=tokenizer.encode("</think>", add_special=False),
        ending=tokenizer.encode("\n</think>\n\n", add_special=False),
        is_open=True,
    )


def test_harmony_is_ended_as_it_writes() -> None:
    """After the reasoning comes the header of an answer in words, or with tools the beginning of any message."""
    made = chat_format(GPT_OSS, HARMONY_TEMPLATE, *HARMONY)
    tokenizer = byte_level(*HARMONY)
    rendered = made.render([USER], reasoning=Reasoning(Effort.NONE))
    assert "Reasoning: low" in rendered.text
    for use, ending in (
        (NO_TOOLS, "<|end|><|start|>assistant<|channel|>final<|message|>"),
        (ToolUse(BOTH, ToolMode.AUTO), "<|end|><|start|>assistant"),
    ):
        thinking = form(made, use, reasoning=Reasoning(budget=3)).thinking
        assert thinking is not None
        assert tokenizer.decode(thinking.ending, skip_special=False) == ending


@pytest.mark.parametrize(("reasoning", "field"), [(Reasoning(budget=5), "budget"), (Reasoning(Effort.NONE), "effort")])
def test_a_bound_that_cannot_be_kept_is_refused(reasoning: Reasoning, field: str) -> None:
    """Markers that are several tokens cannot be counted from; nothing is ignored."""
    made = ChatFormat.of(
        CHATML,
        without_think(),
        chat_template="{{ messages[0].content }}<think> </think>",
        special_tokens={},
        stop_ids=[],
    )
    with pytest.raises(UnsupportedField) as caught:
        form(made, reasoning=reasoning)
    assert caught.value.field == f"reasoning.{field}"


def test_a_model_that_never_thinks_takes_any_bound() -> None:
    """It keeps it anyway."""
    made = ChatFormat.of(CHATML, without_think(), chat_template="x", special_tokens={}, stop_ids=[])
    assert form(made, reasoning=Reasoning(Effort.NONE, budget=0)) == AnswerForm()


MODELS = {
    "qwen3": (CHATML, "qwen3", (), "<think>\nhm\n</think>\n\n"),
    "qwq": (CHATML, "qwq", (), "hm\n</think>\n\n"),
    "fallback": (CHATML, None, (), ""),
    "gpt-oss": (GPT_OSS, "gpt-oss", tuple(HARMONY), "<|channel|>analysis<|message|>hm<|end|><|start|>assistant"),
    "gpt-oss without tools": (
        GPT_OSS,
        None,
        tuple(HARMONY),
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant",
    ),
    "granite": (GRANITE, "granite-3.3", ("<|tool_call|>",), "<think>hm</think>"),
    "mistral": (MISTRAL, "mistral-nemo", ("[TOOL_CALLS]",), "[THINK]hm[/THINK]"),
    "gemma4": (GEMMA4, "gemma-4", ("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", '<|"|>'), ""),
    "llama": (
        LLAMA3,
        "{% if tools %}{{ tools | tojson }}{% endif %}{{ messages[0].content }}",
        ("<|python_tag|>",),
        "",
    ),
}
USES = {
    "required": (ToolUse(BOTH, ToolMode.REQUIRED), None),
    "one": (ToolUse(BOTH, ToolMode.REQUIRED, parallel=False), None),
    "named": (ToolUse(BOTH, ToolMode.FUNCTION, "clock"), None),
    "or a schema": (ToolUse(BOTH, ToolMode.AUTO), SCHEMA),
    "strict": (ToolUse(tuple(replace(tool, strict=True) for tool in BOTH), ToolMode.AUTO), None),
}


def read(answer: AnswerForm, tokenizer: Tokenizer, ids: list[int]) -> tuple[list[tuple[str, str]], str, FinishReason]:
    """Read an output: its calls with their arguments, its text, and how it ended."""
    assert answer.calls
    parser = Parser(
        tokenizer,
        Stopping(),
        answer.markup,
        reasoning_open=answer.reasoning_open,
        calls=answer.calls.syntax.reader(answer.calls.tools),
        parallel=answer.calls.several,
    )
    pieces = [*parser.feed(ids), *parser.end(FinishReason.STOP)]
    calls: list[tuple[str, str]] = []
    for piece in pieces:
        if isinstance(piece, CallText):
            if piece.name:
                calls.append((piece.name, ""))
            calls[-1] = (calls[-1][0], calls[-1][1] + piece.arguments)
    assert isinstance(pieces[-1], Ended)
    return calls, "".join(piece.text for piece in pieces if isinstance(piece, Text)), pieces[-1].reason


@pytest.mark.parametrize("kind", USES)
@pytest.mark.parametrize("name", MODELS)
def test_calls_that_are_enforced_are_read_as_calls(name: str, kind: str) -> None:
    """Whatever the model and its markers: names are those of the tools, and arguments hold to their schemas."""
    adapter, template, special, thought = MODELS[name]
    source = template if template is None or "{%" in template else published(template)
    made, tokenizer = chat_format(adapter, source, *special), byte_level(*special)
    use, constraint = USES[kind]
    answer = form(made, use, constraint=constraint)
    assert answer.grammar
    assert problem(answer.grammar.text, tokenizer) == ""
    liked = favourites(tokenizer, "</think>", "[/THINK]", *special)
    read_calls = 0
    for seed in range(4):
        first = tokenizer.encode(thought * (seed % 2), add_special=False)
        ids, complete = drawn(answer.grammar.text, tokenizer, seed, favoured=liked, first=first, most=200)
        if not complete:
            continue
        calls, text, reason = read(answer, tokenizer, ids)
        read_calls += len(calls)
        for called, arguments in calls:
            [tool] = [tool for tool in use.callable if tool.name == called]
            jsonschema.validate(json.loads(arguments), json.loads(tool.parameters))
        if use.is_forced:
            assert calls
            assert (text.strip(), reason) == ("", FinishReason.TOOL_CALLS)
            assert use.several or len(calls) == 1
        elif constraint and not calls:
            assert isinstance(json.loads(text), dict)
    assert read_calls or not use.is_forced


def test_a_tool_that_cannot_be_enforced_is_named() -> None:
    """By its place in the request, where the engine says in which line of the grammar the fault is."""
    bad = Tool("bad", "", '{"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=a)"}}}')
    made = chat_format(CHATML, QWEN3)
    use = ToolUse((WEATHER, bad, CLOCK), ToolMode.REQUIRED)
    answer = form(made, use)
    assert answer.grammar
    line = int(problem(answer.grammar.text, byte_level()).removeprefix("at ").partition("(")[0])
    refusal = answer.grammar.refusal(f"line {line}, column 3: look-around is not supported")
    assert (refusal.field, refusal.reason) == (
        "tools[1].parameters_json", "cannot be enforced: look-around is not supported",
    )  # fmt: skip
    assert answer.grammar.refusal("it is too large").field == "tools"
    named = form(made, replace(use, mode=ToolMode.FUNCTION, name="bad"))
    assert named.grammar
    assert named.grammar.refusal("it is too large").field == "tools[1].parameters_json"


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (Constraint(Rule.REGEX, "\\n+[a-z]+"), "\nyes"),
        (Constraint(Rule.GRAMMAR, 'start: "\\n" "yes"'), "\nyes"),
        (Constraint(Rule.CHOICE, options=("\nyes", "no")), "\nyes"),
        (Constraint(Rule.CHOICE, options=("yes", "no")), "yes"),
    ],
)
def test_an_answer_that_begins_with_a_newline_keeps_it(constraint: Constraint, text: str) -> None:
    """What stands between it and the reasoning is not taken for it, nor it for that."""
    answer = form(chat_format(CHATML, QWEN3), constraint=constraint)
    assert answer.grammar is not None
    tokenizer = byte_level()
    first = tokenizer.encode(f"<think>\nhm\n</think>\n\n{text}", add_special=False)
    assert drawn(answer.grammar.text, tokenizer, 0, first=first, most=len(first)) == (first, True)
    parser = Parser(tokenizer, Stopping(), answer.markup)
    pieces = parser.feed(first) + parser.end(FinishReason.STOP)
    assert "".join(piece.text for piece in pieces if isinstance(piece, Text)) == text
