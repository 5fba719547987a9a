"""What a request asks for, in Python's types. A value that exists is inside its bounds."""

import enum
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.errors import InvalidField

MAX_REQUEST_ID = 128
"""In characters."""
MAX_CHOICES = 128
MAX_TOP_LOGPROBS = 20
MAX_SALT = 256
"""In characters."""
# The bounds below are far above what anyone needs. They keep what a request costs before it is admitted small, since
# that time is taken from all others.
MAX_MESSAGES = 4096
MAX_PARTS = 16_384
"""Parts and tool calls of all messages together."""
MAX_TOOLS = 1024
MAX_JSON = 256 << 10
"""Characters of one schema or of one call's arguments."""
MAX_PATTERN = 64 << 10
"""Characters of a regular expression or a grammar."""
MAX_OPTIONS = 4096
"""Texts to choose from."""
MAX_OPTION = 4096
"""Characters of one of them."""
MAX_KWARGS = 64 << 10
"""Bytes of all variables for the template."""
MAX_STOP_TOKENS = 1024
MAX_BIASED_TOKENS = 16_384
MAX_DETOKENIZED = 1 << 20
"""Token ids in one call."""
MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 256
"""In characters."""

_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Role(enum.StrEnum):
    """Who speaks in a message, in the words of chat templates."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class FinishReason(enum.Enum):
    """Why a choice ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


class ToolMode(enum.Enum):
    """Whether tools may, must or must not be called."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"
    FUNCTION = "function"


class Effort(enum.StrEnum):
    """How much to think, from not at all upwards, in the words of chat templates."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Rule(enum.Enum):
    """How a constraint says what the text must look like; the values are the fields of the wire's message."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    REGEX = "regex"
    GRAMMAR = "grammar"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function call that the model made earlier; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. `content` is None only beside an assistant's tool calls or reasoning."""

    role: Role
    content: str | None
    name: str = ""
    tool_call_id: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is its JSON Schema as JSON text, empty if it has none.

    `strict`: automatic calls are held to the schema as well.
    """

    name: str
    description: str
    parameters: str
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of a request and how they are to be called; `name` is the function of ToolMode.FUNCTION."""

    tools: tuple[Tool, ...] = ()
    mode: ToolMode = ToolMode.NONE
    name: str = ""
    parallel: bool = True

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for index, tool in enumerate(self.tools):
            if not _TOOL_NAME.fullmatch(tool.name):
                raise InvalidField(
                    f"tools[{index}].name", "must have 1 to 64 letters, digits, underscores, hyphens and dots"
                )
            if tool.name in seen:
                raise InvalidField(f"tools[{index}].name", "is the name of an earlier tool")
            seen.add(tool.name)
        if self.is_forced and not self.tools:
            raise InvalidField("tool_choice.mode", "needs tools")
        if self.mode is ToolMode.FUNCTION and self.name not in seen:
            raise InvalidField("tool_choice.function_name", "must be the name of one of the tools")
        if self.mode is not ToolMode.FUNCTION and self.name:
            raise InvalidField("tool_choice.function_name", "is for TOOL_CHOICE_MODE_FUNCTION only")

    @property
    def is_forced(self) -> bool:
        """Whether the answer must be calls."""
        return self.mode in {ToolMode.REQUIRED, ToolMode.FUNCTION}

    @property
    def shown(self) -> tuple[Tool, ...]:
        """The tools that the model gets to see."""
        return () if self.mode is ToolMode.NONE else self.tools

    @property
    def callable(self) -> tuple[Tool, ...]:
        """Those of them that it may call."""
        return tuple(tool for tool in self.shown if self.mode is not ToolMode.FUNCTION or tool.name == self.name)

    @property
    def several(self) -> bool:
        """Whether one answer may hold several calls."""
        return self.parallel and self.mode is not ToolMode.FUNCTION


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How much the model should think before it answers; None for its own default.

    `budget` is in tokens; None is no bound.
    """

    effort: Effort | None = None
    budget: int | None = None

    def __post_init__(self) -> None:
        _at_least("budget", self.budget, 0)


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the text must look like: `text` is the schema, expression or grammar, or `options` are the choices."""

    rule: Rule
    text: str = ""
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rule in {Rule.REGEX, Rule.GRAMMAR} and not 1 <= len(self.text) <= MAX_PATTERN:
            raise InvalidField(self.rule.value, f"must have 1 to {MAX_PATTERN} characters")
        if self.rule is Rule.CHOICE:
            if not 1 <= len(self.options) <= MAX_OPTIONS:
                raise InvalidField("choice.options", f"must have 1 to {MAX_OPTIONS} texts")
            for index, option in enumerate(self.options):
                if not 1 <= len(option) <= MAX_OPTION:
                    raise InvalidField(f"choice.options[{index}]", f"must have 1 to {MAX_OPTION} characters")
            check_count("choice.options", sum(map(len, self.options)), MAX_JSON, "characters together")


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
        _within("temperature", self.temperature, 0, 2)
        _within("top_p", self.top_p, 0, 1, above=True)
        _at_least("top_k", self.top_k, 0)
        _within("min_p", self.min_p, 0, 1)
        _within("repetition_penalty", self.repetition_penalty, 0, 2, above=True)
        _within("frequency_penalty", self.frequency_penalty, -2, 2)
        _within("presence_penalty", self.presence_penalty, -2, 2)
        check_count("logit_bias", len(self.logit_bias), MAX_BIASED_TOKENS, "tokens")
        for token, bias in self.logit_bias.items():
            _within(f"logit_bias[{token}]", bias, -100, 100)

    def check_tokens(self, vocab_size: int) -> None:
        """Raise InvalidField for a token id outside the vocabulary."""
        for token in self.logit_bias:
            if not 0 <= token < vocab_size:
                raise InvalidField(f"logit_bias[{token}]", _outside(vocab_size))


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
        _at_least("max_tokens", self.max_tokens, 0)
        _at_least("min_tokens", self.min_tokens, 0)
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
        _within("top_logprobs", self.top_logprobs, 0, MAX_TOP_LOGPROBS)
        _within("prompt_logprobs", self.prompt_logprobs, 0, MAX_TOP_LOGPROBS)
        if self.top_logprobs and not self.logprobs:
            raise InvalidField("top_logprobs", "needs logprobs")


@dataclass(frozen=True, slots=True)
class Cache:
    """How the prefix cache may be used: prefixes are shared inside one `salt`."""

    salt: str = ""
    bypass: bool = False

    def __post_init__(self) -> None:
        check_count("salt", len(self.salt), MAX_SALT, "characters")


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

    def __post_init__(self) -> None:
        if len(self.request_id) > MAX_REQUEST_ID or not self.request_id.isprintable():
            raise InvalidField("request_id", f"must be at most {MAX_REQUEST_ID} printable characters")
        if not 1 <= self.n <= MAX_CHOICES:
            raise InvalidField("n", f"must be from 1 to {MAX_CHOICES}")
        scores = self.output.echo or self.output.prompt_logprobs is not None
        if self.stopping.max_tokens == 0 and not scores:
            raise InvalidField("stopping.max_tokens", "must be at least 1, unless the prompt is echoed or scored")


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asks, since when and until when. Times are in seconds of the monotonic clock."""

    caller: str
    arrived: float
    deadline: float | None = None


def check_count(name: str, count: int, most: int, of_what: str = "entries") -> None:
    """Raise InvalidField for more than `most`."""
    if count > most:
        raise InvalidField(name, f"must have at most {most} {of_what}")


def check_tokens(name: str, tokens: Sequence[int], vocab_size: int) -> None:
    """Raise InvalidField, naming the first of them, unless all `tokens` are ids of the vocabulary."""
    if not tokens or (min(tokens) >= 0 and max(tokens) < vocab_size):
        return
    index = next(index for index, token in enumerate(tokens) if not 0 <= token < vocab_size)
    raise InvalidField(f"{name}[{index}]", _outside(vocab_size))


def _outside(vocab_size: int) -> str:
    return f"must be a token id from 0 to {vocab_size - 1}"


def _within(name: str, value: float | None, low: float, high: float, *, above: bool = False) -> None:
    if value is None:
        return
    if not math.isfinite(value) or not low <= value <= high or (above and value == low):
        bounds = f"above {low} and at most {high}" if above else f"from {low} to {high}"
        raise InvalidField(name, f"must be a number {bounds}")


def _at_least(name: str, value: int | None, low: int) -> None:
    if value is not None and value < low:
        raise InvalidField(name, f"must be at least {low}")
