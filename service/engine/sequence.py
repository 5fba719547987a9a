"""One running continuation of one prompt."""

from dataclasses import dataclass, field
from typing import Any

from service.engine.frames import Submit
from service.engine.sampling import Sampler

LayerCache = Any
"""One of mlx-lm's KV caches; the library has no common type for them."""


@dataclass(eq=False, slots=True)
class Sequence:
    """What the engine knows of a sequence. `cache` holds a KV cache a layer until the sequence joins the batch."""

    submit: Submit
    sampler: Sampler
    cache: list[LayerCache] | None = None
    prefilled: int = 0
    """Tokens of the prompt whose keys and values are in the cache."""
    generated: int = 0
    last_token: int = -1
    """The token that the next step reads."""
    admitted: float = 0.0
    """When its first chunk began, in seconds of the monotonic clock."""
    stop_ids: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        self.stop_ids = frozenset(self.submit.stop_ids)
        self.last_token = self.submit.prompt[-1]

    @property
    def to_prefill(self) -> int:
        """Prompt tokens still to process. The last one is left: the first decode step reads it."""
        return len(self.submit.prompt) - 1 - self.prefilled

    @property
    def processed(self) -> int:
        """Prompt tokens done, the one that the first decode step reads counted with the last chunk."""
        return self.prefilled if self.to_prefill else len(self.submit.prompt)

    @property
    def banned(self) -> list[int]:
        """Token ids that may not come next."""
        return self.submit.stop_ids if self.generated < self.submit.min_tokens else []

    @property
    def takes_argmax(self) -> bool:
        """Whether its next token is simply the likeliest."""
        return self.sampler.is_argmax and not self.banned

    def append(self, token: int) -> str | None:
        """Take a drawn token; the finish reason if it was the last."""
        self.last_token = token
        self.generated += 1
        self.sampler.observe(token)
        if token in self.stop_ids:
            return "stop"
        return "length" if self.generated >= self.submit.max_tokens else None
