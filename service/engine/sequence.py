"""One continuation of one prompt."""

import itertools
from dataclasses import dataclass, field
from typing import Any

from service.engine.constraint import Constraint
from service.engine.frames import Submit
from service.engine.mask import Mask
from service.engine.sampling import Sampler
from service.engine.thinking import Budget

LayerCache = Any
"""One of mlx-lm's KV caches; the library has no common type for them."""

_ages = itertools.count()


@dataclass(eq=False, slots=True)
class Sequence:
    """What the engine knows of a choice of a request. `cache` holds a KV cache a layer until it joins the batch."""

    submit: Submit
    choice: int = 0
    lora: int = 0
    """The number of its LoRA; 0 for none."""
    age: int = field(default_factory=_ages.__next__)
    """The lower, the longer it has been here."""
    tokens: list[int] = field(init=False)
    """The prompt and what was generated. The keys and values of all but the last are needed for the next step."""
    sampler: Sampler = field(init=False)
    stop_ids: frozenset[int] = field(init=False)
    budget: Budget | None = field(init=False)
    """The bound on its reasoning."""
    constraint: Constraint | None = None
    """Its grammar. One that has a grammar waits until this is there."""
    cache: list[LayerCache] | None = None
    prefilled: int = 0
    """Tokens whose keys and values are in `cache`."""
    cached: int = 0
    """Those of them that came from the prefix cache."""
    deferred: int = 0
    """Tokens of the prompt that its first decode step reads before the last one."""
    generated: int = 0
    multiplied: bool = False
    """Whether the other choices of its request have been made."""
    boundaries: list[int] = field(default_factory=list)
    """Lengths at which its prefill has to stop, since its cache is remembered there; ascending."""
    token_s: float = 0.0
    """What a token of its prompt took in its last chunk, in seconds: the more, the more come before. 0 if not known."""
    admitted: float = 0.0
    """When its first chunk began, in seconds of the monotonic clock; 0 before that."""

    def __post_init__(self) -> None:
        self.tokens = list(self.submit.prompt)
        self.sampler = Sampler(self.submit.sampling, self.submit.prompt, self.choice)
        self.stop_ids = frozenset(self.submit.stop_ids)
        self.budget = None if self.submit.thinking is None else Budget(self.submit.thinking)

    @property
    def length(self) -> int:
        """Tokens in the cache before the next step."""
        return len(self.tokens) - 1

    @property
    def to_prefill(self) -> int:
        """Tokens still to process. The last one is left: the next decode step reads it, and those that are deferred."""
        return self.length - self.prefilled

    @property
    def processed(self) -> int:
        """Tokens of the prompt that are done, those that the first decode step reads counted with the last chunk."""
        return self.prefilled if self.to_prefill > self.deferred else len(self.submit.prompt)

    @property
    def banned(self) -> list[int]:
        """Token ids that may not come next."""
        return self.submit.stop_ids if self.generated < self.submit.min_tokens else []

    @property
    def forced(self) -> int | None:
        """The token that must come next; None where there is a choice."""
        return None if self.budget is None else self.budget.forced

    @property
    def takes_likeliest(self) -> bool:
        """Whether its next token is the likeliest that may come."""
        return self.forced is not None or (self.sampler.is_argmax and (self.constraint is not None or not self.banned))

    @property
    def is_complete(self) -> bool:
        """Whether its grammar lets nothing follow."""
        return self.constraint is not None and self.constraint.is_complete

    @property
    def scores_prompt(self) -> bool:
        """Whether the log-probabilities of the prompt are still to be computed."""
        return self.submit.prompt_logprobs >= 0 and not self.generated

    @property
    def prefix_key(self) -> tuple[int, str]:
        """Who may share its prefixes: the LoRA and the salt."""
        return (self.lora, self.submit.salt)

    def sibling(self, choice: int) -> "Sequence":
        """Another choice of the same request, before its first token."""
        constraint = None if self.constraint is None else self.constraint.fresh()
        return Sequence(
            self.submit, choice, self.lora, self.age, admitted=self.admitted, cached=self.cached, constraint=constraint
        )

    def put_back(self) -> None:
        """Give up the keys and values; they are computed again later."""
        self.cache = None
        self.prefilled = self.deferred = 0

    def read(self) -> list[int]:
        """Take the tokens that a decode step reads: the last one, and those that were left for the first step."""
        tokens = self.tokens[-1 - self.deferred :]
        self.prefilled += self.deferred
        self.deferred = 0
        return tokens

    def mask(self) -> Mask | None:
        """Wait for which tokens its grammar lets come next; None where there is no grammar. Raises GrammarFailed."""
        if self.constraint is None:
            return None
        mask = self.constraint.mask()
        return mask.without(self.banned) if self.banned else mask

    def append(self, token: int) -> str | None:
        """Take a drawn token; the finish reason if it was the last. Raises GrammarFailed."""
        self.tokens.append(token)
        self.generated += 1
        self.sampler.observe(token)
        if token in self.stop_ids:
            return "stop"
        if self.budget is not None:
            self.budget.observe(token)
        if self.constraint is not None:
            self.constraint.consume(token)
            if self.constraint.is_complete:
                return "complete"
            if self.budget is not None and self.budget.due and not self.constraint.accepts(self.budget.due):
                self.budget.postpone()
        return "length" if self.generated >= self.submit.max_tokens else None
