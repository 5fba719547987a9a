"""Stop strings, found in a stream of text however it is cut."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache


@dataclass(slots=True, eq=False)
class _Node:
    """What the end of the text so far has in common with the stop strings: `depth` characters begin one."""

    depth: int = 0
    next: dict[str, "_Node"] = field(default_factory=dict)
    fallback: "_Node | None" = None
    stop: str | None = None
    """The longest stop string that ends here."""


# Shared by a request's choices, which may be 128. The largest has some 4,000 nodes.
@lru_cache(maxsize=16)
def _automaton(stops: tuple[str, ...]) -> _Node:
    """Aho and Corasick, "Efficient string matching", 1975."""
    root = _Node()
    for stop in stops:
        node = root
        for character in stop:
            node = node.next.setdefault(character, _Node(node.depth + 1))
        node.stop = stop
    level = list(root.next.values())
    for node in level:
        node.fallback = root
    while level:
        level = [child for node in level for child in _link(node, root)]
    return root


def _link(node: _Node, root: _Node) -> list[_Node]:
    for character, child in node.next.items():
        child.fallback = _follow(node.fallback or root, character)
        child.stop = child.stop or child.fallback.stop
    return list(node.next.values())


def _follow(node: _Node, character: str) -> _Node:
    while (found := node.next.get(character)) is None:
        if node.fallback is None:
            return node
        node = node.fallback
    return found


class StopMatcher:
    """Holds back what may become a stop string. The one complete first wins, of several the one that began first."""

    def __init__(self, stops: Sequence[str], *, include_stop: bool) -> None:
        """`include_stop` lets the stop string itself through."""
        self._node = self._root = _automaton(tuple(stops))
        self._include_stop = include_stop
        self._held = ""
        self.matched: str | None = None
        """The stop string that was found; nothing is let through after it."""

    def feed(self, text: str) -> str:
        """Return what is no part of a stop string, of `text` and of what was held back before."""
        if self.matched is not None:
            return ""
        if not self._root.next:
            return text
        held = self._held + text
        node = self._node
        for place, character in enumerate(text, start=len(self._held) + 1):
            node = _follow(node, character)
            if node.stop is not None:
                return self._stop(node.stop, held[:place])
        self._node = node
        cut = len(held) - node.depth
        self._held = held[cut:]
        return held[:cut]

    def flush(self) -> str:
        """Return what is held back; text that follows begins anew."""
        text, self._held, self._node = self._held, "", self._root
        return text

    def _stop(self, stop: str, text: str) -> str:
        self.matched, self._held = stop, ""
        return text if self._include_stop else text.removesuffix(stop)
