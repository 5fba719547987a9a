"""A request for the tokens that follow a prompt."""

import msgspec


class Sampling(msgspec.Struct, frozen=True, array_like=True):
    """How a sequence's tokens are drawn, with every default filled in. `top_k` 0 is off."""

    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] = {}


class Thinking(msgspec.Struct, frozen=True, array_like=True):
    """A bound on a sequence's reasoning, in token ids: after `budget` tokens of it, `ending` is put in its place.

    Reasoning begins with `opening`, at the start of the output or after some of `blanks`, unless the prompt has left it
    `is_open`; the model ends it by itself with `closing`.
    """

    budget: int
    opening: list[int]
    closing: list[int]
    ending: list[int]
    is_open: bool = False
    blanks: list[int] = []


class Submit(msgspec.Struct, frozen=True, array_like=True, tag="submit"):
    """Starts a sequence for each of `choices`.

    Each ends after `max_tokens` tokens, or at one of `stop_ids` once it has `min_tokens`. A `max_tokens` of 0 processes
    the prompt only.
    """

    seq: int
    prompt: list[int]
    sampling: Sampling
    max_tokens: int
    min_tokens: int = 0
    stop_ids: list[int] = []
    choices: int = 1
    """All draw by the same settings and seed, each from a random stream of its own."""
    logprobs: int = -1
    """How many alternatives come with the log-probability of each token; below 0 for no log-probabilities."""
    prompt_logprobs: int = -1
    """The same for the tokens of the prompt."""
    priority: int = 0
    """Higher is admitted first."""
    caller: str = ""
    """Callers of one priority get equal shares."""
    deadline: float | None = None
    """On the monotonic clock, in seconds. A sequence that cannot start in time ends with "deadline"."""
    salt: str = ""
    """Prefixes are shared inside one salt."""
    bypass: bool = False
    """Neither reads nor writes the prefix cache."""
    boundaries: list[int] = []
    """Lengths of prefixes that other prompts are likely to share, ascending, for caches that cannot be cut anywhere."""
    report: bool = False
    """Whether places in the queue are told."""
    grammar: str = ""
    """What the output must be, reasoning and tool calls included: a grammar of llguidance, in Lark or as its JSON."""
    thinking: Thinking | None = None
    lora: str = ""
    """The name of a LoRA that has been loaded; empty for none."""
