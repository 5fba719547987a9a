"""The grammar of a whole output: reasoning that may come first, then an answer that is held to something, or calls."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from service.errors import MAX_QUOTED, InvalidField
from service.text import lark
from service.text.markup import Markup
from service.text.outline import Outline
from service.text.tokenizer import Tokenizer
from service.text.tools.syntax import ToolSyntax
from service.types import Constraint, Rule, ToolUse

_ARGUMENTS = re.compile(r"tool_arguments_(\d+):")
"""How ToolSyntax names the rule of a tool's arguments, by its place among those that may be called."""
_PLACE = re.compile(r"line (\d+), column \d+: ")
"""How the engine tells where in a grammar a fault is."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar in llguidance's words, and the field of the request that is its source.

    `lines` are the fields that brought single lines of its Lark text, by their numbers. `is_own`: the caller wrote the
    text in which faults are, and knows its lines.
    """

    text: str
    source: str
    lines: Mapping[int, str] = field(default_factory=dict)
    is_own: bool = False

    def refusal(self, error: str) -> InvalidField:
        """Blame the engine's `error` on the field that it is about."""
        place = _PLACE.match(error)
        blamed = self.lines.get(int(place[1]), self.source) if place else self.source
        reason = error if self.is_own or not place else error[place.end() :]
        return InvalidField(blamed, f"cannot be enforced: {reason[:MAX_QUOTED]}")


@dataclass(frozen=True, slots=True)
class Lead:
    """What may come before the answer.

    `is_open`: the prompt ends inside reasoning. `may_reason`: the model may begin it by itself. `is_exact`: so many
    newlines are between reasoning and answer as the family writes, so that those of an answer are told from them.
    """

    outline: Outline
    is_open: bool
    may_reason: bool
    is_exact: bool = False

    @property
    def markup(self) -> Markup:
        """How an output that is held to a grammar is read."""
        return self.outline.for_answers(may_reason=self.may_reason or self.is_open, exact=self.is_exact)


def may_begin_with_newline(constraint: Constraint) -> bool:
    """Whether an answer held to a constraint may, as far as is easily told."""
    if constraint.rule is Rule.CHOICE:
        return any(option.startswith("\n") for option in constraint.options)
    return constraint.rule in {Rule.REGEX, Rule.GRAMMAR}


def of_constraint(constraint: Constraint, tokenizer: Tokenizer, lead: Lead | None = None) -> Grammar:
    """Hold the answer to a constraint."""
    return _composed(tokenizer, lead, {_ANSWER: _answer(constraint)}, constraint)


def of_calls(
    use: ToolUse,
    syntax: ToolSyntax,
    tokenizer: Tokenizer,
    lead: Lead | None = None,
    constraint: Constraint | None = None,
) -> Grammar:
    """Hold the answer to calls of the tools, or to a constraint, if there is one."""
    forced = syntax.forced(use.callable, parallel=use.several, literal=partial(lark.literal, tokenizer))
    calls = _Part("calls", own_header=_writes_headers(syntax, lead))
    if constraint is None:
        return _composed(tokenizer, lead, {calls: forced}, None, use)
    return _composed(tokenizer, lead, {_ANSWER: _answer(constraint), calls: forced}, constraint, use)


def of_strict_tools(use: ToolUse, syntax: ToolSyntax, tokenizer: Tokenizer, lead: Lead | None = None) -> Grammar:
    """Hold the calls in an answer that is free otherwise to the tools, and to the schemas of those that are strict."""
    rules = syntax.triggered(use.callable, parallel=use.several, literal=partial(lark.literal, tokenizer))
    answer = _Part("answer", own_header=_writes_headers(syntax, lead))
    return _composed(tokenizer, lead, {answer: rules}, None, use)


@dataclass(frozen=True, slots=True)
class _Part:
    """A rule that may follow the lead; `own_header`: it begins with the header of its message, if there is one."""

    rule: str
    own_header: bool = False


_ANSWER = _Part("answer")


def _writes_headers(syntax: ToolSyntax, lead: Lead | None) -> bool:
    """Whether the rules of a format begin with the headers of messages, which its calls are told by."""
    return lead is not None and any(lead.outline.header.startswith(opening) for opening in syntax.openings)


def _answer(constraint: Constraint) -> str:
    match constraint.rule:
        case Rule.JSON_SCHEMA:
            body = lark.json_text(json.loads(constraint.text))
        case Rule.JSON_OBJECT:
            body = lark.json_text({"type": "object"})
        case Rule.REGEX:
            body = lark.pattern(constraint.text)
        case Rule.CHOICE:
            body = " | ".join(map(lark.quoted, constraint.options))
        case Rule.GRAMMAR:
            body = "@given"
    return f"answer: {body}"


def _composed(
    tokenizer: Tokenizer,
    lead: Lead | None,
    parts: Mapping[_Part, str],
    constraint: Constraint | None,
    use: ToolUse | None = None,
) -> Grammar:
    """Put one of `parts`, given with their rules, behind what may come first."""
    either = f"start: {' | '.join(part.rule for part in parts)}"
    text = "\n".join([*(_lead(tokenizer, lead, list(parts)) if lead else [either]), *parts.values()])
    by_line = _tools_by_line(text, use) if use else {}
    if constraint is None:
        # One tool alone is to blame wherever the fault is.
        return Grammar(text, next(iter(by_line.values())) if len(by_line) == 1 else "tools", by_line)
    source = f"constraint.{constraint.rule.value}"
    if constraint.rule is not Rule.GRAMMAR:
        return Grammar(text, source, by_line)
    grammars = [{"lark_grammar": text}, {"name": "given", "lark_grammar": constraint.text}]
    return Grammar(json.dumps({"grammars": grammars}, ensure_ascii=False), source, is_own=True)


def _lead(tokenizer: Tokenizer, lead: Lead, parts: Sequence[_Part]) -> list[str]:
    """Rules for the texts before an answer in words and calls."""
    outline, literal = lead.outline, partial(lark.literal, tokenizer)
    header = literal(outline.header) if outline.header else ""
    wrapper = literal(outline.wrapper) if outline.wrapper else ""
    newlines = "LEAD_NEWLINES?"

    def first(part: _Part) -> str:
        if header:
            return "" if part.own_header else header
        return f"({wrapper} {'' if lead.is_exact else newlines})?" if wrapper and part == _ANSWER else ""

    def later(part: _Part) -> str:
        if outline.turn:
            return f"{literal(outline.turn)} {first(part)}"
        if not lead.is_exact or part != _ANSWER:
            return f"{newlines} {first(part)}"
        gap = lark.quoted(outline.gap)
        return f"({gap} | {newlines} {wrapper})" if wrapper else gap if outline.gap else ""

    rules = [f"lead_first: {_either(first, parts)}", r"LEAD_NEWLINES: /\n{1,2}/"]
    if not (lead.is_open or lead.may_reason):
        return ["start: lead_first", *rules]
    rules += [f"lead_later: {_either(later, parts)}", *_reasoning(tokenizer, outline)]
    opened = "lead_reasoning lead_later"
    start = opened if lead.is_open else f"{literal(outline.opening)} {opened} | lead_first"
    return [f"start: {start}", *rules]


def _either(before: Callable[[_Part], str], parts: Sequence[_Part]) -> str:
    """One of the parts, each behind what comes before it."""
    return " | ".join(f"{before(part)} {part.rule}" for part in parts)


def _reasoning(tokenizer: Tokenizer, outline: Outline) -> list[str]:
    """Rules for a text and the marker that ends it."""
    if outline.closing not in tokenizer:
        return [f"lead_reasoning[lazy]: {lark.up_to(outline.closing)}"]
    # The marker may also be spelled in other tokens, and would be read as one.
    return [
        f"lead_reasoning: LEAD_THOUGHTS {lark.literal(tokenizer, outline.closing)}",
        f"LEAD_THOUGHTS: {lark.without(*outline.ends)}",
    ]


def _tools_by_line(text: str, use: ToolUse) -> dict[int, str]:
    """Fields of the tools whose schemas stand in a line of the grammar, by the line's number."""
    places = {tool.name: place for place, tool in enumerate(use.tools)}
    return {
        number: f"tools[{places[use.callable[int(found[1])].name]}].parameters_json"
        for number, line in enumerate(text.split("\n"), start=1)
        if (found := _ARGUMENTS.match(line))
    }
