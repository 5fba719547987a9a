"""Structured output from random weights: whatever is drawn is what was asked for, over both ways."""

import asyncio
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from grpc import StatusCode, aio

from tests import calls
from tests.e2e.seen import CHAT, TEXT, Json, Refused, Said, Seen, ask, call, stream

CASES: list[Json] = json.loads(Path(__file__).with_name("schemas.json").read_text(encoding="utf-8"))
"""Schemas, each with what its shape is taken from. Those that are `open` have strings without an end."""
QUESTION = [{"role": "user", "content": "Draw."}]
DRAWN: Json = {"model": "tiny", "temperature": 1, "seed": 1, "max_tokens": 1000, "thinking_budget": 0}
"""Random weights would begin to think anywhere, and know no end of it."""
WIRED: Json = {"model": "tiny", "text": "Draw.", "sampling": {"temperature": 1, "seed": 1}}
OBJECT: Json = {
    "type": "object",
    "properties": {"yes": {"type": "boolean"}},
    "required": ["yes"],
    "additionalProperties": False,
}
DIGITS = "[0-9]{3}-(a|b)+é?"
ANIMALS = ["cat", "catfish", "a dog\nand a cat", "\N{CAT FACE}"]
BALANCED = 'start: "(" start* ")"'
PAIR = 'start: NAME ": " NUMBER\nNAME: /[a-z]{2,6}/\nNUMBER: /0|[1-9][0-9]{0,3}/'


@dataclass(frozen=True)
class Rule:
    """A constraint as the wire has it, the fields of HTTP that say it, and what a whole answer must match."""

    wire: Json
    http: tuple[Json, ...]
    accepts: Any


def is_balanced(text: str) -> bool:
    """Whether it is one pair of parentheses with others in it."""
    while "()" in text[1:-1]:
        text = text[0] + text[1:-1].replace("()", "") + text[-1]
    return text == "()"


def is_object(text: str) -> bool:
    """Whether it is a JSON object."""
    return isinstance(json.loads(text), dict)


def is_yes(text: str) -> bool:
    """Whether it is the object that OBJECT describes."""
    return set(json.loads(text)) == {"yes"} and isinstance(json.loads(text)["yes"], bool)


def matches(pattern: str) -> Any:
    """Make a test for a whole text."""
    return lambda text: re.fullmatch(pattern, text) is not None


RULES = {
    "schema": Rule(
        {"jsonSchema": json.dumps(OBJECT)},
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "yes", "schema": OBJECT}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "y", "strict": True, "schema": OBJECT},
                }
            },
            {"guided_json": OBJECT},
            {"guided_json": json.dumps(OBJECT)},
            {"structured_outputs": {"json": OBJECT}},
            {"structured_outputs": {"json": json.dumps(OBJECT)}},
        ),
        is_yes,
    ),
    "object": Rule(
        {"jsonObject": True},
        ({"response_format": {"type": "json_object"}}, {"structured_outputs": {"json_object": True}}),
        is_object,
    ),
    "regex": Rule(
        {"regex": DIGITS},
        (
            {"response_format": {"type": "regex", "regex": DIGITS}},
            {"guided_regex": DIGITS},
            {"structured_outputs": {"regex": DIGITS}},
            {"regex": DIGITS},
        ),
        matches(DIGITS),
    ),
    "choice": Rule(
        {"choice": {"options": ANIMALS}},
        (
            {"response_format": {"type": "choice", "choice": ANIMALS}},
            {"guided_choice": ANIMALS},
            {"structured_outputs": {"choice": ANIMALS}},
        ),
        ANIMALS.__contains__,
    ),
    "grammar": Rule(
        {"grammar": PAIR},
        (
            {"response_format": {"type": "grammar", "grammar": PAIR}},
            {"guided_grammar": PAIR},
            {"structured_outputs": {"grammar": PAIR}},
        ),
        matches("[a-z]{2,6}: (0|[1-9][0-9]{0,3})"),
    ),
    "recursive grammar": Rule({"grammar": BALANCED}, ({"guided_grammar": BALANCED},), is_balanced),
}
WORDED = [(name, fields) for name, rule in RULES.items() for fields in rule.http]

BROKEN_SCHEMAS: dict[str, Any] = {
    "unknown type": {"type": "strin"},
    "type of a number": {"type": 5},
    "properties of a list": {"type": "object", "properties": []},
    "missing reference": {"$ref": "#/$defs/missing"},
    "reference to the web": {"$ref": "http://example.com/schema.json"},
    "broken pattern": {"type": "string", "pattern": "("},
    "pattern that looks ahead": {"type": "string", "pattern": "a(?=b)"},
    "nothing fits": {"type": "integer", "minimum": 5, "maximum": 1},
    "never": {"type": "object", "properties": {"a": False}, "required": ["a"]},
    "broken part": {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "strin"}}}},
    "unsupported keyword": {"not": {"type": "integer"}},
}
HOSTILE_SCHEMAS: dict[str, Any] = {
    "itself": {"$ref": "#"},
    "a circle": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "very long strings": {"type": "string", "minLength": 10**8},
    "very many items": {"type": "array", "items": {"type": "integer"}, "minItems": 10**6, "maxItems": 10**7},
    "huge enum": {"enum": [f"value {number}" for number in range(8_000)]},
    "huge object": {
        "type": "object",
        "properties": {f"p{number}": {"type": "integer"} for number in range(2_000)},
        "additionalProperties": False,
    },
    "powers of patterns": {"type": "string", "pattern": "^((((a{1,99}){1,99}){1,99}){1,99}){1,99}$"},
    "wide pattern": {"type": "string", "pattern": "^(.*[a-z]){500}$"},
    "product of choices": {
        "allOf": [
            {"anyOf": [{"type": "object", "properties": {f"{a}{b}": {"enum": [a, b]}}} for b in range(12)]}
            for a in range(12)
        ]
    },
    "deep": json.loads('{"items":' * 60 + '{"type":"null"}' + "}" * 60),
}
BROKEN_RULES: list[tuple[Json, str, Json, str]] = [
    ({"jsonSchema": "{"}, "constraint.json_schema", {"guided_json": "{"}, "guided_json"),
    (
        {"jsonSchema": "[1]"},
        "constraint.json_schema",
        {"structured_outputs": {"json": "[1]"}},
        "structured_outputs.json",
    ),
    ({"regex": "("}, "constraint.regex", {"guided_regex": "("}, "guided_regex"),
    ({"regex": "a(?!b)"}, "constraint.regex", {"regex": "a(?!b)"}, "regex"),
    ({"regex": ""}, "constraint.regex", {"structured_outputs": {"regex": ""}}, "structured_outputs.regex"),
    ({"regex": "a" * 70_000}, "constraint.regex", {"guided_regex": "a" * 70_000}, "guided_regex"),
    ({"grammar": "start: nothing"}, "constraint.grammar", {"guided_grammar": "start: nothing"}, "guided_grammar"),
    ({"grammar": "start ="}, "constraint.grammar", {"guided_grammar": "start ="}, "guided_grammar"),
    ({"grammar": "other: /a/"}, "constraint.grammar", {"guided_grammar": "other: /a/"}, "guided_grammar"),
    (
        {"grammar": ""},
        "constraint.grammar",
        {"response_format": {"type": "grammar", "grammar": ""}},
        "response_format",
    ),
    ({"choice": {}}, "constraint.choice.options", {"guided_choice": []}, "guided_choice"),
    (
        {"choice": {"options": ["a", ""]}},
        "constraint.choice.options[1]",
        {"response_format": {"type": "choice", "choice": ["a", ""]}},
        "response_format",
    ),
    ({"jsonObject": False}, "constraint.json_object", {"response_format": {"type": "xml"}}, "response_format.type"),
    ({}, "constraint.rule", {"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
]
ANSWER_S = 20
"""In which each request, however hostile, must be answered or refused."""
GAP_S = 3
"""The longest that a stream may stand still beside them, on a machine that does much else."""


def check(said: Said, schema: Any) -> bool:
    """Check that a whole answer validates; whether it is whole."""
    if said.finish == "length":
        return False
    jsonschema.validate(json.loads(said.text), schema, format_checker=jsonschema.FormatChecker())
    return True


def named(case: Json) -> Json:
    """Say a case's schema as OpenAI's API does."""
    return {"type": "json_schema", "json_schema": {"name": "drawn", "strict": True, "schema": case["schema"]}}


def test_there_are_fifty_schemas() -> None:
    """Each is a schema of its own, that jsonschema takes for one."""
    assert len({json.dumps(case["schema"]) for case in CASES}) == len({case["name"] for case in CASES}) == 50
    for case in CASES:
        jsonschema.Draft202012Validator.check_schema(case["schema"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_random_weights_obey_a_schema(taught: httpx.AsyncClient, taught_channel: aio.Channel, case: Json) -> None:
    """Each choice that is not cut validates, most are not, and none is cut for ever."""
    body = DRAWN | {"messages": QUESTION, "response_format": named(case), "n": 3}
    wire = WIRED | {"constraint": {"jsonSchema": json.dumps(case["schema"])}, "n": 3, "stopping": {"maxTokens": 1000}}
    answers = await asyncio.gather(ask(taught, CHAT, body), call(taught_channel, wire))
    whole = [check(said, case["schema"]) for answer in answers for said in answer.said]
    assert sum(whole) >= (1 if "open" in case else 3)


@pytest.mark.parametrize(("name", "fields"), WORDED, ids=str)
@pytest.mark.parametrize("path", [CHAT, TEXT])
async def test_a_rule_is_enforced_by_each_of_its_names(
    taught: httpx.AsyncClient, path: str, name: str, fields: Json
) -> None:
    """All choices that are not cut are what the rule says, streamed and not."""
    prompt = {"messages": QUESTION} if path == CHAT else {"prompt": "Draw."}
    answer = await stream(taught, path, DRAWN | prompt | fields | {"n": 3, "max_tokens": 400})
    ended = [said.text for said in answer.said if said.finish == "stop"]
    assert ended or name in {"object", "recursive grammar"}
    assert all(RULES[name].accepts(text) for text in ended)


@pytest.mark.parametrize("name", RULES)
async def test_a_rule_is_enforced_over_grpc(taught_channel: aio.Channel, name: str) -> None:
    """Both calls hold to it, drawn and greedy."""
    rule = RULES[name]
    stopping = {"maxTokens": 400}
    chat = {"messages": [{"role": "ROLE_USER", "content": [{"text": "Draw."}]}], "reasoning": {"budget": 0}}
    request = {"model": "tiny", "constraint": rule.wire, "stopping": stopping}
    drawn = {"sampling": {"temperature": 1, "seed": 3}, "n": 3}
    greedy = {"sampling": {"temperature": 0}}
    answers = await asyncio.gather(
        *(
            call(taught_channel, request | prompt | sampling)
            for prompt in (chat, {"text": "Draw."})
            for sampling in (drawn, greedy)
        )
    )
    ended = [said.text for answer in answers for said in answer.said if said.finish == "stop"]
    assert ended or name in {"object", "recursive grammar"}
    assert all(rule.accepts(text) for text in ended)


async def test_a_rule_that_lets_nothing_follow_ends_the_choice(taught_channel: aio.Channel) -> None:
    """No token is spent on saying that it is over, and none can be forced to follow."""
    request = WIRED | {"constraint": {"choice": {"options": ["aaaa"]}}, "stopping": {"minTokens": 50}}
    seen = await call(taught_channel, request | {"output": {"tokenIds": True}})
    assert (seen.one.text, seen.one.finish) == ("aaaa", "stop")
    assert seen.completion_tokens == len(seen.one.ids) <= 4


async def test_a_cut_answer_is_a_beginning(taught: httpx.AsyncClient) -> None:
    """What max_tokens cuts is what the whole answer begins with, and it says so."""
    body = DRAWN | {"messages": QUESTION, "response_format": named({"schema": OBJECT})}
    whole = await ask(taught, CHAT, body)
    cut = await ask(taught, CHAT, body | {"max_tokens": 3})
    assert cut.one.finish == "length"
    assert whole.one.text.startswith(cut.one.text)


async def test_each_row_has_a_rule_of_its_own(taught: httpx.AsyncClient) -> None:
    """Rows of one batch with different rules, and free ones among them, are what each is alone."""
    bodies = [
        DRAWN | {"messages": QUESTION, "max_tokens": 200} | fields
        for fields in ({}, *(rule.http[0] for rule in RULES.values()), {"temperature": 0})
    ]
    alone = [await ask(taught, CHAT, body) for body in bodies]
    together = await asyncio.gather(*(ask(taught, CHAT, body) for body in bodies))
    assert list(together) == alone


class Beside:
    """A stream that runs while others are refused, and what became of it."""

    def __init__(self, channel: aio.Channel) -> None:
        self._running = calls.call(channel, calls.text_request("Go on.", stopping=calls.ENDLESS))
        self.longest_gap = 0.0
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        clock = asyncio.get_running_loop().time
        last = None
        async for event in self._running:
            now = clock()
            if last is not None:
                self.longest_gap = max(self.longest_gap, now - last)
            last = now if event.HasField("text") else last

    async def ends_well(self) -> None:
        """Check that it ran to here without standing still, and end it."""
        assert not self._task.done()
        self._running.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        assert self._running.cancelled()
        assert await self._running.code() is StatusCode.CANCELLED
        assert 0 < self.longest_gap < GAP_S


@pytest.mark.parametrize("name", BROKEN_SCHEMAS)
async def test_a_broken_schema_is_refused_by_name(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, name: str
) -> None:
    """It is a 400 that names the field, with words that are no internals."""
    schema = BROKEN_SCHEMAS[name]
    requests = (
        ask(taught, CHAT, DRAWN | {"messages": QUESTION, "response_format": named({"schema": schema})}),
        stream(taught, TEXT, DRAWN | {"prompt": "Draw.", "guided_json": schema}),
        call(taught_channel, WIRED | {"constraint": {"jsonSchema": json.dumps(schema)}}),
    )
    answers = await asyncio.gather(*requests, return_exceptions=True)
    told = [(answer.error.status, answer.error.field) for answer in answers if isinstance(answer, Refused)]
    assert told == [(400, "response_format"), (400, "guided_json"), (3, "constraint.json_schema")]
    assert all("llguidance" not in str(answer) and ".rs" not in str(answer) for answer in answers)


@pytest.mark.parametrize(("rule", "path", "fields", "param"), BROKEN_RULES, ids=lambda value: str(value)[:60])
async def test_a_broken_rule_is_refused_by_name(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, rule: Json, path: str, fields: Json, param: str
) -> None:
    """It is a 400 that names the field as the client sent it."""
    answers = await asyncio.gather(
        ask(taught, CHAT, DRAWN | {"messages": QUESTION} | fields),
        call(taught_channel, WIRED | {"constraint": rule}),
        return_exceptions=True,
    )
    told = [(answer.error.status, answer.error.field) for answer in answers if isinstance(answer, Refused)]
    assert told == [(400, param), (3, path)]


@pytest.mark.parametrize("name", HOSTILE_SCHEMAS)
async def test_a_hostile_schema_harms_nobody(taught: httpx.AsyncClient, taught_channel: aio.Channel, name: str) -> None:
    """It is refused by name or enforced, in a bounded time, while another stream goes on."""
    beside = Beside(taught_channel)
    body = DRAWN | {"messages": QUESTION, "response_format": named({"schema": HOSTILE_SCHEMAS[name]}), "max_tokens": 8}
    (seen,) = await asyncio.gather(asyncio.wait_for(ask(taught, CHAT, body), ANSWER_S), return_exceptions=True)
    if isinstance(seen, Seen):
        assert seen.completion_tokens <= 8
    else:
        assert isinstance(seen, Refused)
        assert (seen.error.status, seen.error.field) == (400, "response_format")
    free = await ask(taught, CHAT, {"model": "tiny", "messages": QUESTION, "max_tokens": 4})
    assert free.completion_tokens <= 4
    await beside.ends_well()


async def test_broken_rules_beside_a_stream(taught: httpx.AsyncClient, taught_channel: aio.Channel) -> None:
    """All of them at once disturb nobody."""
    beside = Beside(taught_channel)
    refused = await asyncio.gather(
        *(ask(taught, CHAT, DRAWN | {"messages": QUESTION} | fields) for _, _, fields, _ in BROKEN_RULES),
        return_exceptions=True,
    )
    assert all(isinstance(answer, Refused) for answer in refused)
    await beside.ends_well()


@pytest.mark.parametrize("second", [{"guided_regex": "a"}, {"guided_choice": ["a"]}, {"regex": "a"}], ids=str)
async def test_two_rules_at_once_are_refused(taught: httpx.AsyncClient, second: Json) -> None:
    """An answer cannot be held to both, so none is ignored."""
    body = DRAWN | {"messages": QUESTION, "response_format": {"type": "json_object"}} | second
    with pytest.raises(Refused) as refused:
        await ask(taught, CHAT, body)
    assert (refused.value.error.status, refused.value.error.field) == (400, next(iter(second)))
