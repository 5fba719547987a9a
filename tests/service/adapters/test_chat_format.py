"""Tests of what family and model come to."""

import pytest

from service.adapters.base import THINK
from service.adapters.chat_format import ChatFormat
from service.adapters.chatml import CHATML
from service.adapters.default import DEFAULT
from service.adapters.gpt_oss import GPT_OSS
from service.adapters.granite import GRANITE
from service.adapters.llama import LLAMA3
from service.adapters.mistral import MISTRAL
from service.errors import InvalidField, NoChatTemplate, SetupError, UnsupportedField
from service.text.tokenizer import Tokenizer
from service.types import Message, Role, Tool
from tests.service.adapters.families import CONVERSATION, TOKENS, USER, chat_format, published
from tests.service.text.tokenizers import HARMONY, byte_fallback, byte_level


def without_think() -> Tokenizer:
    """A tokenizer that knows no reasoning markers."""
    inner = type(byte_level()._inner)(byte_level()._inner.model)
    inner.pre_tokenizer, inner.decoder = byte_level()._inner.pre_tokenizer, byte_level()._inner.decoder
    return Tokenizer(inner)


def names(made: ChatFormat, tokenizer: Tokenizer) -> set[str | None]:
    return {tokenizer.token(number) for number in made.stop_ids}


def test_the_models_own_template_wins() -> None:
    """The family's template is used only where the model brings none."""
    assert chat_format(CHATML, "own").render([USER]).text == "own"
    assert chat_format(CHATML).render([USER]).text == "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n"


def test_an_empty_template_is_the_models_own() -> None:
    """A model that says that there is nothing to add is believed."""
    assert chat_format(CHATML, "").render([USER]).ids == []


def test_no_template_at_all_is_told_with_the_models_name() -> None:
    """A model without one can only continue text."""
    with pytest.raises(NoChatTemplate, match="tiny"):
        chat_format(DEFAULT).render([USER])


def test_a_broken_template_is_a_setup_error() -> None:
    """It is told when the model is set up."""
    with pytest.raises(SetupError):
        chat_format(CHATML, "{% if")


def test_stop_ids_are_the_models_and_the_familys_and_the_end_of_sequence() -> None:
    """All of them end an answer; tokens that the vocabulary lacks are left out."""
    tokenizer = byte_level("<|eot_id|>")
    made = ChatFormat.of(LLAMA3, tokenizer, chat_template=None, special_tokens=TOKENS, stop_ids=[7])
    assert names(made, tokenizer) == {tokenizer.token(7), "<|eot_id|>", "</s>"}
    bare = ChatFormat.of(LLAMA3, tokenizer, chat_template=None, special_tokens={}, stop_ids=[7])
    assert names(bare, tokenizer) == {tokenizer.token(7), "<|eot_id|>"}


def test_the_prompt_is_encoded_with_its_special_tokens_and_no_others() -> None:
    """What the template writes is all there is: no second beginning of sequence."""
    rendered = chat_format(CHATML, "{{ bos_token }}<|im_start|>a").render([USER])
    assert [byte_level().token(number) for number in rendered.ids] == ["<s>", "<|im_start|>", "a"]


def test_a_conversation_that_ends_with_the_assistant_gets_a_generation_prompt() -> None:
    """The model answers anew."""
    text = chat_format(CHATML, published("qwen3")).render([USER, Message(Role.ASSISTANT, "Ho.")]).text
    assert text.endswith("Ho.<|im_end|>\n<|im_start|>assistant\n")


def test_kwargs_reach_the_template() -> None:
    """Variables of the request are the template's."""
    assert chat_format(CHATML, "{{ level }}").render([USER], kwargs={"level": "x"}).text == "x"
    with pytest.raises(InvalidField, match=r"chat_template_kwargs\.tools"):
        chat_format(CHATML, "x").render([USER], kwargs={"tools": []})


def test_tools_reach_a_template_that_reads_them() -> None:
    """Tools are rendered, or refused where they would be dropped."""
    tool = Tool("look", "Looks.", "")
    assert '"name": "look"' in chat_format(CHATML, published("qwen3")).render([USER], tools=[tool]).text
    with pytest.raises(UnsupportedField, match="tools"):
        chat_format(CHATML).render([USER], tools=[tool])


@pytest.mark.parametrize(
    ("template", "kwargs", "is_open"),
    [
        ("qwen3", {}, False),
        ("qwen3", {"enable_thinking": False}, False),
        ("qwq", {}, True),
        ("r1-distill", {}, True),
        ("deepseek-v3.1", {"thinking": True}, True),
        ("deepseek-v3.1", {}, False),
        ("granite-3.3", {"thinking": True}, False),
    ],
)
def test_a_template_may_open_the_reasoning(template: str, kwargs: dict[str, object], is_open: bool) -> None:
    """The prompt is in reasoning when it ends with the marker, and not when it was closed at once."""
    assert chat_format(CHATML, published(template)).render([USER], kwargs=kwargs).reasoning_open is is_open


def test_a_model_that_knows_no_markers_has_no_markup() -> None:
    """Markup needs each marker in the vocabulary or the template; harmony is always there."""

    def markup(adapter: object, source: str | None) -> object:
        made = ChatFormat.of(
            adapter,  # type: ignore[arg-type]
            without_think(),
            chat_template=source,
            special_tokens={},
            stop_ids=[],
        )
        return made.markup

    assert markup(CHATML, None) is None
    assert markup(CHATML, "<think>") is None
    assert markup(CHATML, "<think> </think>") is THINK
    assert markup(GPT_OSS, None) is GPT_OSS.markup
    assert markup(GRANITE, published("granite-3.3")) is GRANITE.markup
    assert markup(GRANITE, "<think> </think>") is THINK
    assert markup(MISTRAL, "<think> </think>") is THINK
    assert chat_format(CHATML).markup is THINK
    assert chat_format(MISTRAL).markup is MISTRAL.markup


def test_a_rendering_without_markup_is_never_open() -> None:
    """A model without markup writes the marker as text."""
    made = ChatFormat.of(CHATML, without_think(), chat_template="<think>", special_tokens={}, stop_ids=[])
    assert not made.render([USER]).reasoning_open


def test_harmony_never_stops_at_the_end_of_a_message() -> None:
    """GPT-OSS ends messages, of which an answer has several, with a token that is no stop token."""
    tokenizer = byte_level(*HARMONY)
    made = ChatFormat.of(GPT_OSS, tokenizer, chat_template=None, special_tokens={}, stop_ids=[])
    assert names(made, tokenizer) == {"<|return|>", "<|call|>"}


def test_a_sentencepiece_model_renders_too() -> None:
    """The ids are those of the rendered text."""
    tokenizer = byte_fallback()
    made = ChatFormat.of(MISTRAL, tokenizer, chat_template=None, special_tokens=TOKENS, stop_ids=[])
    rendered = made.render(CONVERSATION)
    assert rendered.text == "<s>[INST] Be brief.\n\nHi? [/INST] Ho.</s>[INST] And? [/INST]"
    assert rendered.ids == tokenizer.encode(rendered.text, add_special=False)
    assert rendered.ids[0] == tokenizer.token_id("<s>")
