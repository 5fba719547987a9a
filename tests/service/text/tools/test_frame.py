"""Tests that what the grammars of all formats let through is what their readers find, with arguments that validate."""

import json
import random
import re
from functools import cache

import jsonschema
import numpy as np
import pytest
from llguidance import LLMatcher, LLTokenizer

from service.text.tokenizer import Tokenizer
from service.text.tools.hermes import HERMES
from service.text.tools.syntax import Literal, ToolSyntax
from service.types import Tool
from tests.service.text.tokenizers import byte_level
from tests.service.text.tools.formats import SYNTAXES, Call, folded, read

SCHEMAS: dict[str, object] = {
    "plain": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 6},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
    },
    "without_type": {
        "properties": {'ü "quoted" key': {"enum": ["ä", 'a "b"', None, 1.5]}},
        "required": ['ü "quoted" key'],
        "additionalProperties": False,
        "description": 'it\'s "quoted" }{ and <|special|>',
    },
    "with-references": {
        "$ref": "#/$defs/Trip",
        "$defs": {
            "Trip": {
                "type": "object",
                "properties": {"from": {"$ref": "#/$defs/City"}, "to": {"$ref": "#/$defs/City"}},
                "required": ["from", "to"],
                "additionalProperties": False,
            },
            "City": {"type": "string", "enum": ["Köln", "Rome", "日本"]},
        },
    },
    "alternatives": {
        "anyOf": [
            {"properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False},
            {"properties": {"b": {"type": "null"}}, "required": ["b"], "additionalProperties": False},
        ]
    },
    "notes": {
        "type": ["object", "null"],
        "properties": {"format": {"type": "string", "format": "zip-code", "maxLength": 3}},
        "required": ["format"],
        "additionalProperties": False,
    },
    "nothing": {"type": "object", "properties": {}, "additionalProperties": False},
    "anything": {},
}
TOOLS = tuple(Tool(name, 'a "tool" }', json.dumps(schema), strict=True) for name, schema in SCHEMAS.items())
OPENED = {
    "llama": ("", '{"name": "plain"'),
    "llama4": ("", '{"name": "plain"'),
    "harmony": ("", "<|channel|>commentary to="),
}
"""What an answer says, and what opens a call after it, where that is not the format's marker after any text."""
CLOSING = {b'"', b"}", b"]"}
HEADERS = {"harmony": "<|channel|>final<|message|>"}
"""What an answer without calls begins with."""
EMPTY = Tool("empty", "", "")


def tokenizer_of(syntax: ToolSyntax, special: bool) -> Tokenizer:
    """Return one whose markers are special tokens, or one that writes them as text."""
    markers = tuple(sorted(marker for marker in syntax.literals if re.fullmatch(r"[<\[].*[>\]]", marker)))
    return byte_level(*markers) if special else byte_level()


@cache
def matching(tokenizer: Tokenizer) -> LLTokenizer:
    """Return the tokenizer as the grammars' library knows it."""
    return LLTokenizer(tokenizer._inner.to_str(), eos_token=tokenizer.token_id("</s>"))


def literal_of(tokenizer: Tokenizer) -> Literal:
    """Return what writes markers for a tokenizer."""
    specials = sorted(tokenizer._specials, key=len, reverse=True)
    pattern = re.compile("(" + "|".join(map(re.escape, specials)) + ")")

    def literal(text: str) -> str:
        parts = [part for part in pattern.split(text) if part]
        return " ".join(f"<[{tokenizer.token_id(part)}]>" if part in specials else json.dumps(part) for part in parts)

    return literal


def written(tokenizer: Tokenizer, grammar: str, seed: int, begins: str = "", most: int = 400) -> tuple[list[int], bool]:
    """Draw tokens at random among those allowed, likelier such as bring the end near; say whether it was reached.

    The first are those of `begins`.
    """
    draw = random.Random(seed)
    matcher = LLMatcher(matching(tokenizer), grammar)
    end = tokenizer.token_id("</s>")
    tokens = tokenizer.encode(begins, add_special=False)
    assert matcher.consume_tokens(tokens), matcher.get_error()
    while not matcher.is_stopped() and len(tokens) < most:
        allowed = [int(number) for number in np.nonzero(np.frombuffer(matcher.compute_logit_bias(), np.uint8))[0]]
        closing = [
            number for number in allowed if tokenizer.bytes_of[number][:1] in {b'"', b"}", b"]"} or number == end
        ]
        token = draw.choice(closing if closing and draw.random() < 0.4 else allowed)
        if token == end:
            break
        assert matcher.consume_token(token), matcher.get_error()
        tokens.append(token)
    assert not matcher.is_error(), matcher.get_error()
    return tokens, matcher.is_accepting()


def called(
    syntax: ToolSyntax, tokenizer: Tokenizer, tokens: list[int], tools: tuple[Tool, ...]
) -> tuple[str, list[Call]]:
    """Read back what was drawn, and check each call's arguments."""
    text = tokenizer.decode(tokens, skip_special=False)
    around, calls = folded(read(syntax, [text], tools))
    schemas = {tool.name: json.loads(tool.parameters or "{}") for tool in tools}
    for call in calls:
        arguments = json.loads(call.arguments)
        assert isinstance(arguments, dict)
        jsonschema.validate(arguments, schemas[call.name])
    return around, calls


every_syntax = pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
special_or_not = pytest.mark.parametrize("special", [True, False], ids=["special", "text"])


@every_syntax
@special_or_not
@pytest.mark.parametrize("parallel", [True, False], ids=["parallel", "one"])
def test_forced_calls_are_read_back(syntax: ToolSyntax, special: bool, parallel: bool) -> None:
    """Whatever a model is made to write, it is calls of the tools, one if there may not be several."""
    tokenizer = tokenizer_of(syntax, special)
    rules = syntax.forced((*TOOLS, EMPTY), parallel=parallel, literal=literal_of(tokenizer))
    grammar = LLMatcher.grammar_from_lark("start: calls\n" + rules)
    assert LLMatcher.validate_grammar(grammar, matching(tokenizer)) == ""
    names, finished = set[str](), 0
    for seed in range(8):
        tokens, complete = written(tokenizer, grammar, seed)
        if not complete:
            continue
        around, calls = called(syntax, tokenizer, tokens, (*TOOLS, EMPTY))
        assert around == ""
        assert len(calls) >= 1 if parallel else len(calls) == 1
        names |= {call.name for call in calls}
        finished += 1
    assert finished >= 4
    assert len(names) > 2


@every_syntax
@special_or_not
@pytest.mark.parametrize("parallel", [True, False], ids=["parallel", "one"])
def test_opened_calls_are_held_to_their_schemas(syntax: ToolSyntax, special: bool, parallel: bool) -> None:
    """Text is free until a marker opens a call; what follows is a call of a tool, after which text is free again."""
    tokenizer = tokenizer_of(syntax, special)
    rules = syntax.triggered(TOOLS, parallel=parallel, literal=literal_of(tokenizer))
    grammar = LLMatcher.grammar_from_lark("start: answer\n" + rules)
    assert LLMatcher.validate_grammar(grammar, matching(tokenizer)) == ""
    says, opening = OPENED.get(syntax.name, ("It's <b> [1]", "".join(syntax.openings[:1])))
    finished = 0
    for seed in range(8):
        tokens, complete = written(tokenizer, grammar, seed, says + opening)
        if complete:
            around, calls = called(syntax, tokenizer, tokens, TOOLS)
            assert around.startswith(says)
            assert len(calls) >= 1 if parallel else len(calls) == 1
            finished += 1
    assert finished >= 2


@every_syntax
@special_or_not
def test_an_answer_without_calls_is_free(syntax: ToolSyntax, special: bool) -> None:
    """A grammar for automatic calls lets any text through, with brackets and beginnings of markers in it."""
    tokenizer = tokenizer_of(syntax, special)
    rules = syntax.triggered(TOOLS, parallel=True, literal=literal_of(tokenizer))
    matcher = LLMatcher(matching(tokenizer), LLMatcher.grammar_from_lark("start: answer\n" + rules))
    text = HEADERS.get(syntax.name, "") + 'a <b> {"x": [1]} <tool <|tool_ca [TOOL and 日本 \n\n'
    assert matcher.consume_tokens(tokenizer.encode(text, add_special=False)), matcher.get_error()
    assert matcher.is_accepting()


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lax"])
def test_only_strict_tools_are_held_to_their_schemas(strict: bool) -> None:
    """Automatic calls of other tools may have any object as arguments."""
    tokenizer = byte_level()
    tool = Tool("t", "", json.dumps(SCHEMAS["plain"]), strict=strict)
    rules = HERMES.triggered((tool,), parallel=True, literal=literal_of(tokenizer))
    matcher = LLMatcher(matching(tokenizer), LLMatcher.grammar_from_lark("start: answer\n" + rules))
    call = '<tool_call>\n{"name": "t", "arguments": {"other": [1]}}\n</tool_call>'
    tokens = tokenizer.encode(call, add_special=False)
    assert (matcher.validate_tokens(tokens) == len(tokens)) is not strict
