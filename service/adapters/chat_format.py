"""How one loaded model is talked to: its prompt, its stop tokens, the marks in its output."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.adapters.base import OWN, THINK, ModelAdapter
from service.adapters.conversation import Conversation
from service.adapters.effort import ReasoningSwitches
from service.errors import NoChatTemplate, UnsupportedField
from service.text.answer import AnswerForm, Calls, thinking
from service.text.grammar import Grammar, Lead, may_begin_with_newline, of_calls, of_constraint, of_strict_tools
from service.text.markup import Markup
from service.text.outline import Outline
from service.text.template import ChatTemplate
from service.text.tokenizer import Tokenizer
from service.text.tools.registry import tool_syntax
from service.text.tools.syntax import ToolSyntax
from service.types import Constraint, Effort, Message, Reasoning, Tool, ToolUse

_AS_IT_IS = Reasoning()


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
    syntax: ToolSyntax
    """How the model writes tool calls."""
    _model: str
    _tokenizer: Tokenizer
    _conversation: Conversation | None
    _switches: ReasoningSwitches | None

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
        conversation = Conversation(template, thinking_parts=adapter.thinking_parts) if template else None
        return cls(
            adapter=adapter,
            stop_ids=frozenset(stop_ids) | {number for number in found if number is not None},
            template=template,
            markup=_markup(adapter, tokenizer, template),
            syntax=_syntax(adapter, tokenizer, (source or "") if conversation and conversation.knows_tools else ""),
            _model=model,
            _tokenizer=tokenizer,
            _conversation=conversation,
            _switches=ReasoningSwitches(template) if template else None,
        )

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        kwargs: Mapping[str, object] | None = None,
        reasoning: Reasoning = _AS_IT_IS,
        limit: int | None = None,
    ) -> RenderedChat:
        """Render a conversation up to where the model answers, which it does after an assistant's message too.

        `kwargs` win over what `reasoning` makes of the same variables. Raises NoChatTemplate, InvalidField, whose
        paths are those of a chat request, and ContextTooLong for a prompt that cannot have `limit` tokens or fewer.
        """
        if self.template is None or self._conversation is None or self._switches is None:
            raise NoChatTemplate(self._model)
        text = self.template.render(
            self._conversation.messages(messages, tools),
            tools=self._conversation.tools(tools),
            kwargs=self._switches.variables(reasoning) | dict(kwargs or {}),
        )
        opening = self.markup.opening if self.markup else None
        return RenderedChat(
            text=text,
            ids=self._tokenizer.encode(text, add_special=False, limit=limit),
            reasoning_open=opening is not None and text.rstrip().endswith(opening),
        )

    def answer(
        self,
        chat: RenderedChat,
        *,
        use: ToolUse,
        constraint: Constraint | None = None,
        reasoning: Reasoning = _AS_IT_IS,
        kwargs: Mapping[str, object] | None = None,
    ) -> AnswerForm:
        """Say how the answer to `chat`, which was rendered with the same arguments, is written and read.

        Raises UnsupportedField for a bound on reasoning that this model's markers do not let anyone keep.
        """
        budget, field = self._budget(reasoning, kwargs or {})
        bound = None
        if budget is not None and self.markup is not None:
            in_words = not use.callable
            bound = thinking(self._tokenizer, self.markup, budget, is_open=chat.reasoning_open, in_words=in_words)
            switched = field == "effort" and self._switches is not None and self._switches.any
            if bound is None and (chat.reasoning_open or not switched):
                raise UnsupportedField(
                    f"reasoning.{field}", "is not supported by this model, whose markers are not single tokens"
                )
        lead = None
        if self.markup is not None:
            lead = Lead(
                Outline.of(self.markup),
                is_open=chat.reasoning_open,
                may_reason=field != "effort",
                is_exact=constraint is not None and may_begin_with_newline(constraint),
            )
        grammar = self._grammar(use, constraint, lead)
        strict_only = constraint is None and not use.is_forced
        return AnswerForm(
            markup=self.markup if lead is None or grammar is None or strict_only else lead.markup,
            reasoning_open=chat.reasoning_open,
            grammar=grammar,
            thinking=bound,
            calls=Calls(self.syntax, use.callable, use.several) if use.callable else None,
        )

    def _budget(self, reasoning: Reasoning, kwargs: Mapping[str, object]) -> tuple[int | None, str]:
        """Return the most tokens of reasoning, None for no bound, and which field says so."""
        if reasoning.effort is Effort.NONE and not (self._switches and self._switches.are_set_in(kwargs)):
            return 0, "effort"
        return reasoning.budget, "budget"

    def _grammar(self, use: ToolUse, constraint: Constraint | None, lead: Lead | None) -> Grammar | None:
        if use.callable and (use.is_forced or constraint is not None):
            return of_calls(use, self.syntax, self._tokenizer, lead, constraint)
        if constraint is not None:
            return of_constraint(constraint, self._tokenizer, lead)
        if any(tool.strict for tool in use.callable):
            return of_strict_tools(use, self.syntax, self._tokenizer, lead)
        return None


def _syntax(adapter: ModelAdapter, tokenizer: Tokenizer, template: str) -> ToolSyntax:
    """Return the format of calls; `template` is empty for one that shows no tools."""
    return tool_syntax(adapter.tool_format.value, template=template, vocabulary=tokenizer)


def _markup(adapter: ModelAdapter, tokenizer: Tokenizer, template: ChatTemplate | None) -> Markup | None:
    """Return the first markup whose markers the model knows: one of its own, its family's, or the commonest."""
    source = template.source if template else ""
    return next(
        (
            markup
            for markup in (*OWN, adapter.markup, THINK)
            if markup and all(marker in tokenizer or marker in source for marker in markup.evidence)
        ),
        None,
    )
