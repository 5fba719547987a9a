"""A bound on a row's reasoning."""

from service.engine.frames import Thinking


class Budget:
    """Follows a row's output, and says what must come next once its reasoning has had its tokens."""

    def __init__(self, thinking: Thinking) -> None:
        self._opening = list(thinking.opening)
        self._blanks = thinking.blanks
        self._closing = thinking.closing
        self._ending = thinking.ending
        self._left = thinking.budget
        self._recent: list[int] = []
        """The last tokens of the reasoning, as many as the closing has."""
        self._forced: list[int] = []
        self._has_begun = False
        """Whether the first token of the opening is there."""
        self._is_open = False
        self._is_over = False
        if thinking.is_open or not self._opening:
            self._open()

    @property
    def due(self) -> list[int]:
        """All tokens that must come, in order."""
        return self._forced

    def postpone(self) -> None:
        """What must come cannot come here, as inside a character: it is due again after the next token."""
        self._forced = []

    @property
    def forced(self) -> int | None:
        """The token that must come next; None where any may."""
        return self._forced[0] if self._forced else None

    def observe(self, token: int) -> None:
        """Take a token of the output."""
        if self._is_over:
            return
        if self._forced:
            self._forced.pop(0)
            self._is_over = not self._forced
        elif self._is_open:
            self._think(token)
        elif token == self._opening[0]:
            self._opening.pop(0)
            self._has_begun = True
            if not self._opening:
                self._open()
        elif self._has_begun or token not in self._blanks:  # the output begins otherwise: there is no reasoning
            self._is_over = True

    def _open(self) -> None:
        self._is_open = True
        self._bound()

    def _think(self, token: int) -> None:
        self._left -= 1
        self._recent = [*self._recent, token][-max(1, len(self._closing)) :]
        if self._recent == self._closing:
            self._is_over = True
        else:
            self._bound()

    def _bound(self) -> None:
        """Where nothing is left, end it: with what is missing of a closing that has begun, or in the bound's way."""
        if self._left > 0:
            return
        begun = next((n for n in range(len(self._recent), 0, -1) if self._recent[-n:] == self._closing[:n]), 0)
        self._forced = list(self._closing[begun:] if begun else self._ending)
        self._is_over = not self._forced
