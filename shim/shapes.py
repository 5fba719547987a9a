"""The JSON objects that the shim answers with. They are what its OpenAPI document shows."""

from typing import Generic, Literal, NotRequired, TypeVar

# Of a class of the standard library's, pydantic cannot make a schema on Python 3.11.
from typing_extensions import TypedDict

FinishReason = Literal["stop", "length", "tool_calls"]
ObjectName = Literal["chat.completion", "chat.completion.chunk", "text_completion"]


class PromptDetails(TypedDict):
    """What is known about the prompt's tokens."""

    audio_tokens: int
    cached_tokens: int


class CompletionDetails(TypedDict):
    """What is known about the generated tokens."""

    accepted_prediction_tokens: int
    audio_tokens: int
    reasoning_tokens: int
    rejected_prediction_tokens: int


class Usage(TypedDict):
    """Token counts over all choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class FunctionDelta(TypedDict):
    """More of a called function; the name is in the first delta of a call only."""

    name: NotRequired[str]
    arguments: str


class ToolCallDelta(TypedDict):
    """More of a tool call; id and type are in its first delta only."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: FunctionDelta


class Function(TypedDict):
    """A called function, with its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A tool call."""

    id: str
    type: Literal["function"]
    function: Function


class Delta(TypedDict, total=False):
    """More of a chat message; the role is in its first delta only."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: str
    tool_calls: list[ToolCallDelta]


class TopLogprob(TypedDict):
    """A token that was likely, as text and as bytes, which need not be whole characters."""

    token: str
    logprob: float
    bytes: list[int]


class ChatLogprob(TopLogprob):
    """A token of a chat completion, with the likeliest ones at its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(TypedDict):
    """The tokens of a chat completion's text."""

    content: list[ChatLogprob]
    refusal: None


class TextLogprobs(TypedDict):
    """The tokens of a text completion, in lists of one length; offsets are in characters of its text."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class Indexed(TypedDict):
    """Anything of one choice; the finish reason is there once it has ended."""

    index: int
    finish_reason: FinishReason | None


class ChatDelta(Indexed):
    """More of a choice of a chat completion."""

    delta: Delta
    logprobs: ChatLogprobs | None


class Message(TypedDict):
    """A whole chat message."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    annotations: list[object]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]


class ChatChoice(TypedDict):
    """A whole choice of a chat completion."""

    index: int
    message: Message
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class TextChoice(Indexed):
    """A choice of a text completion, or more of one."""

    text: str
    logprobs: TextLogprobs | None


C = TypeVar("C")
D = TypeVar("D", bound=Indexed)


class Completion(TypedDict, Generic[C]):
    """A completion, or one chunk of its stream, with choices of type C."""

    id: str
    object: ObjectName
    created: int
    model: str
    system_fingerprint: str
    service_tier: NotRequired[Literal["default"]]
    choices: list[C]
    usage: NotRequired[Usage | None]
