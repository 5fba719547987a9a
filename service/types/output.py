"""What is returned beside the text."""

from dataclasses import dataclass

from service.errors import InvalidField
from service.types.bounds import MAX_TOP_LOGPROBS
from service.types.checks import within


@dataclass(frozen=True, slots=True)
class Output:
    """What to return beside the text. `top_logprobs` and `prompt_logprobs` count alternatives."""

    logprobs: bool = False
    top_logprobs: int = 0
    prompt_logprobs: int | None = None
    """None is no log-probabilities of the prompt."""
    token_ids: bool = False
    echo: bool = False
    progress: bool = False

    def __post_init__(self) -> None:
        within("top_logprobs", self.top_logprobs, 0, MAX_TOP_LOGPROBS)
        within("prompt_logprobs", self.prompt_logprobs, 0, MAX_TOP_LOGPROBS)
        if self.top_logprobs and not self.logprobs:
            raise InvalidField("top_logprobs", "needs logprobs")
