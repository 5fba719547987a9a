"""How one loaded model is talked to: its prompt, its stop tokens, the marks in its output."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.adapters.base import THINK, ModelAdapter
from service.adapters.conversation import Conversation
from service.errors import NoChatTemplate
from service.text.markup import Markup
from service.text.template import ChatTemplate
from service.text.tokenizer import Tokenizer
from service.types import Message, Tool


@dataclass(frozen=True, slots=True)
class RenderedChat:
    """A conversation as the model reads it. `reasoning_open`: the prompt ends inside the model's reasoning."""

    text: str
    ids: list[int]
    reasoning_open: bool


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """What a family's adapter and a model's own files come to. The model's own win."""

    adapter: ModelAdapter
    stop_ids: frozenset[int]
    template: ChatTemplate | None
    markup: Markup | None
    """None for a model that does not mark reasoning."""
    _model: str
    _tokenizer: Tokenizer
    _conversation: Conversation | None

    @classmethod
    def of(
        cls,
        adapter: ModelAdapter,
        tokenizer: Tokenizer,
        *,
        chat_template: str | None,
        special_tokens: Mapping[str, str],
        stop_ids: Iterable[int],
        model: str = "",
    ) -> "ChatFormat":
        """Put together what is known of `model`, which is its alias.

        `chat_template`, `special_tokens` (by their names in templates) and `stop_ids` are the model's own.
        Raises SetupError for a broken template.
        """
        source = adapter.template if chat_template is None else chat_template
        template = None if source is None else ChatTemplate(source, special_tokens)
        ends = (*adapter.end_of_turn, special_tokens.get("eos_token", ""))
        found = {tokenizer.token_id(token) for token in ends}
        return cls(
            adapter=adapter,
            stop_ids=frozenset(stop_ids) | {number for number in found if number is not None},
            template=template,
            markup=_markup(adapter, tokenizer, template),
            _model=model,
            _tokenizer=tokenizer,
            _conversation=Conversation(template, thinking_parts=adapter.thinking_parts) if template else None,
        )

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        kwargs: Mapping[str, object] | None = None,
        limit: int | None = None,
    ) -> RenderedChat:
        """Render a conversation up to where the model answers, which it does after an assistant's message too.

        Raises NoChatTemplate, UnsupportedField and InvalidField, whose paths are those of a chat request, and
        ContextTooLong for a prompt that cannot have `limit` tokens or fewer.
        """
        if self.template is None or self._conversation is None:
            raise NoChatTemplate(self._model)
        text = self.template.render(
            self._conversation.messages(messages), tools=self._conversation.tools(tools), kwargs=kwargs or {}
        )
        opening = self.markup.opening if self.markup else None
        return RenderedChat(
            text=text,
            ids=self._tokenizer.encode(text, add_special=False, limit=limit),
            reasoning_open=opening is not None and text.rstrip().endswith(opening),
        )


def _markup(adapter: ModelAdapter, tokenizer: Tokenizer, template: ChatTemplate | None) -> Markup | None:
    """Return the family's markup, or the commonest, if the model knows its markers."""
    source = template.source if template else ""
    return next(
        (
            markup
            for markup in (adapter.markup, THINK)
            if markup and all(marker in tokenizer or marker in source for marker in markup.evidence)
        ),
        None,
    )
