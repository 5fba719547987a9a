"""Grammars that take too much, each of which ends a process of its own and nothing else."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.engine.grammar import InvalidGrammar
from service.engine.guard import Guard


@pytest.fixture(scope="module")
def guard(tokenizer_file: Path, end: int) -> Iterator[Guard]:
    """Give a guard that is used for all tests of this file."""
    made = Guard(tokenizer_file, [end])
    yield made
    made.stop()


def of_schema(schema: dict[str, Any]) -> str:
    return f"start: %json {json.dumps(schema)}"


def chain(length: int) -> str:
    """Make rules each of which is the next one."""
    rules = "\n".join(f"r{place}: r{place + 1}" for place in range(length))
    return f'start: r0\n{rules}\nr{length}: "a"'


HOSTILE = {
    "intersected lengths": "start: A\nA: " + " & ".join(f"/(.{{{p}}})*/" for p in (7, 11, 13, 17, 19, 23, 29)),
    "intersected multiples": of_schema(
        {"allOf": [{"type": "integer", "multipleOf": p} for p in (7, 11, 13, 17, 19, 23)]}
    ),
    "repeated repetitions": "start: /(a{1000}){1000}/",
    "exponential schema": of_schema(
        {
            "allOf": [
                {"anyOf": [{"properties": {f"p{i}_{j}": {"type": "integer"}}} for j in range(4)]} for i in range(10)
            ]
        }
    ),
    "doubling terminals": "start: T0\n" + "\n".join(f"T{i}: T{i + 1} T{i + 1}" for i in range(30)) + '\nT30: "c"',
    "doubling rules": "start: r0\n" + "\n".join(f"r{i}: r{i + 1} r{i + 1}" for i in range(30)) + '\nr30: "c"',
    "long literal": "start: /" + "abcdefghij" * 40_000 + "/",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_grammar_is_refused(guard: Guard, kind: str) -> None:
    """With words for its author; a good one after it is tried as if nothing had been."""
    start = time.monotonic()
    with pytest.raises(InvalidGrammar, match=r"too (large|complex|long|many)|too much memory"):
        guard.check(HOSTILE[kind])
    assert time.monotonic() - start < 60
    assert guard.check('start: "a"') > 0


@pytest.mark.parametrize(
    "text",
    [
        chain(20_000),
        of_schema({"type": "string", "minLength": 10**9}),
        of_schema({"type": "array", "items": {"type": "integer"}, "minItems": 10**9}),
        of_schema({"enum": [f"value {place}" for place in range(10_000)]}),
        of_schema({"type": "object", "properties": {f"p{place}": {"type": "string"} for place in range(1000)}}),
        of_schema({"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"a": {"$ref": "#/$defs/n"}}}}}),
    ],
    ids=["deep", "long string", "long array", "large enum", "many properties", "recursive"],
)
def test_what_is_merely_large_is_good(guard: Guard, text: str) -> None:
    """It takes memory, which is told."""
    assert guard.check(text) > 0


def test_a_child_that_crashes_is_a_refusal(tokenizer_file: Path, end: int) -> None:
    """With a stack too small for it, as any may be, a chain of rules takes its own process down and no other one."""
    small = "from service.engine import grammar, guard; grammar._STACK = 1 << 20; guard.main()"
    guard = Guard(tokenizer_file, [end])
    guard._command = [sys.executable, "-c", small, str(tokenizer_file), str(end)]
    try:
        guard.check('start: "a"')
        process = guard._process
        with pytest.raises(InvalidGrammar, match="too deeply"):
            guard.check(chain(20_000))
        assert guard.check('start: "a"') > 0
        assert guard._process is process
    finally:
        guard.stop()


def test_a_guard_that_dies_is_replaced(guard: Guard) -> None:
    """The next grammar gets a new one."""
    guard.check('start: "a"')
    process = guard._process
    assert process is not None
    os.kill(process.pid, 9)
    with pytest.raises(InvalidGrammar):
        guard.check('start: "b"')
    assert guard.check('start: "b"') > 0
