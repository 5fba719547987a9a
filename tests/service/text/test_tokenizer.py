"""Tests of the tokenizer."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors

from service.errors import ContextTooLong, SetupError
from service.text.tokenizer import Tokenizer
from tests.service.text.tokenizers import KINDS, byte_fallback, byte_level, byte_tokens, of_kind


def test_a_file_is_read_without_its_truncation_and_padding(tmp_path: Path) -> None:
    """A tokenizer saved with truncation and padding encodes whole texts and nothing more."""
    inner = byte_level()._inner
    path = tmp_path / "tokenizer.json"
    copy = type(inner).from_str(inner.to_str())
    copy.enable_truncation(2)
    copy.enable_padding(length=64)
    copy.save(str(path))
    text = "The sky is blue because"
    assert Tokenizer.from_file(path).encode(text, add_special=False) == byte_level().encode(text, add_special=False)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
def test_a_file_that_cannot_be_read_is_a_setup_error(tmp_path: Path, content: bytes | None) -> None:
    """No file, an empty one, wrong JSON and wrong bytes are told in one line that names the file."""
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SetupError, match=r"tokenizer\.json"):
        Tokenizer.from_file(path)


@pytest.mark.parametrize("kind", ["byte_level", "nested_byte_level", "byte_fallback"])
def test_a_text_that_cannot_fit_is_not_encoded(kind: str) -> None:
    """Its length alone tells, and what is told is no more than it has; a text that may fit is encoded."""
    tokenizer = of_kind(kind)
    text = "the sky " * 50
    count = len(tokenizer.encode(text, add_special=False))
    assert len(tokenizer.encode(text, add_special=False, limit=count)) == count
    with pytest.raises(ContextTooLong) as raised:
        tokenizer.encode(text, add_special=False, limit=1)
    assert raised.value.limit == 1
    assert 1 < raised.value.got <= count


@pytest.mark.parametrize("kind", ["unigram", "word_piece"])
def test_a_text_that_may_be_one_unknown_token_is_encoded(kind: str) -> None:
    """Without a token for each byte, its length tells nothing."""
    tokenizer = of_kind(kind)
    text = "\N{WAVING HAND SIGN}" * 1000
    assert tokenizer.encode(text, add_special=False, limit=1) == tokenizer.encode(text, add_special=False)


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_a_text_are_parsed(kind: str) -> None:
    """A special token written in a text becomes that token, whether or not the tokenizer adds its own."""
    tokenizer = of_kind(kind)
    end = tokenizer.token_id("<|im_end|>")
    assert end in tokenizer.special_ids
    assert end in tokenizer.encode("the<|im_end|>sky", add_special=False)
    assert tokenizer.decode([end] if end else [], skip_special=True) == ""
    assert tokenizer.decode([end] if end else [], skip_special=False) == "<|im_end|>"


def test_only_asked_for_special_tokens_are_added() -> None:
    """The tokenizer's own beginning-of-sequence token comes with `add_special` only."""
    from_llama = byte_fallback()._inner
    copy = type(from_llama).from_str(from_llama.to_str())
    copy.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", from_llama.token_to_id("<s>"))]
    )
    tokenizer = Tokenizer(copy)
    plain = tokenizer.encode("the", add_special=False)
    assert tokenizer.encode("the", add_special=True) == [tokenizer.token_id("<s>"), *plain]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [-1, 10_000, 2**31, 2**32, 2**64])
def test_an_unknown_id_decodes_to_nothing(kind: str, number: int) -> None:
    """Ids below and above the vocabulary, also above what the library takes, have no text."""
    tokenizer = of_kind(kind)
    assert tokenizer.decode([number], skip_special=False) == ""
    assert tokenizer.token(number) is None
    assert tokenizer.bytes_of[number] == b""


def test_the_vocabulary_reaches_to_the_highest_id() -> None:
    """The vocabulary's size covers the added tokens."""
    tokenizer = byte_level()
    assert tokenizer.token(tokenizer.vocab_size - 1) is not None
    assert tokenizer.token(tokenizer.vocab_size) is None


def test_it_contains_added_tokens_only() -> None:
    """An added token is one token wherever it stands; an ordinary one or a longer text is not."""
    tokenizer = byte_level()
    assert "<think>" in tokenizer
    assert "<|im_end|>" in tokenizer
    assert "a" not in tokenizer
    assert "<think>a" not in tokenizer


def test_bytes_of_a_token_are_those_of_the_text() -> None:
    """Every byte token stands for its byte, and an added token with other characters for its own text."""
    tokenizer = byte_level()
    ids = byte_tokens(tokenizer, "é 日\n")
    assert b"".join(tokenizer.bytes_of[number] for number in ids) == "é 日\n".encode()
    inner = type(tokenizer._inner).from_str(tokenizer._inner.to_str())
    inner.add_tokens(["日本 x"])
    number = inner.token_to_id("日本 x")
    assert number is not None
    assert Tokenizer(inner).bytes_of[number] == "日本 x".encode()


@given(text=st.text(st.characters(), max_size=30))
@settings(deadline=None, max_examples=100)
def test_any_string_can_be_encoded(text: str) -> None:
    """A string with halves of surrogate pairs, as JSON may hold, is encoded with replacements."""
    tokenizer = byte_level()
    expected = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert tokenizer.decode(tokenizer.encode(text, add_special=False), skip_special=False) == expected


def test_specials_inside_markers_are_found() -> None:
    """The special tokens that are written in a marker are told, and no others."""
    tokenizer = byte_level("<|channel|>", "<|message|>", "<|end|>")
    found = tokenizer.specials_inside(frozenset({"<|channel|>final<|message|>", "<think>"}))
    assert {tokenizer.token(number) for number in found} == {"<|channel|>", "<|message|>"}


def test_a_text_is_cut_at_its_added_tokens() -> None:
    """Special or not, the longest first; what is no added token stays text."""
    tokenizer = byte_level("<a>", "<a>b")
    number = tokenizer.token_id
    assert tokenizer.parts("<a>bc<think>") == [number("<a>b"), "c", number("<think>")]
    assert tokenizer.parts("the sky") == ["the sky"]
    assert tokenizer.parts("") == []
