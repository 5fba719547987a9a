"""What is said of grammars that cannot be used."""

from pathlib import Path

import pytest
from llguidance import LLTokenizer

from service.engine.grammar import LONGEST, InvalidGrammar, compiled, explained, vocabulary


@pytest.fixture(scope="module")
def tokens(tokenizer_file: Path, end: int) -> LLTokenizer:
    """Give the tokenizer as llguidance reads it."""
    return vocabulary(tokenizer_file, [end])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('start: "a" (', "line 1, column 13: Expected token"),
        ("start: x\ny: z", 'unknown name: "x"'),
        ("start: /(?=a)b/", "look-around, including look-ahead and look-behind, is not supported"),
        ('start: %json {"type": "foo"}', "Invalid type: foo"),
        ('start: %json {"properties": {"a": {"uniqueItems": true}}}', 'Unimplemented keys: ["uniqueItems"]'),
        ('start: %json {"$ref": "#/$defs/a"}', "Pointer '/$defs/a' does not exist"),
        ('{"grammars": [', "line 1 column 14"),
        ("", "Empty grammar"),
        ("start: " + "(" * 100 + '"a"' + ")" * 100, "too deeply nested"),
        ('start: "a"' + " " * LONGEST, f"may have {LONGEST}"),
        ("start: A\nA: /[a-z]*foo[a-z]{30}/ & ~/[a-z]*bar[a-z]{20}/ & /[a-z]*baz[a-z]{25}/", "too complex"),
    ],
)
def test_a_fault_is_told_with_its_place(tokens: LLTokenizer, text: str, said: str) -> None:
    """In one short line, in words about the grammar and nothing of the library's insides."""
    with pytest.raises(InvalidGrammar) as caught:
        compiled(tokens, text)
    told = str(caught.value)
    assert said in told
    assert "\n" not in told
    assert len(told) <= 400
    for internal in ("<state>", "<non-verbose", "backtrace", "fuel", "limits."):
        assert internal not in told


def test_a_panic_is_no_panic() -> None:
    """The library's assertions are about sizes."""
    assert explained("panic: assertion failed: x < 3 <backtrace>\n 0: <unknown>") == "it is too large"


def test_ends_are_the_models_own(tokenizer_file: Path, end: int, tokens: LLTokenizer) -> None:
    """Those that the tokenizer does not have are left out of account."""
    assert tokens.eos_tokens == [end]
    assert vocabulary(tokenizer_file, [1 << 20]).vocab_size == tokens.vocab_size
