"""When an answer ends."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import InvalidField
from service.types.bounds import MAX_STOP_LENGTH, MAX_STOP_STRINGS, MAX_STOP_TOKENS
from service.types.checks import at_least, check_count, check_tokens


@dataclass(frozen=True, slots=True)
class Stopping:
    """When a choice ends. `max_tokens` None is what the context leaves."""

    max_tokens: int | None = None
    min_tokens: int = 0
    stop: Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    include_stop: bool = False

    def __post_init__(self) -> None:
        at_least("max_tokens", self.max_tokens, 0)
        at_least("min_tokens", self.min_tokens, 0)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidField("min_tokens", f"must be at most max_tokens, {self.max_tokens}")
        check_count("stop", len(self.stop), MAX_STOP_STRINGS, "strings")
        check_count("stop_token_ids", len(self.stop_token_ids), MAX_STOP_TOKENS, "ids")
        for index, text in enumerate(self.stop):
            if not 1 <= len(text) <= MAX_STOP_LENGTH:
                raise InvalidField(f"stop[{index}]", f"must have 1 to {MAX_STOP_LENGTH} characters")

    def check_tokens(self, vocab_size: int) -> None:
        """Raise InvalidField for a token id outside the vocabulary."""
        check_tokens("stop_token_ids", self.stop_token_ids, vocab_size)
