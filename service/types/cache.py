"""The use of the prefix cache."""

from dataclasses import dataclass

from service.types.bounds import MAX_SALT
from service.types.checks import check_count


@dataclass(frozen=True, slots=True)
class Cache:
    """How the prefix cache may be used: prefixes are shared inside one `salt`."""

    salt: str = ""
    bypass: bool = False

    def __post_init__(self) -> None:
        check_count("salt", len(self.salt), MAX_SALT, "characters")
