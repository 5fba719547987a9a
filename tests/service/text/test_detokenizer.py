"""Tests of incremental detokenizing."""

import codecs
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer
from tokenizers import decoders
from transformers import PreTrainedTokenizerFast

from service.text.detokenizer import Detokenizer
from service.text.tokenizer import Tokenizer
from tests.service.text.tokenizers import KINDS, byte_fallback, byte_level, byte_tokens, cuts, of_kind

few = settings(deadline=None, max_examples=80)
texts = st.text(
    alphabet=st.one_of(st.sampled_from("abthe .,\n日本é👍\u0301\u200d👩�"), st.characters(exclude_categories=["Cs"])),
    max_size=20,
)


def pieces(detokenizer: Detokenizer, ids: list[int]) -> list[str]:
    return [*(detokenizer.add(number) for number in ids), detokenizer.flush()]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@few
def test_a_text_cut_anyhow_comes_out_as_decode_has_it(kind: str, data: st.DataObject) -> None:
    """Any text, cut into tokens in any way, comes out as the whole decodes."""
    tokenizer = of_kind(kind)
    ids = data.draw(cuts(tokenizer, texts))
    assert "".join(pieces(Detokenizer(tokenizer), ids)) == tokenizer.decode(ids, skip_special=True)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "byte_fallback"])
@pytest.mark.parametrize("skip", [True, False])
@given(data=st.data())
@few
def test_random_tokens_come_out_as_decode_has_them(kind: str, skip: bool, data: st.DataObject) -> None:
    """Tokens that make no text, special and unknown ones among them, come out as the whole decodes."""
    tokenizer = of_kind(kind)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 3), max_size=50))
    out = pieces(Detokenizer(tokenizer, skip_special=skip), ids)
    assert "".join(out) == tokenizer.decode(ids, skip_special=skip)


@given(data=st.binary(max_size=40))
@few
def test_bad_bytes_of_a_byte_fallback_spoil_only_themselves(data: bytes) -> None:
    """Random byte tokens keep every character that is whole, and each other byte becomes U+FFFD."""
    tokenizer = byte_fallback()
    ids = [number for byte in data if (number := tokenizer.token_id(f"<0x{byte:02X}>")) is not None]
    expected = data.decode(errors="one_each").removeprefix(" ")
    assert "".join(pieces(Detokenizer(tokenizer), ids)) == expected


codecs.register_error("one_each", lambda error: ("�" * (error.end - error.start), error.end))  # type: ignore[attr-defined]


@given(data=st.data())
@few
def test_random_tokens_of_a_byte_fallback_come_out_but_for_runs_with_bad_bytes(data: st.DataObject) -> None:
    """Random tokens come out as decode has them once the runs of bytes that it spoils are told apart."""
    tokenizer = byte_fallback()
    plain = st.integers(257, tokenizer.vocab_size + 3).map(lambda number: [number])
    character = st.characters(exclude_categories=["Cs"]).map(lambda text: byte_tokens(tokenizer, text))
    cut_off = st.sampled_from("日é👍").map(lambda text: byte_tokens(tokenizer, text)[:-1])
    # A run that is cut off stands between other tokens, so that it is bad as a whole.
    bad = cut_off.map(lambda run: [tokenizer.encode("a", add_special=False)[-1], *run, 300])
    ids = [number for part in data.draw(st.lists(plain | character | bad)) for number in part]
    assert "".join(pieces(Detokenizer(tokenizer), ids)) == tokenizer.decode(ids, skip_special=True)


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback", "nested_byte_level"])
@pytest.mark.parametrize("text", ["日本語", "👩‍👩‍👧", "e\u0301é", "a👍🏽b"])
def test_a_character_comes_out_with_its_last_byte(kind: str, text: str) -> None:
    """A character is not sent before its last byte, and not after it."""
    tokenizer = of_kind(kind)
    detokenizer = Detokenizer(tokenizer)
    for character in text:
        *first, last = byte_tokens(tokenizer, character)
        assert [detokenizer.add(number) for number in first] == [""] * len(first)
        assert detokenizer.add(last) == character


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_token_is_not_held_back(kind: str) -> None:
    """Text comes out with its token; nothing is left for the flush."""
    tokenizer = of_kind(kind)
    ids = tokenizer.encode("the sky is blue", add_special=False)
    *out, last = pieces(Detokenizer(tokenizer), ids)
    assert last == ""
    assert all(out[1:])


def test_what_is_left_over_is_flushed_and_the_stream_can_go_on() -> None:
    """A character cut off at the end comes out as U+FFFD, and what follows is whole again."""
    for tokenizer in (byte_level(), byte_fallback()):
        detokenizer = Detokenizer(tokenizer)
        start, *rest = byte_tokens(tokenizer, "é")
        assert detokenizer.add(start) == ""
        assert detokenizer.flush() == "�"
        assert "".join(map(detokenizer.add, [start, *rest])) == "é"
        assert detokenizer.flush() == ""


def test_special_tokens_are_skipped_unless_they_are_shown() -> None:
    """A special token has text only where it is in `shown` or asked for, a plain added token always."""
    tokenizer = byte_level()
    end, start = tokenizer.token_id("</s>"), tokenizer.token_id("<s>")
    think = tokenizer.token_id("<think>")
    assert end is not None
    assert start is not None
    assert think is not None
    detokenizer = Detokenizer(tokenizer, shown=frozenset({end}))
    assert [detokenizer.add(number) for number in (start, end, think)] == ["", "</s>", "<think>"]
    assert detokenizer.add(start, show=True) == "<s>"


@pytest.mark.parametrize("kind", KINDS)
def test_the_window_stays_small(kind: str) -> None:
    """The cost of a token does not grow with the text, not even over a run of spaces or of bad bytes."""
    tokenizer = of_kind(kind)
    longest = 0

    class Watched(Tokenizer):
        def decode(self, ids: list[int], *, skip_special: bool) -> str:  # type: ignore[override]
            nonlocal longest
            longest = max(longest, len(ids))
            return super().decode(ids, skip_special=skip_special)

    bad = byte_tokens(tokenizer, "日")[:1]
    ids = tokenizer.encode("a" + " " * 100 + "b" * 100, add_special=False) + byte_tokens(tokenizer, " " * 100)
    out = pieces(Detokenizer(Watched(tokenizer._inner)), ids + bad * 100)
    assert longest <= 40
    assert "".join(out) == tokenizer.decode(ids, skip_special=True) + tokenizer.decode(bad, skip_special=True) * 100


def test_spaces_alone_do_not_stand_for_the_text_before() -> None:
    """A decoder that strips several spaces at the start strips none in the middle, whatever stands there."""
    inner = type(byte_fallback()._inner).from_str(byte_fallback()._inner.to_str())
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 3, 0)])
    tokenizer = Tokenizer(inner)
    ids = [tokenizer.token_id(name) or 0 for name in ("▁a", "▁", "▁", "▁", "b")]
    assert "".join(pieces(Detokenizer(tokenizer), ids)) == "a   b"


def test_it_agrees_with_mlx_lm_on_text() -> None:
    """mlx-lm's detokenizer for byte-level BPE, which trims a space at the start, gives the same text."""
    tokenizer = byte_level()
    theirs: Any = BPEStreamingDetokenizer(  # type: ignore[no-untyped-call]
        PreTrainedTokenizerFast(tokenizer_object=tokenizer._inner)  # type: ignore[no-untyped-call]
    )
    ids = tokenizer.encode("The sky, Grüße 日本語 👩‍👩‍👧!", add_special=False)
    for number in ids:
        theirs.add_token(number)
    theirs.finalize()
    assert "".join(pieces(Detokenizer(tokenizer), ids)) == theirs.text


def test_a_byte_level_token_costs_about_a_microsecond() -> None:
    """A thousand tokens take well under ten milliseconds, even on a busy machine."""
    tokenizer = byte_level()
    ids = (tokenizer.encode("the sky is blue é", add_special=False) * 1000)[:1000]
    best = 1.0
    for _ in range(5):
        detokenizer = Detokenizer(tokenizer)
        start = time.perf_counter()
        for number in ids:
            detokenizer.add(number)
        best = min(best, time.perf_counter() - start)
    assert best < 0.01
