"""The books of the memory for models: who has set how much aside."""

from collections.abc import Mapping
from types import MappingProxyType


class Budget:
    """Reservations by name, which together are never more than `total`. All figures are in bytes."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._reserved: dict[str, int] = {}

    @property
    def reserved(self) -> Mapping[str, int]:
        """What each has set aside."""
        return MappingProxyType(self._reserved)

    @property
    def free(self) -> int:
        """What nobody has set aside."""
        return self.total - sum(self._reserved.values())

    def reserve(self, name: str, amount: int) -> bool:
        """Set an amount aside for one that has none or another one; whether there was room. If not, nothing changes."""
        if amount < 0:
            raise ValueError(f"cannot reserve {amount} bytes")
        if amount - self._reserved.get(name, 0) > self.free:
            return False
        self._reserved[name] = amount
        return True

    def release(self, name: str) -> int:
        """Give back what one has set aside, if anything; how much that was."""
        return self._reserved.pop(name, 0)
