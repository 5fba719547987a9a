"""The wire's field paths, told in the names of OpenAI's API."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_RENAMED: list[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"(?:sampling|stopping|output)\.(\w+).*", r"\1"),
        (r"constraint\b.*", "response_format"),
        (r"reasoning\.budget", "thinking_budget"),
        (r"reasoning\b.*", "reasoning_effort"),
        (r"cache\b.*", "prompt_cache_key"),
        (r"tool_choice\b.*", "tool_choice"),
        (r"chat_template_kwargs\b.*", "chat_template_kwargs"),
        (r"(tools\[\d+\])\.parameters_json.*", r"\1.function.parameters"),
        (r"(tools\[\d+\])\.(\w+).*", r"\1.function.\2"),
        (r"(messages\[\d+\]\.content)\b.*", r"\1"),
        (r"(messages\[\d+\])\.reasoning", r"\1.reasoning_content"),
        (r"(messages\[\d+\]\.tool_calls\[\d+\])\.(name|arguments)", r"\1.function.\2"),
        (r"(?:text|token_ids|prompt)\b.*", "prompt"),
        (r"lora", "model"),
    )
]


@dataclass(frozen=True, slots=True)
class Params:
    """Names the fields of one request as its client sent them."""

    prompt: str
    """The field that holds the prompt."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names that this client used instead of the usual ones."""

    def name(self, path: str) -> str:
        """Turn a wire path such as `sampling.top_p` into the client's name."""
        for pattern, replacement in _RENAMED:
            if match := pattern.fullmatch(path):
                name = match.expand(replacement)
                return self.aliases.get(name, name)
        return self.aliases.get(path, path)
