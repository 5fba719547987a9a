"""Tests of which way to write calls a model has."""

# ruff: noqa: RUF001 - the bars in DeepSeek's tokens are fullwidth ones

import pytest

from service.adapters.base import ToolFormat
from service.text.tools.registry import FORMATS, knows_tools, tool_syntax
from tests.service.text.tools.formats import SYNTAXES

TOOLS = "{% if tools %}{{ tools | tojson }}{% endif %}"


@pytest.mark.parametrize(
    ("tool_format", "template", "vocabulary", "name"),
    [
        ("llama", TOOLS, (), "llama"),
        ("llama", "{{ messages }}", (), "hermes"),
        ("llama", TOOLS + "<tool_call>", (), "hermes"),
        ("none", TOOLS, (), "hermes"),
        ("none", "", (), "hermes"),
        ("no such", TOOLS, (), "hermes"),
        ("mistral", TOOLS, (), "mistral"),
        ("mistral", TOOLS, ("[ARGS]",), "mistral_args"),
        ("none", "[TOOL_CALLS]", (), "mistral"),
        ("none", "[TOOL_CALLS] [ARGS]", (), "mistral_args"),
        ("hermes", TOOLS + "<tool_call>\\n<function=", (), "qwen3_coder"),
        ("hermes", TOOLS + "<tool_call>\n<function=", (), "qwen3_coder"),
        ("none", "<tool_call><arg_key>", (), "glm47"),
        ("none", "<longcat_tool_call>", (), "longcat"),
        ("none", "<minimax:tool_call>", (), "minimax_m2"),
        ("gemma", "<|tool_call>call:<tool_call|>", (), "gemma4"),
        ("none", "<start_function_call>", (), "function_gemma"),
        ("none", "<|tool_list_start|>", (), "pythonic"),
        ("none", "<|tool_calls_section_begin|>", (), "kimi_k2"),
        ("none", '<function name="f"><param name="x">', (), "minicpm5"),
        ("none", "<atem:function_calls>", (), "muse_spark"),
        ("deepseek", "<｜tool▁calls▁begin｜>```json", (), "deepseek"),
        ("deepseek", "<｜tool▁calls▁begin｜>", (), "deepseek_v31"),
        ("deepseek", "<｜DSML｜invoke", (), "deepseek_v32"),
        ("harmony", "<|channel|>commentary to=functions.", (), "harmony"),
        ("granite", TOOLS, (), "granite"),
        ("phi", TOOLS, (), "phi"),
        ("llama4", TOOLS, (), "llama4"),
        ("kimi_k3", TOOLS, (), "kimi_k3"),
        ("cohere", TOOLS, (), "cohere"),
        ("none", "<|START_ACTION|>", (), "cohere"),
        ("none", "<TOOLCALL>", (), "nemotron"),
        ("none", "<seed:tool_call>\n<function=", (), "seed"),
        ("none", TOOLS, ("<|tool_call_start|>", "<|tool_call_end|>"), "pythonic"),
        ("none", TOOLS, ("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>"), "kimi_k3"),
        ("none", TOOLS, ("<|open|>", "<|close|>"), "hermes"),
        ("none", "", ("<|tool_call_start|>", "<|tool_call_end|>"), "hermes"),
    ],
)
def test_the_template_the_vocabulary_and_the_family_tell(
    tool_format: str, template: str, vocabulary: tuple[str, ...], name: str
) -> None:
    """In this order; a template that knows no tools has Hermes', in which the system prompt explains them."""
    assert tool_syntax(tool_format, template=template, vocabulary=vocabulary).name == name


def test_every_familys_format_is_known() -> None:
    """All but the one that is none."""
    assert set(FORMATS) == {form.value for form in ToolFormat} - {"none"}


def test_each_syntax_has_a_name_of_its_own() -> None:
    """By which it is known in tests and reports."""
    assert len({syntax.name for syntax in SYNTAXES}) == len(SYNTAXES) == 25


@pytest.mark.parametrize(
    ("template", "known"),
    [
        (TOOLS, True),
        ("{%- if messages and\n tools is not none %}", True),
        ("{{ messages }} tools {{ x }}", False),
        ("{{ builtin_tools }}", False),
        ("", False),
    ],
)
def test_a_template_knows_tools_if_it_reads_them(template: str, known: bool) -> None:
    """A word in the text is no variable."""
    assert knows_tools(template) is known
