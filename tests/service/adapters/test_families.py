"""Tests of each family, on its published template, its fallback and a simulated stream."""

from dataclasses import dataclass, field

import pytest

from service.adapters.base import ModelAdapter, ToolFormat
from service.adapters.chatml import CHATML
from service.adapters.cohere import COHERE
from service.adapters.deepseek import DEEPSEEK, DEEPSEEK2, DEEPSEEK_R1
from service.adapters.default import DEFAULT
from service.adapters.gemma import GEMMA, GEMMA4
from service.adapters.gpt_oss import GPT_OSS
from service.adapters.granite import GRANITE
from service.adapters.kimi import KIMI_K3
from service.adapters.llama import LLAMA2, LLAMA3, LLAMA4
from service.adapters.mistral import MISTRAL
from service.adapters.phi import PHI3, PHI4
from service.text.parser import Ended, Parser, ReasoningText, Text
from service.types import FinishReason, Message, Role, Stopping
from tests.service.adapters.families import CONVERSATION, SYSTEM, USER, chat_format, published
from tests.service.text.tokenizers import HARMONY, byte_level

# The bars in DeepSeek's tokens are fullwidth ones; long texts stand in tables.
# ruff: noqa: RUF001, ISC004
CHANNEL = "<|channel|>"
K3 = ("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>")
COMMAND = (
    *("<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|END_OF_TURN_TOKEN|>"),
)


@dataclass(frozen=True)
class Stream:
    """What a model of a family says, up to its stop token, and what that comes to."""

    adapter: ModelAdapter
    text: str
    stop: str
    answer: str
    reasoning: str = ""
    special: tuple[str, ...] = ()
    template: str | None = None
    kwargs: dict[str, object] = field(default_factory=dict)


STREAMS = {
    "llama2": Stream(LLAMA2, " Ho.", "</s>", " Ho."),
    "llama3": Stream(LLAMA3, "Ho.", "<|eot_id|>", "Ho.", special=("<|eot_id|>", "<|eom_id|>")),
    "llama3 tool": Stream(LLAMA3, "Ho.", "<|eom_id|>", "Ho.", special=("<|eot_id|>", "<|eom_id|>")),
    "chatml": Stream(CHATML, "Ho.", "<|im_end|>", "Ho."),
    "qwen3": Stream(CHATML, "<think>\nhm\n</think>\n\nHo.", "<|im_end|>", "Ho.", "hm", template="qwen3"),
    "qwen3 not thinking": Stream(
        CHATML, "Ho.", "<|im_end|>", "Ho.", template="qwen3", kwargs={"enable_thinking": False}
    ),
    "qwq": Stream(CHATML, "hm\n</think>\n\nHo.", "<|im_end|>", "Ho.", "hm", template="qwq"),
    "smollm3": Stream(CHATML, "<think>\nhm\n</think>\nHo.", "<|im_end|>", "Ho.", "hm", template="smollm3"),
    "mistral": Stream(MISTRAL, " Ho.", "</s>", " Ho.", template="mistral-nemo"),
    "magistral": Stream(
        MISTRAL, "[THINK]hm[/THINK]Ho.", "</s>", "Ho.", "hm", template="ministral-3-reasoning"
    ),
    "gemma": Stream(GEMMA, "Ho.\n", "<end_of_turn>", "Ho.\n", special=("<end_of_turn>",)),
    "gemma4": Stream(
        GEMMA4, "<|channel>thought\nhm\n<channel|>Ho.", "<turn|>", "Ho.", "hm",
        special=("<turn|>", "<|channel>", "<channel|>"), template="gemma-4", kwargs={"enable_thinking": True},
    ),
    "phi3": Stream(PHI3, "Ho.", "<|end|>", "Ho.", special=("<|end|>",), template="phi-3.5"),
    "phi4": Stream(PHI4, "Ho.", "<|im_end|>", "Ho.", template="phi-4"),
    "phi4 reasoning": Stream(PHI4, "<think>hm</think>Ho.", "<|im_end|>", "Ho.", "hm", template="phi-4"),
    "deepseek2": Stream(
        DEEPSEEK2, " Ho.", "<｜end▁of▁sentence｜>", " Ho.", special=("<｜end▁of▁sentence｜>",)
    ),
    "deepseek": Stream(
        DEEPSEEK, "Ho.", "<｜end▁of▁sentence｜>", "Ho.", special=("<｜end▁of▁sentence｜>",), template="deepseek-v3.1"
    ),
    "r1": Stream(
        DEEPSEEK_R1, "hm\n</think>\n\nHo.", "<｜end▁of▁sentence｜>", "Ho.", "hm",
        special=("<｜end▁of▁sentence｜>",), template="r1-distill",
    ),
    "r1 fallback": Stream(
        DEEPSEEK_R1, "hm\n</think>\n\nHo.", "<｜end▁of▁sentence｜>", "Ho.", "hm", special=("<｜end▁of▁sentence｜>",)
    ),
    "gpt-oss": Stream(
        GPT_OSS,
        f"{CHANNEL}analysis<|message|>hm<|end|><|start|>assistant{CHANNEL}final<|message|>Ho.",
        "<|return|>", "Ho.", "hm", special=tuple(HARMONY), template="gpt-oss",
    ),
    "gpt-oss call": Stream(
        GPT_OSS, f"{CHANNEL}commentary to=functions.f <|constrain|>json<|message|>{{}}", "<|call|>",
        f"{CHANNEL}commentary to=functions.f <|constrain|>json<|message|>{{}}", special=tuple(HARMONY),
    ),
    "granite": Stream(
        GRANITE, "<think>hm</think>\n<response>Ho.</response>", "<|end_of_text|>", "Ho.", "hm",
        special=("<|end_of_text|>",), template="granite-3.3", kwargs={"thinking": True},
    ),
    "llama4": Stream(LLAMA4, "Ho.", "<|eot|>", "Ho.", special=("<|eot|>", "<|eom|>")),
    "kimi k3": Stream(
        KIMI_K3,
        "hm<|close|>think<|sep|><|open|>response<|sep|>Ho.\n<|close|>response<|sep|><|close|>message<|sep|>",
        "<|end_of_msg|>", "Ho.", "hm", special=K3,
    ),
    "cohere": Stream(
        COHERE, "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Ho.<|END_RESPONSE|>", "<|END_OF_TURN_TOKEN|>",
        "Ho.", "hm", special=COMMAND,
    ),
    "cohere not thinking": Stream(COHERE, "Ho.", "<|END_OF_TURN_TOKEN|>", "Ho.", special=COMMAND[-1:]),
    "seed": Stream(
        CHATML, "<seed:think>hm</seed:think>Ho.", "<|im_end|>", "Ho.", "hm",
        special=("<seed:think>", "</seed:think>"),
    ),
    "default": Stream(DEFAULT, "Ho.", "<|im_end|>", "Ho.", template="phi-4"),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_the_family_comes_apart(name: str) -> None:
    """From the rendered prompt on, reasoning and answer are told apart and the stop token ends the choice."""
    stream = STREAMS[name]
    tokenizer = byte_level(*stream.special)
    made = chat_format(stream.adapter, stream.template and published(stream.template), *stream.special)
    rendered = made.render([USER], kwargs=stream.kwargs)
    parser = Parser(tokenizer, Stopping(), made.markup, reasoning_open=rendered.reasoning_open)
    pieces = []
    for token in tokenizer.encode(stream.text + stream.stop, add_special=False):
        ends = token in made.stop_ids
        pieces += parser.end(FinishReason.STOP, token) if ends else parser.feed([token])
    assert isinstance(pieces[-1], Ended)
    assert pieces[-1].stop_token == tokenizer.token_id(stream.stop)
    assert "".join(piece.text for piece in pieces if isinstance(piece, Text)) == stream.answer
    assert "".join(piece.text for piece in pieces if isinstance(piece, ReasoningText)) == stream.reasoning


FALLBACKS = {
    "llama2": (LLAMA2, "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi? [/INST] Ho. </s><s>[INST] And? [/INST]"),
    "llama3": (
        LLAMA3,
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHo.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nAnd?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "chatml": (
        CHATML,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi?<|im_end|>\n"
        "<|im_start|>assistant\nHo.<|im_end|>\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n",
    ),
    "mistral": (MISTRAL, "<s>[INST] Be brief.\n\nHi? [/INST] Ho.</s>[INST] And? [/INST]"),
    "gemma": (
        GEMMA,
        "<s><start_of_turn>user\nBe brief.\n\nHi?<end_of_turn>\n<start_of_turn>model\nHo.<end_of_turn>\n"
        "<start_of_turn>user\nAnd?<end_of_turn>\n<start_of_turn>model\n",
    ),
    "gemma4": (
        GEMMA4,
        "<s><|turn>system\nBe brief.<turn|>\n<|turn>user\nHi?<turn|>\n<|turn>model\nHo.<turn|>\n"
        "<|turn>user\nAnd?<turn|>\n<|turn>model\n",
    ),
    "phi3": (
        PHI3,
        "<|system|>\nBe brief.<|end|>\n<|user|>\nHi?<|end|>\n<|assistant|>\nHo.<|end|>\n"
        "<|user|>\nAnd?<|end|>\n<|assistant|>\n",
    ),
    "phi4": (
        PHI4,
        "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|>Hi?<|im_end|>"
        "<|im_start|>assistant<|im_sep|>Ho.<|im_end|><|im_start|>user<|im_sep|>And?<|im_end|>"
        "<|im_start|>assistant<|im_sep|>",
    ),
    "deepseek2": (DEEPSEEK2, "<s>Be brief.\n\nUser: Hi?\n\nAssistant: Ho.</s>User: And?\n\nAssistant:"),
    "deepseek": (
        DEEPSEEK, "<s>Be brief.<｜User｜>Hi?<｜Assistant｜>Ho.<｜end▁of▁sentence｜><｜User｜>And?<｜Assistant｜>"
    ),
    "r1": (
        DEEPSEEK_R1,
        "<s>Be brief.<｜User｜>Hi?<｜Assistant｜>Ho.<｜end▁of▁sentence｜><｜User｜>And?<｜Assistant｜><think>\n",
    ),
    "llama4": (
        LLAMA4,
        "<s><|header_start|>system<|header_end|>\n\nBe brief.<|eot|>"
        "<|header_start|>user<|header_end|>\n\nHi?<|eot|><|header_start|>assistant<|header_end|>\n\nHo.<|eot|>"
        "<|header_start|>user<|header_end|>\n\nAnd?<|eot|><|header_start|>assistant<|header_end|>\n\n",
    ),
    "kimi-k3": (
        KIMI_K3,
        '<|open|>message role="system"<|sep|>Be brief.<|close|>message<|sep|><|end_of_msg|>'
        '<|open|>message role="user"<|sep|>Hi?<|close|>message<|sep|><|end_of_msg|>'
        '<|open|>message role="assistant"<|sep|><|open|>think<|sep|><|close|>think<|sep|>'
        "<|open|>response<|sep|>Ho.<|close|>response<|sep|><|close|>message<|sep|><|end_of_msg|>"
        '<|open|>message role="user"<|sep|>And?<|close|>message<|sep|><|end_of_msg|>'
        '<|open|>message role="assistant"<|sep|><|open|>think<|sep|>',
    ),
    "cohere": (
        COHERE,
        "<s><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be brief.<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi?<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Ho.<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>And?<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    ),
    "granite": (
        GRANITE,
        "<|start_of_role|>system<|end_of_role|>Be brief.<|end_of_text|>\n"
        "<|start_of_role|>user<|end_of_role|>Hi?<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>Ho.<|end_of_text|>\n"
        "<|start_of_role|>user<|end_of_role|>And?<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FALLBACKS)
def test_the_fallback_template_gives_the_familys_turns(name: str) -> None:
    """A model without a template gets its family's, system text and generation prompt included."""
    adapter, text = FALLBACKS[name]
    assert chat_format(adapter).render(CONVERSATION).text == text


PUBLISHED = {
    "phi-3.5": PHI3,
    "phi-4": PHI4,
    "mistral-7b-v0.2": MISTRAL,
    "r1-distill": DEEPSEEK_R1,
    "granite-3.3": GRANITE,
    "gpt-oss": GPT_OSS,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_fallback_ends_as_the_published_template_does(name: str) -> None:
    """From the first user message on a fallback gives what the published template gives, spaces aside."""
    adapter = PUBLISHED[name]
    own = chat_format(adapter, published(name)).render([SYSTEM, USER]).text
    fallback = chat_format(adapter).render([SYSTEM, USER]).text
    assert "".join(own.split())[-40:] == "".join(fallback.split())[-40:]


def test_the_fallback_of_gpt_oss_opens_as_the_published_template_does() -> None:
    """The system message of harmony is the model's own, and takes the effort."""
    kwargs: dict[str, object] = {"reasoning_effort": "high"}
    own = chat_format(GPT_OSS, published("gpt-oss")).render([SYSTEM, USER], kwargs=kwargs).text
    assert chat_format(GPT_OSS).render([SYSTEM, USER], kwargs=kwargs).text == own


@pytest.mark.parametrize("name", ["mistral-7b-v0.2", "phi-3-mini"])
def test_a_published_template_that_knows_no_system_role_gets_its_text(name: str) -> None:
    """Templates that refuse a system message, and those that drop it, have its text in the user's."""
    text = chat_format(MISTRAL, published(name)).render([SYSTEM, USER]).text
    assert "Be brief.\n\nHi?" in text


@pytest.mark.parametrize("name", ["qwen3", "gpt-oss", "gemma-4", "granite-3.3", "mistral-nemo", "phi-4", "smollm3"])
def test_instructions_are_never_dropped(name: str) -> None:
    """System and developer texts, at the start and later, are in the prompt of every template."""
    later = Message(Role.DEVELOPER, "Be kind.")
    first = Message(Role.DEVELOPER, "Be wise.")
    text = chat_format(CHATML, published(name)).render([SYSTEM, first, *CONVERSATION[1:3], later, USER]).text
    assert all(said in text for said in ("Be brief.", "Be wise.", "Be kind.", "Hi?", "Ho."))


def test_every_family_has_a_name_and_stop_tokens_and_a_tool_format() -> None:
    """The table of families is whole."""
    adapters = {stream.adapter.name: stream.adapter for stream in STREAMS.values()}
    assert len(adapters) == 17
    assert all(adapter.end_of_turn for adapter in adapters.values())
    formats = {name: adapter.tool_format for name, adapter in adapters.items()}
    assert formats["chatml"] is ToolFormat.HERMES
    assert formats["llama3"] is ToolFormat.LLAMA
    assert formats["mistral"] is ToolFormat.MISTRAL
    assert formats["gpt-oss"] is ToolFormat.HARMONY
    assert formats["deepseek"] is formats["deepseek-r1"] is ToolFormat.DEEPSEEK
    assert formats["granite"] is ToolFormat.GRANITE
    assert formats["phi3"] is formats["phi4"] is ToolFormat.PHI
    assert formats["gemma4"] is ToolFormat.GEMMA
    assert formats["llama4"] is ToolFormat.LLAMA4
    assert formats["kimi-k3"] is ToolFormat.KIMI_K3
    assert formats["cohere"] is ToolFormat.COHERE
    assert formats["llama2"] is formats["gemma"] is formats["default"] is ToolFormat.NONE
