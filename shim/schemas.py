"""What the shim reads of OpenAI's requests: JSON types only, since ranges are the service's to judge.

Null means the default everywhere, and unknown fields are ignored.
"""

from typing import Annotated, ClassVar

from pydantic import Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from shim import relations, unserved
from shim.conversation import Message
from shim.fields import (
    Alternatives,
    AtMost,
    Bias,
    Choices,
    Count,
    Effort,
    Fields,
    Int32,
    Int64,
    MinP,
    Penalty,
    Positive,
    Prompts,
    RepetitionPenalty,
    Salt,
    Stops,
    Temperature,
    TokenIds,
    TopP,
    told,
)
from shim.formats import ConstrainedFields
from shim.relations import Relation
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
    relations: ClassVar[tuple[Relation, ...]]
    """What one field says of another, which the document tells too."""

    model: str = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    seed: Int64 | None = None
    max_tokens: Count | None = None
    stop: Stops | None = None
    user: str | None = None
    prompt_cache_key: Salt | None = None
    # Extensions, under the names that other open servers give them.
    top_k: Count | None = None
    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    min_tokens: Count | None = None
    ignore_eos: bool | None = None
    stop_token_ids: TokenIds | None = None
    include_stop: bool | None = None
    include_stop_str_in_output: bool | None = None
    priority: Int32 | None = None

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe what nothing serves, and the relations, beside the fields."""
        made = handler(schema)
        body = handler.resolve_ref_schema(made)
        body["properties"] |= unserved.described(cls.unserved)
        if cls.relations:
            body["allOf"] = [relation.described() for relation in cls.relations]
        return made


class Reasoning(Fields):
    """How much the model should think before it answers, and for how many tokens at most."""

    effort: Effort | None = None
    max_tokens: Count | None = None


class ChatRequest(GenerationRequest):
    """The body of POST /v1/chat/completions."""

    unserved: ClassVar[Unserved] = unserved.CHAT
    relations: ClassVar[tuple[Relation, ...]] = relations.CHAT

    messages: Annotated[list[Message], Field(fail_fast=True), told(minItems=1), AtMost(4096)]
    max_tokens: Positive | None = None
    """Counts where max_completion_tokens says nothing."""
    max_completion_tokens: Positive | None = None
    logprobs: bool | None = None
    top_logprobs: Alternatives | None = None
    tools: Annotated[list[Tool], Field(fail_fast=True), AtMost(1024)] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    # Extensions.
    reasoning: Reasoning | None = None
    thinking_budget: Count | None = None
    chat_template_kwargs: dict[str, object] | None = None


class TypedChatRequest(ChatRequest):
    """The body of POST /api/chat/completions; `stream` says nothing here, since the answer is always one."""

    unserved: ClassVar[Unserved] = unserved.TYPED
    relations: ClassVar[tuple[Relation, ...]] = ()


class CompletionRequest(GenerationRequest):
    """The body of POST /v1/completions."""

    unserved: ClassVar[Unserved] = unserved.COMPLETIONS
    relations: ClassVar[tuple[Relation, ...]] = relations.COMPLETIONS

    prompt: Prompts
    echo: bool | None = None
    logprobs: Alternatives | None = None
    best_of: Choices | None = None
    suffix: str | None = None
