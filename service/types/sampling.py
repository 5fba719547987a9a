"""How tokens are drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.errors import InvalidField
from service.types.bounds import MAX_BIASED_TOKENS
from service.types.checks import at_least, check_count, outside, within


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. None is the model's own default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        within("temperature", self.temperature, 0, 2)
        within("top_p", self.top_p, 0, 1, above=True)
        at_least("top_k", self.top_k, 0)
        within("min_p", self.min_p, 0, 1)
        within("repetition_penalty", self.repetition_penalty, 0, 2, above=True)
        within("frequency_penalty", self.frequency_penalty, -2, 2)
        within("presence_penalty", self.presence_penalty, -2, 2)
        check_count("logit_bias", len(self.logit_bias), MAX_BIASED_TOKENS, "tokens")
        for token, bias in self.logit_bias.items():
            within(f"logit_bias[{token}]", bias, -100, 100)

    def check_tokens(self, vocab_size: int) -> None:
        """Raise InvalidField for a token id outside the vocabulary."""
        for token in self.logit_bias:
            if not 0 <= token < vocab_size:
                raise InvalidField(f"logit_bias[{token}]", outside(vocab_size))
