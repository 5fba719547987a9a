"""What a row may be given, on real bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.mask import Mask


def mask_of(allowed: set[int], vocabulary: int, size: int | None = None, **more: list[int]) -> Mask:
    """Pack the bits of `size` tokens as llguidance does, in words of 32."""
    bits = np.zeros(-(-(size or vocabulary) // 32) * 32, np.uint8)
    bits[list(allowed)] = 1
    return Mask.of(np.packbits(bits, bitorder="little").tobytes(), vocabulary, **more)


def allowed_by(mask: Mask, vocabulary: int) -> set[int]:
    """Find what is left of equal logits."""
    logits = np.zeros(vocabulary, np.float32)
    mask.apply(logits)
    return set(np.flatnonzero(logits == 0).tolist())


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 199)), st.sampled_from([200, 150, 250]), st.sets(st.integers(0, 220), max_size=5))
def test_a_mask_is_its_bits(allowed: set[int], vocabulary: int, stops: set[int]) -> None:
    """Whatever the model's vocabulary is, larger than the tokenizer's or smaller, and what is added and removed."""
    mask = mask_of(allowed, vocabulary, 200, add=sorted(stops), remove=[3, 9999])
    expected = {token for token in (allowed - {3}) | stops if token < min(vocabulary, 224)}
    assert allowed_by(mask, vocabulary) == expected
    assert {token for token in range(300) if mask.allows(token)} == expected
    assert mask.is_empty == (not expected)


@pytest.mark.parametrize("count", [0, 5, 2048, 2049, 40_000])
def test_few_and_many_tokens_are_the_same(count: int) -> None:
    """Both forms keep the logits of what is allowed and make the rest impossible."""
    chance = np.random.default_rng(count)
    allowed = set(chance.permutation(49_152)[:count].tolist())
    mask = mask_of(allowed, 49_152)
    assert (mask.ids is not None) == (count <= 2048)
    assert [mask.allows(token) for token in range(3000)] == [token in allowed for token in range(3000)]
    logits = chance.normal(0, 1, 49_152).astype(np.float32)
    masked = logits.copy()
    mask.apply(masked)
    expected = np.full(49_152, -np.inf, np.float32)
    expected[list(allowed)] = logits[list(allowed)]
    np.testing.assert_array_equal(masked, expected)


def test_what_is_banned_comes_back_where_nothing_else_is_left() -> None:
    """A row that must not stop yet and can do nothing else stops."""
    assert allowed_by(mask_of({1, 2, 3}, 64).without([2, 70]), 64) == {1, 3}
    assert allowed_by(mask_of({2}, 64).without([2]), 64) == {2}
    many = mask_of(set(range(4000)), 5000).without([7])
    assert allowed_by(many, 5000) == set(range(4000)) - {7}
