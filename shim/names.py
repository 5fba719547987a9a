"""What a client means by the name of a model: an alias of the service, or `base:lora`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from grpc import StatusCode, aio

SEPARATOR = ":"
_FRESH_S = 10.0
"""How long an alias with a colon may be new before it wins over a LoRA of the same name."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Named:
    """A model's alias, and the name of a LoRA on it, which is empty for none."""

    model: str
    lora: str = ""


@dataclass(frozen=True, slots=True)
class _Listing:
    """The aliases at a moment of the monotonic clock."""

    aliases: Collection[str]
    at: float

    def read(self, name: str) -> Named:
        """Take a name for a LoRA where it is no alias and begins with one."""
        split = split_name(name)
        return split if split and name not in self.aliases and split.model in self.aliases else Named(name)


def split_name(name: str) -> Named | None:
    """Take a name apart, at its last colon since a LoRA's name has none; None where it cannot be a LoRA's."""
    model, _, lora = name.rpartition(SEPARATOR)
    return Named(model, lora) if model and lora else None


class Names:
    """Reads names, for which it looks at the aliases only where a name has a colon, and then rarely."""

    def __init__(self, aliases: Callable[[], Awaitable[Collection[str]]]) -> None:
        """`aliases` asks the service."""
        self._aliases = aliases
        self._listing: _Listing | None = None
        self._lock = asyncio.Lock()

    async def ask(self, name: str, attempt: Callable[[Named], Awaitable[T]]) -> T:
        """Make the attempt with what a name means; again where NOT_FOUND comes of aliases that are not those of now.

        Raises aio.AioRpcError as the attempt does, and where the aliases cannot be had.
        """
        if split_name(name) is None:
            return await attempt(Named(name))
        listing = await self._current()
        named = listing.read(name)
        try:
            return await attempt(named)
        except aio.AioRpcError as error:
            if error.code() is not StatusCode.NOT_FOUND:
                raise
            again = (await self._newer(listing)).read(name)
            if again == named:
                raise
        return await attempt(again)

    async def _current(self) -> _Listing:
        listing = self._listing
        if listing is None or time.monotonic() - listing.at > _FRESH_S:
            return await self._newer(listing)
        return listing

    async def _newer(self, known: _Listing | None) -> _Listing:
        """Ask for the aliases, once for all that know the same ones."""
        async with self._lock:
            listing = self._listing
            if listing is None or listing is known:
                listing = self._listing = _Listing(await self._aliases(), time.monotonic())
            return listing
