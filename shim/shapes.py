"""The JSON objects that the shim answers with."""

from typing import Generic, NotRequired, TypedDict, TypeVar


class PromptDetails(TypedDict):
    """What is known about the prompt's tokens."""

    cached_tokens: int


class CompletionDetails(TypedDict):
    """What is known about the generated tokens."""

    reasoning_tokens: int


class Usage(TypedDict):
    """Token counts over all choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class Function(TypedDict, total=False):
    """A called function; the name is in the first delta of a call only."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A tool call, or more of one; `index` is in deltas only."""

    index: NotRequired[int]
    id: NotRequired[str]
    type: NotRequired[str]
    function: Function


class Delta(TypedDict, total=False):
    """More of a chat message."""

    role: str
    content: str
    reasoning_content: str
    tool_calls: list[ToolCall]


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
    finish_reason: str | None


class ChatDelta(Indexed):
    """More of a choice of a chat completion."""

    delta: Delta
    logprobs: ChatLogprobs | None


class Message(TypedDict):
    """A whole chat message."""

    role: str
    content: str | None
    refusal: None
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]


class ChatChoice(TypedDict):
    """A whole choice of a chat completion."""

    index: int
    message: Message
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class TextChoice(Indexed):
    """A choice of a text completion, or more of one."""

    text: str
    logprobs: TextLogprobs | None


C = TypeVar("C")
D = TypeVar("D", bound=Indexed)


class Completion(TypedDict, Generic[C]):
    """A completion, or one chunk of its stream, with choices of type C."""

    id: str
    object: str
    created: int
    model: str
    choices: list[C]
    usage: NotRequired[Usage | None]
