"""What the tests of several families share."""

from pathlib import Path

from service.adapters.base import ModelAdapter
from service.adapters.chat_format import ChatFormat
from service.types import Message, Role
from tests.service.text.tokenizers import byte_level

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
SYSTEM = Message(Role.SYSTEM, "Be brief.")
USER = Message(Role.USER, "Hi?")
CONVERSATION = [SYSTEM, USER, Message(Role.ASSISTANT, "Ho."), Message(Role.USER, "And?")]


def published(name: str) -> str:
    """Return the source of a published template."""
    return (Path(__file__).parent / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


def chat_format(adapter: ModelAdapter, template: str | None = None, *special: str) -> ChatFormat:
    """Return the format of a model with `special` tokens, and a template of its own if there is one."""
    return ChatFormat.of(
        adapter, byte_level(*special), chat_template=template, special_tokens=TOKENS, stop_ids=[], model="tiny"
    )
