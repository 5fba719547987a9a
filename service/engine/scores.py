"""The log-probabilities of a step's tokens, for those that asked for them."""

from service.engine.drawing import Drawn
from service.engine.frames import Row


class Scores:
    """Puts them off until the device works on the next step, since they take a while to compute."""

    def __init__(self) -> None:
        self._missing: list[tuple[Row, Drawn]] = []

    def owe(self, row: Row, drawn: Drawn) -> None:
        """Note that a row lacks them, if it has a token and asked for them."""
        if drawn.logits is not None and row.tokens:
            self._missing.append((row, drawn))

    def forget(self) -> None:
        """Give up what a step that failed has left."""
        self._missing = []

    def add(self) -> None:
        """Give the rows what they lack."""
        for row, drawn in self._missing:
            if (logprob := drawn.logprob) is not None:
                row.logprobs.append(logprob)
        self._missing = []
