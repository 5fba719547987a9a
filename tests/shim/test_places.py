"""Tokens found in their text."""

from hypothesis import given
from hypothesis import strategies as st

from shim.places import Placed, Places
from tests.shim.fakes import token

SPECIAL = b"<|end|>"


def offsets(placed: list[Placed]) -> list[tuple[bytes, int]]:
    return [(each.token.token, each.offset) for each in placed]


def put(places: Places, text: str, *tokens: bytes) -> list[tuple[bytes, int]]:
    return offsets(places.add(text, [token(data) for data in tokens]))


def test_tokens_come_with_their_text() -> None:
    """Each token is where its text begins."""
    places = Places()
    assert put(places, "Hello", b"Hel", b"lo") == [(b"Hel", 0), (b"lo", 3)]
    assert put(places, " wörld", " wör".encode(), b"ld") == [(" wör".encode(), 5), (b"ld", 9)]
    assert offsets(places.rest()) == []


def test_tokens_wait_for_text_that_is_held_back() -> None:
    """A token that came before its text is given with it."""
    places = Places()
    assert put(places, "", b"EN") == []
    assert put(places, "ENT", b"T") == [(b"EN", 0), (b"T", 2)]


def test_a_token_whose_text_is_cut_begins_inside_it() -> None:
    """What a stop string takes off the end of a token does not take the token, and what it takes whole is left."""
    places = Places()
    assert put(places, " world", b" worldEN", b"D") == [(b" worldEN", 0)]
    assert offsets(places.rest()) == [(b"D", 6)]
    assert offsets(places.rest()) == []


def test_the_rest_of_a_token_may_come_later() -> None:
    """Text that was held back behind the beginning of its token is not looked for in the next one."""
    places = Places()
    assert put(places, " world", b" worldEN") == [(b" worldEN", 0)]
    assert put(places, "E", b"a") == []
    assert put(places, "Na", b"b") == [(b"a", 8)]
    assert put(places, "b") == [(b"b", 9)]


def test_characters_may_be_split() -> None:
    """Tokens inside a character are at it, and the next is behind it."""
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert put(Places(), "aéb", b"a", first, second, b"b") == [(b"a", 0), (first, 1), (second, 1), (b"b", 2)]
    places = Places()
    assert put(places, "a", b"a" + first) == [(b"a" + first, 0)]
    assert put(places, "éb", second, b"b") == [(second, 1), (b"b", 2)]


def test_tokens_without_text_stand_between_the_others() -> None:
    """Special tokens and empty ones take no room, and at the end they are left over."""
    places = Places()
    expected = [(SPECIAL, 0), (b"Hi", 0), (b"", 2), (SPECIAL, 2), (b"!", 2)]
    assert put(places, "Hi!", SPECIAL, b"Hi", b"", SPECIAL, b"!", SPECIAL) == expected
    assert offsets(places.rest()) == [(SPECIAL, 3)]


def test_a_text_may_differ_from_its_tokens() -> None:
    """A space that is dropped, bytes that are no character, and letters that were composed do not spoil the rest."""
    assert put(Places(), "Hi you", b" Hi", b" you") == [(b" Hi", 0), (b" you", 2)]
    assert put(Places(), "a\ufffdb", b"a", b"\xff", b"b") == [(b"a", 0), (b"\xff", 1), (b"b", 2)]
    assert put(Places(), "e\u0301 b", "é".encode(), b" b", b"!") == [("é".encode(), 0), (b" b", 2)]


@given(st.lists(st.binary(min_size=1, max_size=3)), st.text(), st.data())
def test_every_token_of_a_text_is_given_once_and_in_order(junk: list[bytes], text: str, data: st.DataObject) -> None:
    """However a text is cut into tokens and pieces, each token is at the character that it begins in."""
    encoded = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(encoded) - 1)))) if encoded else [])
    tokens = [encoded[start:end] for start, end in zip([0, *cuts], [*cuts, len(encoded)], strict=True)]
    tokens = [each for each in tokens if each]
    starts = [sum(map(len, tokens[:place])) for place in range(len(tokens))]
    expected = [
        (each, len(encoded[:start].decode(errors="ignore"))) for each, start in zip(tokens, starts, strict=True)
    ]
    places, placed, sent = Places(), [], 0
    for place, each in enumerate(tokens):
        known = encoded[: starts[place] + len(each)].decode(errors="ignore")
        until = data.draw(st.integers(sent, len(known)))
        placed += put(places, text[sent:until], each)
        sent = until
    placed += put(places, text[sent:])
    assert [each for each, _ in placed] == tokens
    assert offsets(places.rest()) == []
    assert placed == expected
    for each in junk:  # whatever comes after the text is left over
        assert put(places, "", each) == []
    assert [each for each, _ in offsets(places.rest())] == junk
