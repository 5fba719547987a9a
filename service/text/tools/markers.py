"""Looking for markers in text whose end may be the beginning of one."""

import re
from functools import lru_cache


class Markers:
    """Some markers, none of which begins another."""

    def __init__(self, *texts: str) -> None:
        self._pattern = re.compile("|".join(map(re.escape, texts)) or r"(?!)")
        self._beginnings = tuple({text[:size] for text in texts for size in range(1, len(text))})
        self._longest = max(map(len, texts), default=0)

    def find(self, text: str, start: int) -> tuple[int, str]:
        """Where in `text[start:]` the first marker is, and which; or "" and where the end is that may become one."""
        found = self._pattern.search(text, start)
        if found:
            return found.start(), found[0]
        end = len(text)
        if text.endswith(self._beginnings, start):
            for size in range(min(self._longest, end - start), 0, -1):
                if text[end - size :] in self._beginnings:
                    return end - size, ""
        return end, ""


@lru_cache(maxsize=256)
def markers(*texts: str) -> Markers:
    """Return the same object for the same markers."""
    return Markers(*texts)
