"""How often an engine has died, and when it is worth another try."""

_PAUSES_S = (0.1, 0.5, 1.0, 2.0)
"""Before an engine is started again, while it keeps dying; after the next death it is not."""
STABLE_S = 30.0
"""An engine that has been ready for this long makes up for all deaths before."""


class Deaths:
    """Counts the deaths of a model's engines."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, ready_s: float) -> float | None:
        """Note the death of an engine that was ready for some seconds.

        The pause in seconds before the next one is started; None is the end of it.
        """
        self.count = 1 if ready_s >= STABLE_S else self.count + 1
        return _PAUSES_S[self.count - 1] if self.count <= len(_PAUSES_S) else None
