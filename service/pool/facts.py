"""What is known of a model once an engine has loaded it."""

from dataclasses import dataclass
from pathlib import Path

from service.adapters.chat_format import ChatFormat
from service.adapters.registry import get_adapter
from service.config import ModelConfig
from service.engine.frames import Loaded
from service.errors import ContextTooLong, InsufficientMemory
from service.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """All that a request needs of its model. `context_length` is in tokens, prompt and output together."""

    loaded: Loaded
    tokenizer: Tokenizer
    format: ChatFormat
    context_length: int

    @classmethod
    def of(cls, config: ModelConfig, loaded: Loaded, tokenizer: Tokenizer | None = None) -> "ModelFacts":
        """Put together what the engine said and what is configured; reads the tokenizer from disk unless it is given.

        Raises SetupError for a broken tokenizer or chat template.
        """
        tokenizer = tokenizer or Tokenizer.from_file(loaded.tokenizer_file)
        adapter = get_adapter(
            loaded.model_type,
            loaded.architectures,
            f"{config.name} {Path(config.source).name}",
            vocabulary=tokenizer,
            template=loaded.chat_template,
        )
        chat_format = ChatFormat.of(
            adapter,
            tokenizer,
            model=config.name,
            chat_template=loaded.chat_template,
            special_tokens=loaded.special_tokens,
            stop_ids=loaded.stop_ids,
        )
        context = min(loaded.context_length, config.context_length or loaded.context_length)
        return cls(loaded, tokenizer, chat_format, context)

    def room(self, prompt_tokens: int, max_tokens: int | None) -> int:
        """The most tokens that an answer may have, of which `max_tokens` are asked for, or as many as there may be.

        Raises ContextTooLong for a prompt that leaves no room, and InsufficientMemory for an answer that cannot fit.
        """
        room = self.context_length - prompt_tokens
        least = 1 if max_tokens is None else min(max_tokens, room)
        if room < 0 or (room == 0 and max_tokens != 0):
            raise ContextTooLong(self.context_length, prompt_tokens)
        if prompt_tokens + least > self.loaded.kv_tokens:
            raise InsufficientMemory(prompt_tokens + least, self.loaded.kv_tokens)
        return min(room, self.loaded.kv_tokens - prompt_tokens) if max_tokens is None else least
