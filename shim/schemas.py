"""What the shim reads of OpenAI's requests: JSON types only, since ranges are the service's to judge.

Null means the default everywhere, and unknown fields are ignored.
"""

from typing import ClassVar

from pydantic import Field

from shim import unserved
from shim.conversation import Message
from shim.fields import Bias, Fields, Int32, Int64, Prompts, Stops
from shim.formats import ConstrainedFields
from shim.tools import Choice, Tool
from shim.unserved import Unserved


class StreamOptions(Fields):
    """What a stream holds beside the answer. Nothing is obfuscated, which padding would only make longer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class GenerationRequest(ConstrainedFields):
    """The fields that chat and completions share."""

    unserved: ClassVar[Unserved]
    """Fields that are refused, unless they say what is so anyway."""

    model: str = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Int32 | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Bias | None = None
    seed: Int64 | None = None
    max_tokens: Int32 | None = None
    stop: Stops | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    # Extensions, under the names that other open servers give them.
    top_k: Int32 | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: Int32 | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[Int32] | None = Field(None, fail_fast=True)
    include_stop: bool | None = None
    include_stop_str_in_output: bool | None = None
    priority: Int32 | None = None


class Reasoning(Fields):
    """How much the model should think before it answers, and for how many tokens at most."""

    effort: str | None = None
    max_tokens: Int32 | None = None


class ChatRequest(GenerationRequest):
    """The body of POST /v1/chat/completions."""

    unserved: ClassVar[Unserved] = unserved.CHAT

    messages: list[Message] = Field(fail_fast=True, json_schema_extra={"minItems": 1})
    max_completion_tokens: Int32 | None = None
    logprobs: bool | None = None
    top_logprobs: Int32 | None = None
    tools: list[Tool] | None = Field(None, fail_fast=True)
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    # Extensions.
    reasoning: Reasoning | None = None
    thinking_budget: Int32 | None = None
    chat_template_kwargs: dict[str, object] | None = None


class TypedChatRequest(ChatRequest):
    """The body of POST /api/chat/completions; `stream` says nothing here, since the answer is always one."""

    unserved: ClassVar[Unserved] = unserved.TYPED


class CompletionRequest(GenerationRequest):
    """The body of POST /v1/completions."""

    unserved: ClassVar[Unserved] = unserved.COMPLETIONS

    prompt: Prompts
    echo: bool | None = None
    logprobs: Int32 | None = None
    best_of: Int32 | None = None
    suffix: str | None = None
