"""Rows that are held to a grammar, on real tiny models with random weights."""

import json
import random
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mlx.nn.layers.base import Module
from tokenizers import Tokenizer

from service.engine import constraint as module
from service.engine.compiler import Compiler
from service.engine.frames import Sampling, Thinking
from tests.service.engine.models import GREEDY, VOCAB, Engine, Solitary, alone, llama
from tests.service.engine.test_guard import HOSTILE

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False},
}
JSON = f"start: %json {json.dumps(SCHEMA)}"
WORD = "start: /[a-z]{3,6}/"
FREE = [9, 8, 7]


@pytest.fixture(scope="module")
def plain() -> Module:
    return llama()


def text(words: Tokenizer, tokens: list[int]) -> str:
    decoded: str = words.decode(tokens, skip_special_tokens=False)
    return decoded


def token_of(words: Tokenizer, letter: str) -> int:
    token = words.token_to_id(letter)
    assert token is not None
    return token


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=1, temperature=2), Sampling(seed=2, top_p=0.5, top_k=20)])
def test_what_comes_of_random_weights_parses_and_validates(
    plain: Module, compiler: Compiler, words: Tokenizer, sampling: Sampling
) -> None:
    """Beside rows that are free, each held to its own grammar by itself; it ends when nothing may follow."""
    engine = Engine(plain, compiler=compiler)
    for seq in range(4):
        engine.submit(seq, [seq, 1, 2], sampling, max_tokens=400, grammar=JSON if seq % 2 else WORD)
    engine.submit(4, FREE, max_tokens=60)
    engine.run()
    for seq in (1, 3):
        assert engine.finish(seq) == "complete"
        jsonschema.validate(json.loads(text(words, engine.tokens[seq])), SCHEMA)
    for seq in (0, 2):
        said = text(words, engine.tokens[seq])
        assert 3 <= len(said) <= 6
        assert said.isascii()
        assert said.islower()
    assert engine.tokens[4] == alone(plain, FREE, max_tokens=60)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=5, temperature=1)], ids=["greedy", "sampled"])
def test_company_changes_nothing(plain: Module, compiler: Compiler, sampling: Sampling) -> None:
    """A row with a grammar says the same alone, beside rows of the same one, of others and of none, and twelve rows."""

    def said(company: int) -> list[int]:
        engine = Engine(plain, max_running=16, compiler=compiler)
        engine.submit(0, [1, 2, 3], sampling, max_tokens=60, grammar=JSON)
        for seq in range(1, company):
            grammar = ["", JSON, WORD][seq % 3]
            engine.submit(seq, [seq, 5], Sampling(seed=seq) if seq % 2 else GREEDY, max_tokens=60, grammar=grammar)
            if seq % 4 == 0:
                engine.step()
        return engine.run().tokens[0]

    expected = said(1)
    assert len(expected) > 5
    assert said(3) == said(12) == expected


def test_choices_have_a_place_each(plain: Module, compiler: Compiler, words: Tokenizer) -> None:
    """They differ, and each is good."""
    engine = Engine(plain, max_running=3, compiler=compiler)
    engine.submit(0, [1, 2, 3], Sampling(seed=4, temperature=2), max_tokens=300, grammar=JSON, choices=7)
    engine.run()
    said = [text(words, engine.choices[0, choice]) for choice in range(7)]
    assert set(engine.finishes.values()) == {"complete"}
    assert len(set(said)) > 3
    for one in said:
        jsonschema.validate(json.loads(one), SCHEMA)


@pytest.mark.parametrize("room", [3, 5])
def test_rows_that_are_put_back_go_on_where_they_were(plain: Module, compiler: Compiler, room: int) -> None:
    """What they have consumed is not consumed again."""
    said = []
    long = 'start: %json {"type": "array", "items": {"type": "integer"}, "minItems": 200}'
    sampling = [Sampling(seed=seq, temperature=2) for seq in range(4)]
    for memory in (1 << 30, room * 256 * 512):
        engine = Engine(plain, kv_bytes=memory, compiler=compiler)
        for seq in range(4):
            engine.submit(seq, [seq, 1, 2] * 80, sampling[seq], max_tokens=40, grammar=long)
        said.append(engine.run().tokens)
        assert {engine.finish(seq) for seq in range(4)} == {"length"}
    assert said[0] == said[1]


def test_stop_tokens_come_where_the_grammar_may_end(plain: Module, compiler: Compiler, words: Tokenizer) -> None:
    """They are the row's own: another row of the grammar may have others, or none, and goes on then."""
    grammar = 'start: ("a" | "b" | "c")*'
    stop = token_of(words, "z")
    likes = {stop: 30.0}
    engine = Engine(plain, compiler=compiler)
    for seq, (stops, bias) in enumerate([([stop], likes), ([], likes), ([stop], {})]):
        engine.submit(seq, [1, 2], Sampling(0, 0, logit_bias=bias), max_tokens=9, grammar=grammar, stop_ids=stops)
    engine.run()
    assert (engine.tokens[0], engine.finish(0)) == ([stop], "stop")
    for seq in (1, 2):
        assert set(text(words, engine.tokens[seq])) <= set("abcz")
    assert (engine.finish(1), stop in engine.tokens[1]) == ("length", False)


def test_min_tokens_keep_stop_tokens_away_while_anything_else_may_come(
    plain: Module, compiler: Compiler, end: int
) -> None:
    """And no longer than that."""
    likes = Sampling(0, 0, logit_bias={end: 50.0})
    engine = Engine(plain, compiler=compiler)
    engine.submit(0, [1, 2], likes, max_tokens=20, grammar='start: "a"*', stop_ids=[end], min_tokens=5)
    engine.submit(1, [1, 2], likes, max_tokens=20, grammar='start: "a" | "b"', stop_ids=[end], min_tokens=5)
    engine.run()
    assert (len(engine.tokens[0]), engine.finish(0)) == (6, "stop")
    assert (len(engine.tokens[1]), engine.finish(1)) == (1, "complete")


def test_the_end_of_the_model_is_no_end_of_a_row_that_does_not_have_it(
    plain: Module, compiler: Compiler, end: int
) -> None:
    """Llguidance allows it where the grammar may end; the row would go on after it."""
    engine = Engine(plain, compiler=compiler)
    likes = Sampling(0, 0, logit_bias={end: 50.0})
    engine.submit(0, [1, 2], likes, max_tokens=8, grammar='start: "a"*')
    engine.run()
    assert end not in engine.tokens[0]
    assert engine.finish(0) == "length"


def test_a_grammar_of_nothing_is_complete_at_once(plain: Module, compiler: Compiler) -> None:
    """For all choices, after the prompt."""
    engine = Engine(plain, compiler=compiler)
    engine.submit(0, [1, 2], grammar='start: ""', choices=2)
    engine.run()
    assert set(engine.finishes.values()) == {"complete"}
    assert (engine.tokens[0], len(engine.finishes)) == ([], 2)


def test_bias_comes_before_the_mask(plain: Module, compiler: Compiler, words: Tokenizer) -> None:
    """It chooses among what may come, and can make nothing else possible."""
    ids = {letter: token_of(words, letter) for letter in "xyz"}
    engine = Engine(plain, compiler=compiler)
    bias = {ids["y"]: 50.0, ids["z"]: 100.0}
    engine.submit(0, [1], Sampling(0, 0, logit_bias=bias), grammar='start: "x" | "y"')
    engine.submit(1, [1], Sampling(0, 1, logit_bias={ids["z"]: 100.0, ids["y"]: -100.0}), grammar='start: "x" | "y"')
    engine.run()
    assert [text(words, engine.tokens[seq]) for seq in (0, 1)] == ["y", "x"]


def test_log_probabilities_are_the_models_own(plain: Module, compiler: Compiler) -> None:
    """A mask changes what is drawn and not what the model thinks of it."""
    engine = Engine(plain, compiler=compiler)
    engine.submit(0, [1, 2], grammar=WORD, logprobs=3)
    engine.submit(1, [1, 2], max_tokens=1, logprobs=3)
    engine.run()
    assert engine.logprobs[0, 0][0].top == engine.logprobs[1, 0][0].top
    assert len(engine.logprobs[0, 0]) == len(engine.tokens[0])
    assert engine.logprobs[0, 0][0].logprob <= engine.logprobs[1, 0][0].logprob


def test_prefixes_are_shared_as_ever(plain: Module, compiler: Compiler) -> None:
    """A grammar says nothing of the prompt."""
    engine = Engine(plain, prefix_bytes=1 << 30, compiler=compiler)
    prompt = [place % VOCAB for place in range(90)]
    for seq, grammar in enumerate(["", WORD]):
        engine.submit(seq, prompt, max_tokens=5, grammar=grammar)
        engine.run()
    assert engine.cached[1] == 89


def test_caches_that_cannot_merge_have_grammars_too(compiler: Compiler, words: Tokenizer) -> None:
    """One row at a time."""
    engine = Engine(Solitary(llama()), compiler=compiler)
    for seq in range(2):
        engine.submit(seq, [seq, 3], max_tokens=300, grammar=JSON)
    engine.run()
    for seq in range(2):
        jsonschema.validate(json.loads(text(words, engine.tokens[seq])), SCHEMA)


def test_others_go_on_while_a_grammar_is_compiled(plain: Module, tokenizer_file: Path, end: int) -> None:
    """Each step gives them a token; the one that cannot be compiled is told so."""
    compiler = Compiler(tokenizer_file, [end], VOCAB)
    try:
        engine = Engine(plain, compiler=compiler)
        engine.submit(0, FREE, max_tokens=100_000)
        while not engine.tokens[0]:
            engine.step()
        engine.submit(1, [1, 2], grammar=HOSTILE["intersected lengths"], choices=3)
        steps = 0
        while 1 not in engine.ends:
            heard = len(engine.tokens[0])
            engine.step()
            assert len(engine.tokens[0]) == heard + 1
            steps += 1
        assert steps > 100
        assert (engine.finish(1), "too long" in engine.ends[1].error) == ("invalid", True)
    finally:
        compiler.stop()


def test_one_may_leave_while_its_grammar_is_compiled(plain: Module, tokenizer_file: Path, end: int) -> None:
    """By an abort or for its deadline; nothing is left to do then."""
    compiler = Compiler(tokenizer_file, [end], VOCAB)
    try:
        engine = Engine(plain, compiler=compiler)
        engine.submit(0, [1, 2], grammar=HOSTILE["intersected lengths"])
        engine.submit(1, [1, 2], grammar=HOSTILE["intersected lengths"], deadline=time.monotonic() + 0.2)
        engine.step()
        assert (engine.scheduler.is_idle, 0 < engine.scheduler.leisure_s < 0.2) == (False, True)
        engine.scheduler.abort(0)
        engine.run()
        assert engine.finish(1) == "deadline"
        assert 0 not in engine.ends
    finally:
        compiler.stop()


def test_an_invalid_grammar_is_told_once(plain: Module, compiler: Compiler) -> None:
    """For all choices; nothing is processed for it."""
    engine = Engine(plain, compiler=compiler)
    engine.submit(0, [1, 2], grammar='start: %json {"type": "foo"}', choices=3)
    engine.submit(1, FREE)
    engine.run()
    assert (engine.finish(0), engine.ends[0].error) == ("invalid", "line 1, column 8: Invalid type: foo")
    assert (engine.processed[0], engine.tokens[1]) == ([], alone(plain, FREE))


def test_without_a_compiler_a_grammar_is_an_error(plain: Module) -> None:
    """It is never ignored."""
    engine = Engine(plain)
    engine.submit(0, [1, 2], grammar=WORD)
    assert (engine.run().finish(0), engine.tokens[0]) == ("error", [])


def test_a_mask_that_takes_too_long_fails_its_row_alone(
    plain: Module, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others say what they would have said."""
    monkeypatch.setattr(module, "_LONGEST_S", 0.0)
    for sampling in (GREEDY, Sampling(seed=1)):
        engine = Engine(plain, compiler=compiler)
        engine.submit(0, [1, 2], sampling, grammar=JSON)
        engine.submit(1, FREE, sampling)
        engine.run()
        assert (engine.finish(0), "too long" in engine.ends[0].error) == ("invalid", True)
        assert engine.tokens[1] == alone(plain, FREE, sampling)


def test_a_matcher_that_fails_fails_its_row_alone(plain: Module, compiler: Compiler) -> None:
    """As where reasoning is ended in a way that the grammar does not know of."""
    engine = Engine(plain, compiler=compiler)
    thinking = Thinking(0, [], [250], [250], is_open=True)
    engine.submit(0, [1, 2], grammar='start: "a"', thinking=thinking)
    engine.submit(1, FREE)
    engine.run()
    assert engine.finish(0) == "invalid"
    assert engine.tokens[1] == alone(plain, FREE)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=1), Sampling(seed=1, frequency_penalty=1)])
@pytest.mark.parametrize("logprobs", [-1, 2])
def test_reasoning_ends_by_its_budget_and_the_grammar_begins(
    plain: Module, compiler: Compiler, words: Tokenizer, sampling: Sampling, logprobs: int
) -> None:
    """What ends it is consumed as any token; beside it a row that has a budget and no grammar."""
    ending = words.encode("\n!!\n").ids
    grammar = f'start: THOUGHT "!!\\n" answer\nTHOUGHT: /[^!]*/\nanswer: %json {json.dumps(SCHEMA)}'
    thinking = Thinking(6, [], words.encode("!!").ids, ending, is_open=True)
    engine = Engine(plain, compiler=compiler)
    engine.submit(0, [4, 5], sampling, max_tokens=400, grammar=grammar, thinking=thinking, logprobs=logprobs)
    engine.submit(1, [4, 5], sampling, max_tokens=30, thinking=thinking, logprobs=logprobs)
    engine.run()
    thought, _, answer = text(words, engine.tokens[0]).partition("!!\n")
    jsonschema.validate(json.loads(answer), SCHEMA)
    assert engine.finish(0) == "complete"
    assert len(words.encode(thought).ids) <= 6 + len(ending)
    assert engine.tokens[1][6 : 6 + len(ending)] == ending
    if logprobs >= 0:
        assert [len(engine.logprobs[seq, 0]) for seq in (0, 1)] == [len(engine.tokens[seq]) for seq in (0, 1)]


def test_many_rows_of_many_grammars(plain: Module, compiler: Compiler, words: Tokenizer) -> None:
    """Coming and going, each is good, unless it is cut."""
    chance = random.Random(0)
    schemas = [
        SCHEMA,
        {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
        {"enum": ["red", "green", 3, None, {"a": [1]}]},
        {"anyOf": [{"type": "null"}, {"type": "number", "minimum": -1, "maximum": 1}]},
        {"type": "string", "pattern": "^[A-F]{2,4}-[0-9]+$", "maxLength": 12},
    ]
    engine = Engine(plain, max_running=6, compiler=compiler)
    asked: dict[int, Any] = {}
    for seq in range(25):
        asked[seq] = chance.choice(schemas)
        sampling = GREEDY if chance.random() < 0.3 else Sampling(seed=seq, temperature=chance.choice([0.5, 1, 2]))
        grammar = f"start: %json {json.dumps(asked[seq] | {'x-guidance': {'whitespace_flexible': False}})}"
        engine.submit(seq, [seq, 2, 3], sampling, max_tokens=150, grammar=grammar)
        if seq % 3 == 0:
            engine.step()
    engine.run()
    complete = [seq for seq in range(25) if engine.finish(seq) == "complete"]
    assert len(complete) > 15
    for seq in complete:
        jsonschema.validate(json.loads(text(words, engine.tokens[seq])), asked[seq])
    assert {engine.finish(seq) for seq in range(25)} <= {"complete", "length"}
