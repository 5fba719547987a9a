"""Values by tokens, against a dictionary of all prefixes."""

from dataclasses import dataclass
from typing import Self

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.engine.radix_tree import RadixTree, pack

Words = tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """The tokens of an edge themselves, a byte each; of use with those above only."""

    tokens: Words
    is_whole = False

    @property
    def nbytes(self) -> int:
        return len(self.tokens)

    def cut(self, at: int, /) -> tuple[Self, Self]:
        return type(self)(self.tokens[:at]), type(self)(self.tokens[at:])


@dataclass(frozen=True)
class Whole:
    """All tokens down to a node; of use without those above."""

    tokens: Words
    is_whole = True

    @property
    def nbytes(self) -> int:
        return 1

    def cut(self, _at: int, /) -> tuple[None, Self]:
        return None, self


class Parts:
    """A tree that holds what is new of each sequence."""

    def __init__(self) -> None:
        self.tree: RadixTree[Part] = RadixTree()

    def insert(self, key: str, tokens: Words) -> None:
        path = self.tree.walk(key, pack(tokens))
        if path.length == len(tokens):
            self.tree.use(path.nodes[-1])
        else:
            self.tree.put(key, pack(tokens), Part(tokens[path.length :]))

    def match(self, key: str, tokens: Words) -> Words:
        """Read the values on the way down."""
        path = self.tree.walk(key, pack(tokens))
        if path.nodes:
            self.tree.use(path.nodes[-1])
        found = [token for node in path.nodes if node.value for token in node.value.tokens]
        return tuple(found[: path.length])


class NaiveParts:
    """The same as a dictionary: where each piece of a sequence ends, and when it was last used."""

    def __init__(self) -> None:
        self.ends: dict[tuple[str, Words], int] = {}
        self.clock = 0

    def prefixes(self) -> set[tuple[str, Words]]:
        return {(key, end[:size]) for key, end in self.ends for size in range(1, len(end) + 1)}

    def known(self, key: str, tokens: Words) -> Words:
        prefixes = self.prefixes()
        return tokens[: max((n for n in range(len(tokens) + 1) if (key, tokens[:n]) in prefixes), default=0)]

    def insert(self, key: str, tokens: Words) -> None:
        known = self.known(key, tokens)
        if known != tokens:
            if known:
                self.ends.setdefault((key, known), 0)
            self.ends[key, tokens] = 0
        self.match(key, tokens)

    def match(self, key: str, tokens: Words) -> Words:
        """Find the longest prefix; all pieces that have a token of it are used."""
        self.clock += 1
        known = self.known(key, tokens)
        for owner, end in self.ends:
            above = max((len(e) for k, e in self.ends if k == owner and e != end and end[: len(e)] == e), default=0)
            if owner == key and len(known) > above and end[: above + 1] == known[: above + 1]:
                self.ends[owner, end] = self.clock
        return known

    def drop_oldest(self) -> None:
        """Let the leaf go that was not used for longest."""
        leaves = [
            (key, end)
            for key, end in self.ends
            if not any(k == key and len(e) > len(end) and e[: len(end)] == end for k, e in self.ends)
        ]
        del self.ends[min(leaves, key=self.ends.__getitem__)]


sequences = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)
keys = st.sampled_from(["a", "b"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), keys, sequences),
        st.tuples(st.just("match"), keys, sequences),
        st.tuples(st.just("drop"), keys, sequences),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(steps)
def test_parts_are_kept_and_dropped_as_by_a_dictionary_of_all_prefixes(taken: list[tuple[str, str, Words]]) -> None:
    """After any inserts, matches and drops the tree knows the prefixes that the dictionary knows, each once."""
    real, naive = Parts(), NaiveParts()
    for action, key, tokens in taken:
        if action == "insert":
            real.insert(key, tokens)
            naive.insert(key, tokens)
        elif action == "match":
            assert real.match(key, tokens) == naive.match(key, tokens)
        elif naive.ends:
            real.tree.drop_oldest()
            naive.drop_oldest()
        assert (len(real.tree), real.tree.nbytes) == (len(naive.ends), len(naive.prefixes()))
        for owner, prefix in naive.prefixes():
            assert real.tree.walk(owner, pack(prefix)).length == len(prefix)


@settings(deadline=None)
@given(steps)
@example([("insert", "a", (0, 0)), ("insert", "a", (0,)), ("insert", "a", (0, 0, 0)), ("drop", "a", (0,))])
def test_wholes_are_kept_and_dropped_each_by_its_own_use(taken: list[tuple[str, str, Words]]) -> None:
    """Values that stand alone go in the order of their last use, wherever in the tree they are."""
    tree: RadixTree[Whole] = RadixTree()
    naive: dict[tuple[str, Words], None] = {}
    for action, key, tokens in taken:
        path = tree.walk(key, pack(tokens))
        nodes = [node for node in path.nodes if node.value is not None and node.end <= path.length]
        assert [node.value.tokens for node in nodes if node.value] == [
            tokens[:size] for size in range(len(tokens) + 1) if (key, tokens[:size]) in naive
        ]
        if action == "insert" and (key, tokens) not in naive:
            tree.put(key, pack(tokens), Whole(tokens))
            naive[key, tokens] = None
        elif action == "match" and nodes and nodes[-1].value:
            tree.use(nodes[-1])
            naive[key, nodes[-1].value.tokens] = naive.pop((key, nodes[-1].value.tokens))
        elif action == "drop" and naive:
            tree.drop_oldest()
            del naive[next(iter(naive))]
        assert len(tree) == tree.nbytes == len(naive)
        for owner, words in naive:
            assert any(node.value == Whole(words) for node in tree.walk(owner, pack(words)).nodes)
    while tree:
        tree.drop_oldest()
    assert not tree._tops


def test_a_sequence_without_end_is_no_deep_recursion() -> None:
    """A path of 5,000 nodes is cut, walked, used and dropped."""
    size = 5000
    known = Parts()
    tokens = tuple(range(size))
    known.insert("a", tokens)
    for end in range(size - 1, 0, -1):
        known.tree.cut(known.tree.walk("a", pack(tokens[:end])))
    assert len(known.tree) == size
    assert known.match("a", tokens) == tokens
    while known.tree:
        known.tree.drop_oldest()
    assert known.tree.nbytes == 0


def test_nothing_is_left_of_a_key_whose_values_are_gone() -> None:
    """Keys come and go with their values, so that a salt a request does not add up."""
    known = Parts()
    for number in range(100):
        known.insert(f"salt {number}", (1, 2, 3))
        known.insert(f"salt {number}", (1, 5))
        known.insert("", (1, 2, number))
    while known.tree:
        known.tree.drop_oldest()
    assert not known.tree._tops
    assert not known.tree._order


def test_edges_that_lost_their_branches_are_one_again() -> None:
    """Branches that came and went leave no nodes on the way to what stays."""
    tree: RadixTree[Whole] = RadixTree()
    tokens = tuple(range(50))
    for size in range(1, 50):
        branch = (*tokens[:size], 99)
        tree.put("a", pack(branch), Whole(branch))
    tree.put("a", pack(tokens), Whole(tokens))
    for _ in range(49):
        tree.drop_oldest()
    path = tree.walk("a", pack(tokens))
    assert [node.end for node in path.nodes] == [0, 50]
    assert path.nodes[-1].value == Whole(tokens)


@pytest.mark.parametrize("token", [0, 255, 256, 65_536, 2**31 - 1])
def test_tokens_that_share_bytes_are_told_apart(token: int) -> None:
    """Lengths are counted in whole tokens, whatever bytes two different ones have in common."""
    known = Parts()
    known.insert("a", (7, token, 1))
    other = token ^ (1 << 30)
    assert known.match("a", (7, other, 1)) == (7,)
    assert known.match("a", (7, token ^ 1, 1)) == (7,)
    assert known.match("a", (7, token, 256)) == (7, token)


def test_a_key_is_dropped_with_all_below_it() -> None:
    """Branches and what they share; other keys, and the order of what goes next, stay as they were."""
    parts = Parts()
    for key in ("a", "b"):
        for words in ((1, 2, 3, 4), (1, 2, 5), (6,)):
            parts.insert(key, words)
    tree = parts.tree
    assert tree.keys == ["a", "b"]
    tree.drop("a")
    assert tree.keys == ["b"]
    assert (len(tree), tree.nbytes) == (4, 6)
    assert parts.match("b", (1, 2, 5)) == (1, 2, 5)
    parts.insert("a", (1, 2))
    assert parts.match("a", (1, 2)) == (1, 2)
    while tree:
        tree.drop_oldest()
    assert (tree.keys, tree.nbytes) == ([], 0)
