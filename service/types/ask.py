"""What Chat and Generate have in common."""

from dataclasses import dataclass, field

from service.errors import InvalidField
from service.types.bounds import MAX_CHOICES, MAX_REQUEST_ID
from service.types.cache import Cache
from service.types.constraint import Constraint
from service.types.output import Output
from service.types.sampling import Sampling
from service.types.stopping import Stopping


@dataclass(frozen=True, slots=True)
class Ask:
    """What both generating calls share. `n` is the number of choices; a higher `priority` is admitted first."""

    model: str
    request_id: str
    sampling: Sampling
    stopping: Stopping
    output: Output = field(default_factory=Output)
    cache: Cache = field(default_factory=Cache)
    n: int = 1
    priority: int = 0
    constraint: Constraint | None = None
    lora: str = ""
    """Name of the LoRA; empty is none."""

    def __post_init__(self) -> None:
        if len(self.request_id) > MAX_REQUEST_ID or not self.request_id.isprintable():
            raise InvalidField("request_id", f"must be at most {MAX_REQUEST_ID} printable characters")
        if not 1 <= self.n <= MAX_CHOICES:
            raise InvalidField("n", f"must be from 1 to {MAX_CHOICES}")
        scores = self.output.echo or self.output.prompt_logprobs is not None
        if self.stopping.max_tokens == 0 and not scores:
            raise InvalidField("stopping.max_tokens", "must be at least 1, unless the prompt is echoed or scored")
