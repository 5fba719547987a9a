"""Caches of prompts that were processed before, on real tiny models."""

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    ChunkedKVCache,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
    make_prompt_cache,
)

from service.engine.prefix_cache import Match, PrefixCache, can_cut
from service.engine.sequence import LayerCache
from tests import tiny

VOCAB = 384
WINDOW = 16
BIG = 1 << 30
TOKEN_BYTES = 2 * 2 * 2 * 16 * 4
"""What a token takes in the llama: layers, keys and values, heads, width, float32."""

CONFIGS = {
    "llama": tiny.llama_config(VOCAB),
    "gemma": tiny.gemma_config(VOCAB, WINDOW),
    "sliding": tiny.sliding_config(VOCAB, WINDOW),
    "mamba": tiny.mamba_config(VOCAB),
}


@pytest.fixture(scope="module")
def llama() -> Module:
    return tiny.build(CONFIGS["llama"])


@pytest.fixture(scope="module", params=["gemma", "sliding", "mamba"])
def uncuttable(request: pytest.FixtureRequest) -> Module:
    """Give a model of each kind whose caches cannot be cut."""
    return tiny.build(CONFIGS[request.param])


def words(count: int, seed: int = 0) -> list[int]:
    """Give random tokens."""
    chance = random.Random(seed)
    return [chance.randrange(VOCAB) for _ in range(count)]


def read(model: Module, tokens: Sequence[int], cache: list[LayerCache]) -> mx.array:
    """Give the logits after the last token."""
    logits: mx.array = model(mx.array([list(tokens)]), cache=cache)[0, -1]
    mx.eval(logits, [layer.state for layer in cache])
    return logits


def prefilled(model: Module, tokens: Sequence[int]) -> list[LayerCache]:
    cache: list[LayerCache] = make_prompt_cache(model)
    read(model, tokens, cache)
    return cache


def continued(model: Module, tokens: Sequence[int], cache: list[LayerCache], count: int = 20) -> list[int]:
    """Decode greedily."""
    said = [int(mx.argmax(read(model, tokens, cache)))]
    while len(said) < count:
        said.append(int(mx.argmax(read(model, said[-1:], cache))))
    return said


def found(cache: PrefixCache, tokens: Sequence[int], key: str = "") -> Match:
    """Match what has to be there."""
    match = cache.match(key, tokens)
    assert match is not None
    return match


def bits(match: Match) -> list[bytes]:
    """Read the keys and values of plain KV caches, as far as they are filled."""
    return [np.array(array).tobytes() for layer in match.cache for array in layer.keys_and_values()]


@pytest.fixture
def exact() -> Iterator[None]:
    """Keep MLX from giving an array a used buffer that is larger than it needs."""
    before = mx.set_cache_limit(0)
    yield
    mx.set_cache_limit(before)


def settled() -> int:
    """Count the bytes of the arrays that are alive."""
    gc.collect()
    mx.clear_cache()
    return mx.get_active_memory()


@pytest.mark.parametrize("cut", [1, 2, 100, 255, 256, 257, 299, 300])
def test_a_prefix_of_any_length_continues_as_a_cold_prefill_does(llama: Module, cut: int) -> None:
    """What follows the shared tokens gets the same logits and the same greedy text as without the cache."""
    known = words(300)
    cache = PrefixCache(BIG)
    cache.insert("", known, prefilled(llama, known))
    prompt = [*known[:cut], *((token + 1) % VOCAB for token in known[cut : cut + 1]), *words(7, seed=1)]
    match = found(cache, prompt)
    assert match.length == cut == cache.peek("", prompt)
    again = found(cache, prompt)
    logits = read(llama, prompt[cut:], again.cache)
    assert mx.allclose(logits, read(llama, prompt, make_prompt_cache(llama)), atol=1e-4, rtol=1e-4)
    assert continued(llama, prompt[cut:], match.cache) == continued(llama, prompt, make_prompt_cache(llama))


def test_a_path_of_many_pieces_continues_as_a_cold_prefill_does(llama: Module) -> None:
    """A conversation of several turns, with branches off each, is put together from all its pieces."""
    cache = PrefixCache(BIG)
    known = words(400)
    for end in (50, 110, 111, 300, 400):
        cache.insert("", known[:end], prefilled(llama, known[:end]))
        branch = [*known[: end - 20], *words(30, seed=end)]
        cache.insert("", branch, prefilled(llama, branch))
    for length in (30, 49, 95, 250, 383, 400):
        prompt = [*known[:length], *words(5, seed=-length)]
        match = found(cache, prompt)
        assert match.length == length
        assert continued(llama, prompt[length:], match.cache) == continued(llama, prompt, make_prompt_cache(llama))


def test_what_the_borrower_decodes_does_not_change_the_entry(llama: Module) -> None:
    """After 300 tokens, which make the caches grow, a second borrower gets the first one's bits."""
    known = words(100)
    cache = PrefixCache(BIG)
    cache.insert("", known, prefilled(llama, known))
    prompt = [*known, 1, 2]
    before = bits(found(cache, prompt))
    continued(llama, prompt[100:], found(cache, prompt).cache, count=300)
    borrowed = found(cache, prompt)
    for layer in borrowed.cache:
        layer.keys[...] = 0
        layer.values[..., 3:50, :] = 1
    mx.eval([layer.state for layer in borrowed.cache])
    assert bits(found(cache, prompt)) == before


def test_what_the_owner_goes_on_to_do_does_not_change_the_entry(llama: Module) -> None:
    """The cache that was inserted is decoded with, cut back and overwritten, and the entry stays as it was."""
    known = words(100)
    owned = prefilled(llama, known)
    cache = PrefixCache(BIG)
    cache.insert("", known, owned)
    before = bits(found(cache, [*known, 1]))
    continued(llama, [1, 2], owned, count=300)
    for layer in owned:
        layer.trim(350)
        layer.keys[...] = 0
        layer.values[...] = 0
    mx.eval([layer.state for layer in owned])
    assert bits(found(cache, [*known, 1])) == before


def test_room_for_the_prompt_comes_with_the_match(llama: Module) -> None:
    """The rest of the prompt goes into the borrowed caches without making them grow."""
    known = words(100)
    cache = PrefixCache(BIG)
    cache.insert("", known, prefilled(llama, known))
    prompt = [*known[:90], VOCAB - 1, *words(600, seed=1)]
    match = found(cache, prompt)
    sizes = [layer.keys.shape for layer in match.cache]
    read(llama, prompt[90:], match.cache)
    assert [layer.keys.shape for layer in match.cache] == sizes == [(1, 2, 768, 16)] * 2
    assert [layer.offset for layer in match.cache] == [691, 691]


@pytest.mark.parametrize("length", [1, 10, WINDOW - 1, WINDOW, WINDOW + 1, 40, 300])
def test_a_snapshot_continues_as_the_original_does(uncuttable: Module, length: int) -> None:
    """Windows, part full, full or passed, and states give the text of a cold prefill, time and again."""
    known = words(length)
    cache = PrefixCache(BIG)
    cache.insert("", known, prefilled(uncuttable, known))
    prompt = [*known, *words(5, seed=1)]
    cold = continued(uncuttable, prompt, make_prompt_cache(uncuttable))
    for _ in range(2):
        match = found(cache, prompt)
        assert match.length == length
        assert continued(uncuttable, prompt[length:], match.cache) == cold
    logits = read(uncuttable, prompt[length:], found(cache, prompt).cache)
    assert mx.allclose(logits, read(uncuttable, prompt, make_prompt_cache(uncuttable)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("decoded", [3, 30, 300])
def test_a_snapshot_taken_while_decoding_is_independent_of_both_sides(uncuttable: Module, decoded: int) -> None:
    """A window that has turned over is remembered as it stood, whatever owner and borrower do next."""
    prompt = words(5)
    owned = make_prompt_cache(uncuttable)
    said = continued(uncuttable, prompt, owned, count=decoded + 1)
    known = [*prompt, *said[:-1]]
    cache = PrefixCache(BIG)
    cache.insert("", known, owned)
    rest = continued(uncuttable, said[-1:], owned, count=30)
    for _ in range(2):
        assert continued(uncuttable, said[-1:], found(cache, [*known, said[-1]]).cache, count=30) == rest


def test_a_snapshot_is_found_whole_or_not_at_all(uncuttable: Module) -> None:
    """The longest inserted boundary within the prompt is found, and it leaves a token to process."""
    known = words(40)
    cache = PrefixCache(BIG)
    for length in (30, 10, 20):
        cache.insert("", known[:length], prefilled(uncuttable, known[:length]))
    lengths = {size: cache.peek("", known[:size]) for size in (1, 10, 11, 20, 21, 29, 30, 31, 40)}
    assert lengths == {1: 0, 10: 0, 11: 10, 20: 10, 21: 20, 29: 20, 30: 20, 31: 30, 40: 30}
    assert cache.match("", known[:10]) is None
    assert found(cache, known[:30]).length == 20
    assert cache.peek("", [*known[:15], VOCAB, *known[16:]]) == 10


Fill = Callable[[Any, int], list[mx.array]]


def attended(cache: Any, count: int, heads: int = 2, width: int = 64) -> list[mx.array]:
    """Put random keys and values into a cache, as a layer does, and give what it would attend to."""
    keys, values = (mx.random.normal((1, heads, count, width)) for _ in range(2))
    if isinstance(cache, ChunkedKVCache):
        cache.maybe_trim_front()  # type: ignore[no-untyped-call]
    seen = cache.update_and_fetch(keys, values)
    return [array for part in seen for array in (part if isinstance(part, list | tuple) else [part])]


def replaced(cache: Any, count: int) -> list[mx.array]:
    """Change a state in part and in whole; one of its arrays stays unset."""
    if cache[0] is None:
        cache[0], cache[2] = mx.zeros((1, 3, 8)), mx.zeros((1, 4))
    cache[0][:, 1] = mx.random.normal((1, 8))
    cache[2] = cache[2] + count
    return [cache[0], cache[2]]


def listed(cache: Any, count: int) -> list[mx.array]:
    state, window, deeper = cache.caches
    return [*replaced(state, count), *attended(window, count), *attended(deeper[0], count)]


KINDS: dict[str, tuple[Callable[[], Any], Fill]] = {
    "rotating": (partial(RotatingKVCache, 8, keep=2), attended),
    "quantised": (partial(QuantizedKVCache, group_size=32, bits=8), attended),
    "chunked": (partial(ChunkedKVCache, 8), attended),
    "arrays": (partial(ArraysCache, 3), replaced),
    "list": (lambda: CacheList(ArraysCache(3), RotatingKVCache(8), CacheList(KVCache())), listed),  # type: ignore[no-untyped-call]
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [[3], [20], [3, 1, 1], [7, *[1] * 9], [300]])
def test_every_kind_of_cache_is_copied_faithfully(kind: str, start: list[int]) -> None:
    """The copy has the class of the original, gives bit for bit what it gives, and shares nothing with it."""
    make, fill = KINDS[kind]
    original = make()
    for count in start:
        fill(original, count)
    tokens = list(range(sum(start)))
    cache = PrefixCache(BIG)
    cache.insert("", tokens, [original])
    assert not can_cut([original])
    runs = []
    for borrowed in (original, *(found(cache, [*tokens, 0]).cache[0] for _ in range(2))):
        assert type(borrowed) is type(original)
        mx.random.seed(1)
        runs.append([np.array(array).tobytes() for count in (1, 1, 5, 1, 300, 1) for array in fill(borrowed, count)])
    assert runs[0] == runs[1] == runs[2]


def test_lists_of_plain_caches_are_cut_too() -> None:
    """A layer with several KV caches, one of them without width, is put together in its own shape."""

    def layers() -> list[LayerCache]:
        return [CacheList(KVCache(), KVCache()), KVCache(), CacheList(KVCache())]  # type: ignore[no-untyped-call]

    def fill(cache: list[LayerCache], count: int) -> list[mx.array]:
        (first, second), plain, (last,) = cache[0].caches, cache[1], cache[2].caches
        narrow = second.update_and_fetch(mx.random.normal((1, 1, count, 4)), mx.zeros((1, 1, count, 0)))[0]
        return [narrow, *(array for each in (first, plain, last) for array in attended(each, count))]

    cache, tokens = PrefixCache(BIG), list(range(50))
    owned = layers()
    mx.random.seed(0)
    whole = fill(owned, 50)
    assert can_cut(owned)
    cache.insert("", tokens, owned)
    branch = layers()
    fill(branch, 70)
    cache.insert("", [*tokens[:20], *tokens], branch)
    match = found(cache, [*tokens[:30], 0])
    assert match.length == 30
    assert [type(layer) for layer in match.cache] == [CacheList, KVCache, CacheList]
    for mine, theirs in zip(fill(match.cache, 1), whole, strict=True):
        assert mx.array_equal(mine[..., :30, :], theirs[..., :30, :])


def test_keys_do_not_share(llama: Module) -> None:
    """What was inserted under one LoRA and salt is not found, nor refreshed, under another."""
    known = words(50)
    cache = PrefixCache(BIG)
    cache.insert(("", "salt"), known, prefilled(llama, known))
    for key in [("", ""), ("salt", ""), ("lora", "salt"), None]:
        assert cache.peek(key, known) == 0
        assert cache.match(key, known) is None
    assert cache.peek(("", "salt"), known) == 49


def test_an_exact_hit_leaves_a_token(llama: Module) -> None:
    """A prompt that is known in full gives all but its last token, and a prompt of one token nothing."""
    known = words(50)
    cache = PrefixCache(BIG)
    cache.insert("", known, prefilled(llama, known))
    match = found(cache, known)
    assert match.length == 49
    assert continued(llama, known[49:], match.cache) == continued(llama, known, make_prompt_cache(llama))
    assert cache.match("", known[:1]) is None
    assert cache.match("", []) is None
    assert cache.peek("", []) == 0


def test_shared_prefixes_are_held_once(llama: Module) -> None:
    """A hundred conversations over one system prompt take its bytes once, and what is known takes none."""
    system = words(200)
    cache = PrefixCache(BIG)
    for number in range(100):
        tokens = [*system, number, *words(9, seed=number)]
        owned = prefilled(llama, tokens)
        for _ in range(2):
            cache.insert("", tokens, owned)
        cache.insert("", tokens[:150], prefilled(llama, tokens[:150]))
    assert cache.nbytes == (200 + 100 * 10) * TOKEN_BYTES
    assert len(cache) == 101


def test_the_bytes_counted_are_those_that_are_held(llama: Module, exact: None) -> None:
    """Through growing, splitting and dropping MLX has just the counted bytes more than at first; none after clear."""
    rows = [[*words(120)[:cut], *words(60, seed=cut)] for cut in (0, 3, 100, 57, 58, 120)]
    start = settled()
    cache = PrefixCache(BIG)
    for row in rows:
        cache.insert("", row, prefilled(llama, row))
        cache.match("", row)
        assert settled() - start == cache.nbytes
    while cache.nbytes:
        cache.shrink(cache.nbytes - 1)
        assert settled() - start == cache.nbytes
    cache.insert("", rows[0], prefilled(llama, rows[0]))
    cache.insert("salt", rows[1], prefilled(llama, rows[1]))
    entries, held = len(cache), cache.nbytes
    assert settled() - start == held
    assert cache.clear() == (entries, held)
    assert (len(cache), cache.nbytes) == (0, 0)
    assert settled() == start


def test_the_bytes_of_snapshots_are_those_that_are_held(uncuttable: Module, exact: None) -> None:
    """MLX has just the counted bytes more than at first, whatever the snapshots were views of."""
    start = settled()
    cache = PrefixCache(BIG)
    for length in (5, 40, 30):
        owned = make_prompt_cache(uncuttable)
        continued(uncuttable, words(length), owned, count=1)
        cache.insert("", words(length), owned)
        del owned
        cache.match("", words(41))
        assert settled() - start == cache.nbytes
    assert cache.clear()[0] == 3
    assert settled() == start


@pytest.mark.parametrize("kind", ["gemma", "sliding"])
def test_a_snapshot_takes_no_room_for_more(kind: str) -> None:
    """Five tokens take the bytes of five, though caches grow by 256."""
    model = tiny.build(CONFIGS[kind])
    cache = PrefixCache(BIG)
    cache.insert("", words(5), prefilled(model, words(5)))
    assert cache.nbytes == 5 * TOKEN_BYTES


def test_a_short_piece_of_a_single_head_does_not_hold_its_owner(exact: None) -> None:
    """Keys of one head are contiguous in any slice, and are copied all the same."""
    start = settled()
    owned = KVCache()  # type: ignore[no-untyped-call]
    mx.eval(attended(owned, 40, heads=1, width=8))
    cache = PrefixCache(BIG)
    cache.insert("", list(range(40)), [owned])
    cache.insert("", [0, 1, *range(60, 98)], [owned])
    del owned
    assert cache.nbytes == 78 * 2 * 8 * 4
    assert settled() - start == cache.nbytes


def test_the_least_recently_used_goes_first_and_from_the_end(llama: Module) -> None:
    """A system prompt outlives the turns on it, and a turn that was matched one that was not."""
    system = words(50)
    turns = [[*system, number, *words(19, seed=number)] for number in range(3)]
    cache = PrefixCache(BIG)
    for turn in turns:
        cache.insert("", turn, prefilled(llama, turn))
    cache.match("", [*turns[0], 1])
    assert [cache.peek("", [*turn, 1]) for turn in turns] == [70, 70, 70]
    left = []
    while cache.nbytes:
        cache.shrink(cache.nbytes - 1)
        left.append([cache.peek("", [*turn, 1]) for turn in turns])
    assert left == [[70, 50, 70], [70, 50, 50], [50, 50, 50], [0, 0, 0]]


def test_peeking_refreshes_nothing(llama: Module) -> None:
    """An entry that was only looked at goes before a newer one."""
    old, new = words(20), words(20, seed=1)
    cache = PrefixCache(BIG)
    for tokens in (old, new):
        cache.insert("", tokens, prefilled(llama, tokens))
    assert cache.peek("", [*old, 1]) == 20
    cache.shrink(20 * TOKEN_BYTES)
    assert [cache.peek("", [*tokens, 1]) for tokens in (old, new)] == [0, 20]


def test_snapshots_that_nobody_matches_go_first(uncuttable: Module) -> None:
    """An early boundary that prompts still meet outlives a later one that they do not."""
    known = words(40)
    cache = PrefixCache(BIG)
    for length in (20, 30, 40):
        cache.insert("", known[:length], prefilled(uncuttable, known[:length]))
    cache.match("", [*known[:20], VOCAB - 1, 1])
    cache.shrink(cache.nbytes - 1)
    assert [cache.peek("", known[: length + 1]) for length in (20, 30)] == [20, 20]
    assert cache.peek("", [*known, 1]) == 40


def test_an_insert_makes_the_room_that_it_needs(llama: Module) -> None:
    """The bound holds after every insert, at the cost of the oldest, and a lower one holds at once."""
    cache = PrefixCache(100 * TOKEN_BYTES)
    rows = [words(40, seed=number) for number in range(5)]
    for row in rows:
        cache.insert("", row, prefilled(llama, row))
        assert cache.nbytes <= cache.max_bytes
    assert [cache.peek("", [*row, 1]) for row in rows] == [0, 0, 0, 40, 40]
    cache.max_bytes = 40 * TOKEN_BYTES
    assert [cache.peek("", [*row, 1]) for row in rows] == [0, 0, 0, 0, 40]
    cache.shrink(-1)
    assert len(cache) == 0


def test_what_an_insert_stands_on_does_not_make_room_for_it(llama: Module) -> None:
    """A turn that just fits with its own prefix drops the rest of the bound, and keeps that."""
    system = words(50)
    first, second = [*system, *words(30, seed=1)], [*system, *words(50, seed=2)]
    cache = PrefixCache(100 * TOKEN_BYTES)
    cache.insert("", first, prefilled(llama, first))
    cache.insert("", second, prefilled(llama, second))
    assert cache.nbytes == 100 * TOKEN_BYTES
    assert found(cache, [*second, 1]).length == 100
    assert cache.peek("", [*first, 1]) == 50


def test_what_cannot_fit_pushes_nothing_out(llama: Module) -> None:
    """An entry larger than the bound, its known prefix counted, is not kept, and the others stay."""
    small, large = words(40), [*words(40), *words(61, seed=1)]
    cache = PrefixCache(100 * TOKEN_BYTES)
    cache.insert("", small, prefilled(llama, small))
    cache.insert("", large, prefilled(llama, large))
    assert (len(cache), cache.peek("", large)) == (1, 40)
    cache.insert("", large[:100], prefilled(llama, large[:100]))
    assert (len(cache), cache.peek("", large)) == (2, 100)


def test_a_snapshot_that_cannot_fit_pushes_nothing_out(uncuttable: Module) -> None:
    """A bound below its bytes keeps what was there before."""
    cache = PrefixCache(BIG)
    cache.insert("", words(5), prefilled(uncuttable, words(5)))
    large = make_prompt_cache(uncuttable)
    for layer in large:
        for each in range(2) if isinstance(layer, ArraysCache) else ():
            layer[each] = mx.zeros((1, 1000, 64))
    if not isinstance(large[0], ArraysCache):
        read(uncuttable, words(500), large)
    cache.max_bytes = cache.nbytes
    cache.insert("", words(500), large)
    assert cache.peek("", words(6)) == 5
    assert len(cache) == 1


def test_no_bytes_keep_nothing(llama: Module) -> None:
    """A cache of no size takes inserts and finds nothing; nor is a prompt without tokens kept."""
    cache = PrefixCache(0)
    cache.insert("", words(5), prefilled(llama, words(5)))
    cache.max_bytes = BIG
    cache.insert("", [], make_prompt_cache(llama))
    assert (len(cache), cache.nbytes, cache.clear()) == (0, 0, (0, 0))


def test_a_cache_of_other_tokens_is_refused(llama: Module) -> None:
    """A cache that holds more or fewer tokens than it is said to is an error, and nothing is kept of it."""
    cache = PrefixCache(BIG)
    for length in (4, 6):
        with pytest.raises(ValueError, match="a cache of 5 tokens"):
            cache.insert("", words(length), prefilled(llama, words(5)))
    assert len(cache) == 0


prompts = st.lists(st.integers(0, 2), min_size=1, max_size=12)
actions = st.lists(
    st.tuples(st.sampled_from(["insert", "insert", "match", "shrink"]), st.sampled_from(["a", "b"]), prompts),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(actions, st.booleans(), st.integers(1, 60))
def test_what_is_found_is_what_those_tokens_left(taken: list[tuple[str, str, list[int]]], cut: bool, room: int) -> None:
    """Whatever came before: a match has its own key's keys and values of just these tokens, and the bound holds."""
    per_token = 16 if cut else 8
    cache = PrefixCache(room * per_token)
    inserted: set[tuple[str, tuple[int, ...]]] = set()
    for action, key, tokens in taken:
        if action == "insert":
            cache.insert(key, tokens, _spelt(key, tokens, cut=cut))
            inserted.add((key, tuple(tokens)))
        elif action == "shrink":
            cache.shrink(cache.nbytes // 2)
        size = cache.peek(key, tokens)
        match = cache.match(key, tokens)
        assert size == (match.length if match else 0) < len(tokens)
        assert cache.nbytes <= cache.max_bytes
        if match:
            length = max(len(_shared(tokens, other)) for owner, other in inserted if owner == key)
            assert size <= length if cut else (key, tuple(tokens[:size])) in inserted
            want = _spelt(key, tokens[:size], cut=cut)
            for mine, theirs in zip(match.cache, want, strict=True):
                assert type(mine) is type(theirs)
                assert mine.offset == size
                assert mine.keys_and_values()[0].tolist() == theirs.keys_and_values()[0].tolist()
                assert mine.keys_and_values()[1].tolist() == theirs.keys_and_values()[1].tolist()


def _spelt(key: str, tokens: Sequence[int], *, cut: bool) -> list[LayerCache]:
    """Make caches, two that can be cut or one that cannot, whose keys and values are the tokens and the key."""
    layers: list[LayerCache] = (
        [KVCache(), KVCache()] if cut else [RotatingKVCache(max_size=100)]  # type: ignore[no-untyped-call]
    )
    for layer in layers:
        spelt = mx.array([[[[float(token)] for token in tokens]]])
        layer.update_and_fetch(spelt, spelt + ord(key))
    return layers


def _shared(left: Sequence[int], right: Sequence[int]) -> Sequence[int]:
    size = min(len(left), len(right))
    return next((left[:place] for place in range(size) if left[place] != right[place]), left[:size])


def test_what_a_key_had_is_dropped_with_it(llama: Module) -> None:
    """With its bytes, pieces of it that are shared too; the other keys keep theirs and make room as before."""
    cache = PrefixCache(300 * TOKEN_BYTES)
    known = words(60)
    for key in ((1, ""), (1, "salt"), (2, "")):
        for prompt in (known, [*known[:40], *words(10, seed=1)]):
            cache.insert(key, prompt, prefilled(llama, prompt))
    before = cache.nbytes
    cache.drop(lambda key: isinstance(key, tuple) and key[0] == 1)
    assert [cache.peek((lora, salt), [*known, 1]) for lora, salt in ((1, ""), (1, "salt"), (2, ""))] == [0, 0, 60]
    assert cache.nbytes * 3 == before
    cache.insert((1, ""), known, prefilled(llama, known))
    assert cache.peek((1, ""), [*known, 1]) == 60
    assert cache.clear()[1] == before // 3 + 60 * TOKEN_BYTES
    assert (len(cache), cache.nbytes) == (0, 0)
