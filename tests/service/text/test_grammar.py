"""Grammars of whole outputs: llguidance takes them, and what they let through is read as what was asked for."""

import json
import re

import jsonschema
import pytest

from service.adapters.base import THINK
from service.adapters.gemma import GEMMA4
from service.adapters.gpt_oss import GPT_OSS
from service.adapters.granite import GRANITE
from service.engine.grammar import explained
from service.text.grammar import Lead, may_begin_with_newline, of_constraint
from service.text.markup import Markup, think
from service.text.outline import Outline
from service.text.parser import Parser
from service.text.pieces import Piece, ReasoningText, Text
from service.text.tokenizer import Tokenizer
from service.types import Constraint, FinishReason, Rule, Stopping
from tests.service.text.grammars import drawn, favourites, problem
from tests.service.text.tokenizers import HARMONY, byte_fallback, byte_level

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "tags": {"type": "array", "items": {"enum": ["a", "b/c", "</think>", "é"]}, "maxItems": 3},
        "n": {"$ref": "#/$defs/n"},
    },
    "required": ["name", "n"],
    "additionalProperties": False,
    "$defs": {"n": {"type": "integer", "minimum": -5, "maximum": 70}},
}
GIVEN = 'start: greeting " " NAME\ngreeting: "hi" | "ho"\nNAME: /[a-z]{1,5}/'
CONSTRAINTS = {
    "schema": Constraint(Rule.JSON_SCHEMA, json.dumps(SCHEMA)),
    "object": Constraint(Rule.JSON_OBJECT),
    "regex": Constraint(Rule.REGEX, r"^(https?://[a-z/]{1,9}|[\t\\/]{2})$"),
    "grammar": Constraint(Rule.GRAMMAR, GIVEN),
    "choice": Constraint(Rule.CHOICE, options=("yes", 'yes "and" no\n', "日本\x7f\\")),
    "newlines": Constraint(Rule.REGEX, r"\n{1,3}[a-z]{1,3}\n"),
}
PLAIN = think("<musing>", "</musing>")
"""Markers that are no tokens of any tokenizer here."""
BRACKETS = think("[THINK]", "[/THINK]")
"""Added tokens that are not special, and that llguidance takes for plain text."""
GEMMA = ("<|channel>", "<channel|>")
SPECIAL = ("<special>", "</special>")
LEADS: dict[str, tuple[Markup | None, tuple[str, ...], bool, bool]] = {
    "no markup": (None, (), False, False),
    "may": (THINK, (), False, True),
    "open": (THINK, (), True, True),
    "must not": (THINK, (), False, False),
    "special may": (think(*SPECIAL), SPECIAL, False, True),
    "special open": (think(*SPECIAL), SPECIAL, True, True),
    "brackets may": (BRACKETS, (), False, True),
    "brackets open": (BRACKETS, (), True, True),
    "plain may": (PLAIN, (), False, True),
    "plain open": (PLAIN, (), True, True),
    "gemma": (GEMMA4.markup, GEMMA, False, True),
    "granite": (GRANITE.markup, (), False, True),
    "granite must not": (GRANITE.markup, (), False, False),
    "granite open": (GRANITE.markup, (), True, True),
    "harmony": (GPT_OSS.markup, tuple(HARMONY), False, True),
    "harmony must not": (GPT_OSS.markup, tuple(HARMONY), False, False),
    "harmony open": (GPT_OSS.markup, tuple(HARMONY), True, True),
    "harmony in plain text": (GPT_OSS.markup, (), False, True),
}
"""A markup, the special tokens of its model, whether the prompt ends inside reasoning, and whether it may begin."""


def lead_of(name: str, *, is_exact: bool = False) -> tuple[Lead | None, Tokenizer]:
    markup, special, is_open, may_reason = LEADS[name]
    lead = Lead(Outline.of(markup), is_open, may_reason, is_exact) if markup else None
    return lead, byte_level(*special)


def read(ids: list[int], tokenizer: Tokenizer, lead: Lead | None) -> list[Piece]:
    """Read an output to its end."""
    parser = Parser(
        tokenizer, Stopping(), lead.markup if lead else None, reasoning_open=lead is not None and lead.is_open
    )
    return parser.feed(ids) + parser.end(FinishReason.STOP)


def texts(pieces: list[Piece]) -> tuple[str, str]:
    """Reasoning and answer."""
    thought = "".join(piece.text for piece in pieces if isinstance(piece, ReasoningText))
    return thought, "".join(piece.text for piece in pieces if isinstance(piece, Text))


def check(name: str, text: str) -> None:
    """Fail unless a text is what a constraint asks for."""
    constraint = CONSTRAINTS[name]
    match constraint.rule:
        case Rule.JSON_SCHEMA:
            jsonschema.validate(json.loads(text), SCHEMA)
        case Rule.JSON_OBJECT:
            assert isinstance(json.loads(text), dict)
        case Rule.REGEX:
            assert re.fullmatch(constraint.text, text)
        case Rule.GRAMMAR:
            assert re.fullmatch("h[io] [a-z]{1,5}", text)
        case Rule.CHOICE:
            assert text in constraint.options


def marks(lead: Lead | None, tokenizer: Tokenizer) -> set[int]:
    """Tokens that bring an output to its end, those of its markers first."""
    if lead is None:
        return favourites(tokenizer)
    outline = lead.outline
    written = outline.opening + outline.closing + outline.turn + outline.header + outline.wrapper
    return favourites(
        tokenizer, *(tokenizer.token(part) or "" for part in tokenizer.encode(written, add_special=False))
    )


THOUGHTS = {
    "may": "<think>\nhm\n</think>\n\n",
    "open": "hm\n</think>\n\n",
    "special may": "<special>hm</special>",
    "brackets may": "[THINK]hm[/THINK]",
    "plain may": "<musing>\nhm\n</musing>\n\n",
    "plain open": "hm < </musing </musing>\n",
    "gemma": "<|channel>thought\nhm\n<channel|>",
    "granite": "<think>hm</think>\n<response>",
    "harmony": "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>",
    "harmony open": "hm<|end|><|start|>assistant<|channel|>final<|message|>",
    "harmony in plain text": "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>",
}


@pytest.mark.parametrize("rule", CONSTRAINTS)
@pytest.mark.parametrize("name", LEADS)
def test_whatever_comes_out_is_read_as_what_was_asked_for(name: str, rule: str) -> None:
    """Whatever the markers, the answer is the constrained text and nothing else, unless the output was cut."""
    lead, tokenizer = lead_of(name, is_exact=may_begin_with_newline(CONSTRAINTS[rule]))
    grammar = of_constraint(CONSTRAINTS[rule], tokenizer, lead)
    assert problem(grammar.text, tokenizer) == ""
    whole = 0
    for seed in range(6):
        # Every second one begins with what a model of the family would think.
        first = tokenizer.encode(THOUGHTS.get(name, "") * (seed % 2), add_special=False)
        ids, complete = drawn(grammar.text, tokenizer, seed, favoured=marks(lead, tokenizer), first=first, most=200)
        if complete:
            whole += 1
            check(rule, texts(read(ids, tokenizer, lead))[1])
    assert whole > 1


@pytest.mark.parametrize("name", THOUGHTS)
def test_what_a_model_thinks_first_is_let_through(name: str) -> None:
    """As its family writes it, and the answer comes behind it."""
    lead, tokenizer = lead_of(name)
    grammar = of_constraint(CONSTRAINTS["choice"], tokenizer, lead)
    first = tokenizer.encode(THOUGHTS[name] + "yes", add_special=False)
    ids, complete = drawn(grammar.text, tokenizer, 0, first=first, most=len(first))
    thought, answer = texts(read(ids, tokenizer, lead))
    assert (thought.replace(" < </musing ", ""), answer, complete) == ("hm", "yes", True)


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("may", "<think>hm\n</think>\n\n\nyes"),
        ("may", "\nyes"),
        ("open", "hm</think>\n\n\nyes"),
        ("brackets open", "hm[/THINK]\nyes"),
        ("granite", "<think>hm</think>\n\n\nyes"),
        ("granite", "<think>hm</think>\n<response>\nyes"),
        ("granite", "<response>\nyes"),
        ("gemma", "<|channel>thought\nhm\n<channel|>\nyes"),
        ("harmony", "<|channel|>final<|message|>\nyes"),
        ("harmony open", "hm<|end|><|start|>assistant<|channel|>final<|message|>\nyes"),
    ],
)
def test_newlines_that_an_answer_begins_with_are_kept(name: str, output: str) -> None:
    """Between it and the reasoning are as many as the family writes, and no more are taken for those."""
    lead, tokenizer = lead_of(name, is_exact=True)
    constraint = Constraint(Rule.CHOICE, options=("\nyes", "\n\n\nno"))
    assert may_begin_with_newline(constraint)
    grammar = of_constraint(constraint, tokenizer, lead)
    first = tokenizer.encode(output, add_special=False)
    ids, complete = drawn(grammar.text, tokenizer, 0, first=first, most=len(first))
    thought, answer = texts(read(ids, tokenizer, lead))
    assert (thought, answer, complete) == ("hm" if "hm" in output else "", "\nyes", True)


@pytest.mark.parametrize("rule", ["schema", "object", "choice"])
def test_most_answers_begin_with_no_newline(rule: str) -> None:
    """So that a model may write as many before them as it likes to."""
    assert not may_begin_with_newline(CONSTRAINTS[rule])


@pytest.mark.parametrize("name", ["may", "special may", "granite", "plain may", "gemma", "no markup"])
def test_an_answer_may_come_at_once(name: str) -> None:
    """A model need not think."""
    lead, tokenizer = lead_of(name)
    grammar = of_constraint(CONSTRAINTS["choice"], tokenizer, lead)
    first = tokenizer.encode("yes", add_special=False)
    ids, complete = drawn(grammar.text, tokenizer, 0, first=first, most=len(first))
    assert (texts(read(ids, tokenizer, lead)), complete) == (("", "yes"), True)


@pytest.mark.parametrize(("name", "text"), [("must not", "<think>"), ("harmony must not", "<|channel|>analysis")])
def test_a_model_that_must_not_think_cannot(name: str, text: str) -> None:
    """Its markers are not let through."""
    lead, tokenizer = lead_of(name)
    grammar = of_constraint(CONSTRAINTS["choice"], tokenizer, lead)
    with pytest.raises(AssertionError):
        drawn(grammar.text, tokenizer, 0, first=tokenizer.encode(text, add_special=False))


def test_a_marker_that_is_spelled_out_does_not_end_the_grammars_reasoning() -> None:
    """The text of a marker in other tokens would be read as the marker; it is not let through."""
    lead, tokenizer = lead_of("open")
    grammar = of_constraint(CONSTRAINTS["choice"], tokenizer, lead)
    spelled = [number for part in ("</", "think", ">") for number in tokenizer.encode(part, add_special=False)]
    with pytest.raises(AssertionError):
        drawn(grammar.text, tokenizer, 0, first=spelled)


def test_a_sentencepiece_model_is_held_too() -> None:
    """Its tokens are bytes and pieces."""
    tokenizer = byte_fallback()
    grammar = of_constraint(CONSTRAINTS["schema"], tokenizer, Lead(Outline.of(THINK), False, True))
    ids, complete = drawn(grammar.text, tokenizer, 3, favoured=favourites(tokenizer, "</think>"))
    assert complete
    check("schema", texts(read(ids, tokenizer, Lead(Outline.of(THINK), False, True)))[1])


def test_blanks_in_json_are_bounded() -> None:
    """A model cannot write blanks for ever, and printed JSON is let through."""
    tokenizer = byte_level()
    grammar = of_constraint(Constraint(Rule.JSON_SCHEMA, json.dumps(SCHEMA)), tokenizer)
    printed = json.dumps({"name": "x", "tags": ["a", "é"], "n": 3}, indent=4, ensure_ascii=False)
    first = tokenizer.encode(printed, add_special=False)
    assert drawn(grammar.text, tokenizer, 0, first=first, most=len(first))[1]
    blanks = tokenizer.encode("{" + " " * 3, add_special=False)
    with pytest.raises(AssertionError):
        drawn(grammar.text, tokenizer, 0, first=blanks)


@pytest.mark.parametrize(
    ("own", "text", "taken"),
    [
        ({"whitespace_flexible": False}, '{"n":3}', True),
        ({"whitespace_flexible": False}, '{"n": 3}', False),
        ({"whitespace_pattern": " {0,5}"}, '{    "n":3}', True),
        ({"coerce_one_of": True}, '{"n": 3}', True),
        ({"coerce_one_of": True}, '{    "n":3}', False),
    ],
)
def test_a_schemas_own_options_win(own: dict[str, object], text: str, taken: bool) -> None:
    """Those for blanks replace ours, the others stand beside them."""
    tokenizer = byte_level()
    schema = {"x-guidance": own, "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    grammar = of_constraint(Constraint(Rule.JSON_SCHEMA, json.dumps(schema)), tokenizer)
    first = tokenizer.encode(text, add_special=False)
    if taken:
        drawn(grammar.text, tokenizer, 0, first=first, most=len(first))
    else:
        with pytest.raises(AssertionError):
            drawn(grammar.text, tokenizer, 0, first=first)


@pytest.mark.parametrize(
    ("constraint", "field"),
    [
        (Constraint(Rule.JSON_SCHEMA, '{"type": "nonsense"}'), "constraint.json_schema"),
        (Constraint(Rule.JSON_SCHEMA, "false"), "constraint.json_schema"),
        (Constraint(Rule.REGEX, "(a"), "constraint.regex"),
        (Constraint(Rule.GRAMMAR, "start: nothing"), "constraint.grammar"),
        (Constraint(Rule.GRAMMAR, '{"grammars": []}'), "constraint.grammar"),
    ],
)
def test_what_cannot_be_compiled_is_blamed_on_its_field(constraint: Constraint, field: str) -> None:
    """The compiler's complaint leads to the field that brought it."""
    grammar = of_constraint(constraint, byte_level())
    complaint = explained(problem(grammar.text, byte_level()))
    assert complaint
    refusal = grammar.refusal(complaint)
    assert refusal.field == field
    assert ("line 1" in refusal.reason) is (constraint.rule is Rule.GRAMMAR)


def test_a_schema_that_takes_anything_is_one() -> None:
    """The schema true lets any JSON through."""
    tokenizer = byte_level()
    grammar = of_constraint(Constraint(Rule.JSON_SCHEMA, "true"), tokenizer)
    for text in ("[1, null]", '"a"', '{"a": {}}'):
        first = tokenizer.encode(text, add_special=False)
        assert drawn(grammar.text, tokenizer, 0, first=first, most=len(first))[1]
