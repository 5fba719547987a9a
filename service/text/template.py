"""Chat templates: a conversation rendered to the text that the model was trained on."""

import json
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from service.errors import InvalidField, SetupError

MAX_STEPS = 1_000_000
"""Look-ups in one rendering: up to a second. Some templates go through all messages for each of them."""
MAX_TEXT = 32 * 2**20
"""Characters that a rendering, or one value in it, may have: twice gRPC's bound on a request."""

_RESERVED = ("messages", "tools", "add_generation_prompt")
_FAILURES = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a template raises over data that it was not written for."""

_steps: ContextVar[Iterator[int]] = ContextVar("steps")


class ChatTemplate:
    """A model's chat template, in the sandbox and with the extras that transformers gives it.

    Source: https://huggingface.co/docs/transformers/chat_templating_writing
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """`special_tokens` by their names in templates, such as bos_token. Raises SetupError for a broken template."""
        self.source = source
        self._special_tokens = dict(special_tokens)
        try:
            self._template = _ENVIRONMENT.from_string(source)
            tree = _ENVIRONMENT.parse(source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise SetupError(f"the chat template is broken: {error}") from error
        self._names = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "load"}

    def mentions(self, name: str) -> bool:
        """Whether the template reads this variable."""
        return name in self._names

    def render(
        self,
        messages: list[dict[str, object]],
        *,
        tools: list[dict[str, object]] | None,
        kwargs: Mapping[str, object],
        add_generation_prompt: bool = True,
    ) -> str:
        """Text of the prompt. Raises InvalidField for messages that the template refuses or that cost too much."""
        for name in _RESERVED:
            if name in kwargs:
                raise InvalidField(f"chat_template_kwargs.{name}", "is set by the request itself")
        variables = {
            "documents": None,
            **self._special_tokens,
            **kwargs,
            "messages": messages,
            "tools": tools,
            "add_generation_prompt": add_generation_prompt,
        }
        token = _steps.set(iter(range(MAX_STEPS)))
        try:
            return _bounded(self._template.generate(variables))
        except _FAILURES as error:
            raise InvalidField("messages", f"are refused by the chat template: {error}") from error
        finally:
            _steps.reset(token)


class _Generation(Extension):
    """The tag around what an assistant said, which training masks are made from. Here it only shows its body."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    """Counts what a rendering does, since it holds up all other requests."""

    intercepted_binops = frozenset(["*", "**"])

    def getattr(self, obj: object, attribute: str) -> object:
        _step()
        return super().getattr(obj, attribute)

    def getitem(self, obj: object, argument: object) -> object:
        _step()
        return super().getitem(obj, argument)

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: object, right: object) -> object:
        if operator == "**" or (isinstance(left, int) and isinstance(right, int)):
            if any(abs(side) > 2**32 for side in (left, right) if isinstance(side, int | float)):
                raise OverflowError("the numbers are too large")
        elif _size(left) * _size(right) > MAX_TEXT:
            raise OverflowError("the product is too large")
        return super().call_binop(context, operator, left, right)


def _size(value: object) -> float:
    return len(value) if isinstance(value, str | list | tuple) else abs(value) if isinstance(value, int | float) else 1


def _step() -> None:
    # Compiling a template looks things up too, outside any rendering.
    if next(_steps.get(_ENDLESS), None) is None:
        raise jinja2.TemplateRuntimeError("rendering them takes too long")


_ENDLESS: Iterator[int] = iter(int, 1)


def _bounded(chunks: Iterator[str]) -> str:
    parts: list[str] = []
    length = 0
    for chunk in chunks:
        length += len(chunk)
        if length > MAX_TEXT:
            raise jinja2.TemplateRuntimeError("the text is too long")
        parts.append(chunk)
    return "".join(parts)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes what HTML needs escaped; models were trained without."""
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    # Indented, a few bytes of deeply nested JSON become many: stop while they are made.
    return encoder.encode(value) if indent is None else _bounded(encoder.iterencode(value))


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)  # noqa: DTZ005 - local time, as templates have it in transformers


def _environment() -> _Environment:
    environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    del environment.globals["lipsum"]
    return environment


_ENVIRONMENT = _environment()
