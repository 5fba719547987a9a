"""Values by the tokens that lead to them, with the least recently used ones first to go."""

from array import array
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

_WIDTH = array("i").itemsize
"""Bytes of a packed token."""


class Value(Protocol):
    """What a node holds for the tokens of its edge."""

    @property
    def is_whole(self) -> bool:
        """Whether it is of use without what the nodes above it hold."""
        ...

    @property
    def nbytes(self) -> int: ...

    def cut(self, at: int, /) -> tuple[Self | None, Self]:
        """What an upper node holds, and what is left below, when the edge is cut after `at` tokens."""
        ...


V = TypeVar("V", bound=Value)


@dataclass(eq=False, slots=True)
class Node(Generic[V]):
    """An edge and its lower end."""

    parent: "Node[V] | None"
    label: Hashable
    """What the parent knows it by: its first token, packed; the tree knows its top nodes by their keys."""
    tokens: bytes
    """The edge's own, packed: a comparison of two edges is one of memory. Empty in a top node."""
    end: int
    """Tokens from the top to here."""
    value: V | None = None
    children: dict[Hashable, "Node[V]"] = field(default_factory=dict)

    @property
    def start(self) -> int:
        """Tokens from the top to the parent."""
        return self.end - len(self.tokens) // _WIDTH


@dataclass(frozen=True, slots=True)
class Path(Generic[V]):
    """The nodes that hold the beginning of a sequence, from the top, and how many of its tokens that is.

    The last node's edge may go on with other tokens. Without nodes, the key is unknown.
    """

    nodes: list[Node[V]]
    length: int


class RadixTree(Generic[V]):
    """Sequences that begin alike share nodes. `nbytes` and `len` count the values that are held.

    A value that needs those above it keeps them: whatever is used, its ancestors count as used after it.
    """

    def __init__(self) -> None:
        self.nbytes = 0
        self._tops: dict[Hashable, Node[V]] = {}
        self._order: OrderedDict[Node[V], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._order)

    def walk(self, key: Hashable, tokens: bytes) -> Path[V]:
        """Follow packed `tokens` as far as they are known."""
        nodes: list[Node[V]] = []
        place = 0
        node = self._tops.get(key)
        while node is not None:
            nodes.append(node)
            if not tokens.startswith(node.tokens, place):
                place += _common(node.tokens, tokens[place : place + len(node.tokens)])
                break
            place += len(node.tokens)
            node = node.children.get(tokens[place : place + _WIDTH])
        return Path(nodes, place // _WIDTH)

    def cut(self, path: Path[V]) -> None:
        """Make a node end where the path does, and use it."""
        self.use(self._end(path))

    def put(self, key: Hashable, tokens: bytes, value: V) -> None:
        """Hold a value, and use it, at the end of `tokens`, where there is none yet."""
        path = self.walk(key, tokens)
        node = self._end(path) if path.nodes else self._add(None, key, b"")
        rest = tokens[node.end * _WIDTH :]
        if rest:
            node = self._add(node, rest[:_WIDTH], rest)
        self._hold(node, value)
        self.use(node)

    def use(self, node: Node[V]) -> None:
        """Make a node's value, and those that it needs, the last ones to go."""
        above: Node[V] | None = node
        while above is not None and above.value is not None:
            self._order.move_to_end(above)
            above = None if above.value.is_whole else above.parent

    @property
    def keys(self) -> list[Hashable]:
        """Those of which anything is known."""
        return list(self._tops)

    def drop(self, key: Hashable) -> None:
        """Let go of all values of a key."""
        below = [self._tops.pop(key)]
        while below:
            node = below.pop()
            below += node.children.values()
            if node.value is not None:
                self.nbytes -= node.value.nbytes
                del self._order[node]

    def drop_oldest(self) -> None:
        """Let go of the value that was not used for longest. No value needs it."""
        node, _ = self._order.popitem(last=False)
        if node.value is not None:
            self.nbytes -= node.value.nbytes
            node.value = None
        self._prune(node)

    def _add(self, parent: Node[V] | None, label: Hashable, tokens: bytes) -> Node[V]:
        siblings, start = (self._tops, 0) if parent is None else (parent.children, parent.end)
        node = siblings[label] = Node(parent, label, tokens, start + len(tokens) // _WIDTH)
        return node

    def _end(self, path: Path[V]) -> Node[V]:
        """The node that ends where the path does; a new one where that is within an edge."""
        lower = path.nodes[-1]
        return self._cut(lower, path.length - lower.start) if path.length < lower.end else lower

    def _cut(self, lower: Node[V], at: int) -> Node[V]:
        """Put a node into an edge, after `at` of its tokens."""
        head, tail = (None, None) if lower.value is None else lower.value.cut(at)
        upper = self._add(lower.parent, lower.label, lower.tokens[: at * _WIDTH])
        lower.tokens = lower.tokens[at * _WIDTH :]
        lower.parent, lower.label = upper, lower.tokens[:_WIDTH]
        upper.children[lower.label] = lower
        self._hold(lower, tail)
        self._hold(upper, head)
        return upper

    def _hold(self, node: Node[V], value: V | None) -> None:
        if node.value is not None:
            self.nbytes -= node.value.nbytes
        node.value = value
        if value is not None:
            self.nbytes += value.nbytes
            self._order.setdefault(node)

    def _prune(self, node: Node[V]) -> None:
        """Remove a node without a value where nothing branches, and what above it had been there for it alone."""
        while node.value is None and not node.children:
            if node.parent is None:
                del self._tops[node.label]
                return
            del node.parent.children[node.label]
            node = node.parent
        if node.value is None and node.parent is not None and len(node.children) == 1:
            [child] = node.children.values()
            child.tokens = node.tokens + child.tokens
            child.parent, child.label = node.parent, node.label
            node.parent.children[node.label] = child


def pack(tokens: Sequence[int]) -> bytes:
    """Tokens as the tree reads them."""
    return array("i", tokens).tobytes()


def _common(left: bytes, right: bytes) -> int:
    """Bytes of the tokens that two edges begin with."""
    size = min(len(left), len(right))
    differ = np.frombuffer(left[:size], np.intc) != np.frombuffer(right[:size], np.intc)
    return int(differ.argmax()) * _WIDTH if differ.any() else size
