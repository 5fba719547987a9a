"""What came of one call, whatever it went over."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Answer:
    """When a call's messages came. Times are readings of one clock, in seconds."""

    sent: float
    texts: Sequence[float]
    """When each message with text came; one may carry several tokens."""
    end: float
    tokens: int
    """As the server counted them; 0 for a call that was cancelled."""
    cached: int = 0
    """Tokens of the prompt that came from the prefix cache."""

    @property
    def first_token(self) -> float:
        """Seconds to the first text."""
        assert self.texts, "no text came"
        return self.texts[0] - self.sent

    @property
    def seconds(self) -> float:
        """Seconds to the end."""
        return self.end - self.sent

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Begin and end of each time without text, after the first."""
        return list(pairwise(self.texts))


def rate(answers: Sequence[Answer]) -> float:
    """Tokens a second of all answers together, from the first that was sent to the last end."""
    return sum(answer.tokens for answer in answers) / wall(answers)


def wall(answers: Sequence[Answer]) -> float:
    """Seconds from the first that was sent to the last end."""
    return max(answer.end for answer in answers) - min(answer.sent for answer in answers)


def complete(answers: Sequence[Answer], tokens: int) -> Sequence[Answer]:
    """The answers, each of which must have so many tokens."""
    counts = [answer.tokens for answer in answers]
    assert counts == [tokens] * len(answers), f"{tokens} tokens were asked of each, {counts} came"
    return answers
