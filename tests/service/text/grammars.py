"""Outputs that a grammar lets through, drawn at random."""

import random
from collections.abc import Collection

import numpy as np
from llguidance import LLMatcher, LLTokenizer

from service.text.tokenizer import Tokenizer
from tests.service.text.tokenizers import byte_level

_FAVOUR = 0.3
"""How often one of the favoured tokens is taken where it is allowed."""


def problem(grammar: str, tokenizer: Tokenizer) -> str:
    """What llguidance says against a grammar; nothing for a good one."""
    said: str = LLMatcher.validate_grammar(grammar, _for_grammars(tokenizer))
    return said


def drawn(
    grammar: str,
    tokenizer: Tokenizer,
    seed: int,
    *,
    favoured: Collection[int] = (),
    first: Collection[int] = (),
    most: int = 400,
) -> tuple[list[int], bool]:
    """Draw up to `most` tokens, beginning with those of `first`; whether the output may end there.

    Some tokens are `favoured`, such as closing markers and quotes, so that it ends at all.
    """
    matcher = LLMatcher(_for_grammars(tokenizer), grammar, log_level=0)
    assert not matcher.get_error(), matcher.get_error()
    dice = random.Random(seed)
    end = tokenizer.token_id("</s>")
    given = list(first)
    ids: list[int] = []
    while len(ids) < most and not matcher.is_stopped():
        mask = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        allowed = [int(number) for number in np.flatnonzero(np.unpackbits(mask, bitorder="little"))]
        if given:
            token = given.pop(0)
            assert token in allowed, (tokenizer.token(token), tokenizer.decode(ids, skip_special=False))
        else:
            liked = [number for number in allowed if number in favoured]
            token = dice.choice(liked if liked and dice.random() < _FAVOUR else allowed)
        if token == end:
            break
        assert matcher.consume_token(token), matcher.get_error()
        ids.append(token)
    return ids, bool(matcher.is_accepting())


def takes(grammar: str, text: str, tokenizer: Tokenizer | None = None) -> bool:
    """Whether a grammar lets a text through, as a whole."""
    tokenizer = tokenizer or byte_level()
    ids = tokenizer.encode(text, add_special=False)
    try:
        return drawn(grammar, tokenizer, 0, first=ids, most=len(ids)) == (ids, True)
    except AssertionError:
        return False


def favourites(tokenizer: Tokenizer, *texts: str) -> set[int]:
    """Return the tokens that end things, and those of `texts`."""
    usual = ('"', "}", "]", "</s>", *texts)
    return {number for text in usual if (number := tokenizer.token_id(text)) is not None}


def _for_grammars(tokenizer: Tokenizer) -> LLTokenizer:
    return LLTokenizer(tokenizer._inner.to_str(), n_vocab=tokenizer.vocab_size, eos_token=tokenizer.token_id("</s>"))
