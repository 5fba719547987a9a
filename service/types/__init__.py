"""What a request asks for, in Python's types. A value that exists is inside its bounds."""

from service.types.ask import Ask
from service.types.bounds import (
    MAX_BIASED_TOKENS,
    MAX_CHOICES,
    MAX_DETOKENIZED,
    MAX_JSON,
    MAX_KWARGS,
    MAX_MESSAGES,
    MAX_OPTION,
    MAX_OPTIONS,
    MAX_PARTS,
    MAX_PATTERN,
    MAX_REQUEST_ID,
    MAX_SALT,
    MAX_STOP_LENGTH,
    MAX_STOP_STRINGS,
    MAX_STOP_TOKENS,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
)
from service.types.cache import Cache
from service.types.checks import check_count, check_tokens
from service.types.constraint import Constraint, Rule
from service.types.finish_reason import FinishReason
from service.types.message import Message, Role, ToolCall
from service.types.origin import Origin
from service.types.output import Output
from service.types.reasoning import Effort, Reasoning
from service.types.sampling import Sampling
from service.types.stopping import Stopping
from service.types.tools import Tool, ToolMode, ToolUse

__all__ = [
    "MAX_BIASED_TOKENS",
    "MAX_CHOICES",
    "MAX_DETOKENIZED",
    "MAX_JSON",
    "MAX_KWARGS",
    "MAX_MESSAGES",
    "MAX_OPTION",
    "MAX_OPTIONS",
    "MAX_PARTS",
    "MAX_PATTERN",
    "MAX_REQUEST_ID",
    "MAX_SALT",
    "MAX_STOP_LENGTH",
    "MAX_STOP_STRINGS",
    "MAX_STOP_TOKENS",
    "MAX_TOOLS",
    "MAX_TOP_LOGPROBS",
    "Ask",
    "Cache",
    "Constraint",
    "Effort",
    "FinishReason",
    "Message",
    "Origin",
    "Output",
    "Reasoning",
    "Role",
    "Rule",
    "Sampling",
    "Stopping",
    "Tool",
    "ToolCall",
    "ToolMode",
    "ToolUse",
    "check_count",
    "check_tokens",
]
