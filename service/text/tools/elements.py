"""Formats in which each argument is an element.

Sources: the chat templates of https://huggingface.co/Qwen/Qwen3-Coder-30B-A3B-Instruct,
https://huggingface.co/MiniMaxAI/MiniMax-M2, https://huggingface.co/openbmb, https://huggingface.co/moonshotai, and
mlx-lm's parsers for MiniCPM5, Muse Spark and Kimi K3; https://huggingface.co/deepseek-ai/DeepSeek-V3.2 for its markup.
"""

# ruff: noqa: RUF001 - the bars in DeepSeek's tokens are fullwidth ones

import re

from service.text.tools.frame import Frame
from service.text.tools.reader import Format, syntax
from service.text.tools.syntax import CallGrammar, ToolSyntax
from service.text.tools.tagged import Tag, Tags
from service.text.tools.trim import Trim

_EQUALS = re.compile(r"=\s*[\"']?([^\s<>\"']+)")


def tagged_syntax(name: str, tags: Tags, grammar: CallGrammar) -> ToolSyntax:
    """Return the syntax of calls made of `tags`."""
    return syntax(name, Format(tags.read, tags.openings, tags.others), grammar)


QWEN3_CODER = tagged_syntax(
    "qwen3_coder",
    Tags(
        section=("<tool_call>", "</tool_call>"),
        call=Tag("<function=", ">", _EQUALS),
        end_call="</function>",
        argument=Tag("<parameter=", ">", _EQUALS),
        end_value="</parameter>",
        trim=Trim.LINE,
    ),
    Frame(
        opening="<tool_call>",
        head="<tool_call>\n<function={name}>\n",
        tail="\n</function>\n</tool_call>",
        between="\n",
    ),
)

MINIMAX_M2 = tagged_syntax(
    "minimax_m2",
    Tags(
        section=("<minimax:tool_call>", "</minimax:tool_call>"),
        call=Tag("<invoke name=", ">"),
        end_call="</invoke>",
        argument=Tag("<parameter name=", ">"),
        end_value="</parameter>",
    ),
    Frame(
        opening="<minimax:tool_call>",
        head='<invoke name="{name}">\n',
        tail="\n</invoke>",
        before="<minimax:tool_call>\n",
        between="\n",
        after="\n</minimax:tool_call>",
    ),
)

MINICPM5 = tagged_syntax(
    "minicpm5",
    Tags(
        call=Tag("<function name=", ">"),
        end_call="</function>",
        argument=Tag("<param name=", ">"),
        end_value="</param>",
        cdata=True,
    ),
    Frame(opening="<function name=", head='<function name="{name}">', tail="</function>"),
)

MUSE_SPARK = tagged_syntax(
    "muse_spark",
    Tags(
        section=("<atem:function_calls>", "</atem:function_calls>"),
        call=Tag("<atem:invoke", ">"),
        end_call="</atem:invoke>",
        argument=Tag("<atem:parameter", ">"),
        end_value="</atem:parameter>",
        guess=True,
    ),
    Frame(
        opening="<atem:function_calls>",
        head='<atem:invoke name="{name}">\n',
        tail="\n</atem:invoke>",
        before="<atem:function_calls>\n",
        between="\n",
        after="\n</atem:function_calls>",
    ),
)

_RESPONSE = ("<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>")

KIMI_K3 = tagged_syntax(
    "kimi_k3",
    Tags(
        section=("<|open|>tools<|sep|>", "<|close|>tools<|sep|>"),
        call=Tag("<|open|>call", "<|sep|>", re.compile(r'\btool="([^"]*)"')),
        end_call="<|close|>call<|sep|>",
        argument=Tag("<|open|>argument", "<|sep|>", re.compile(r'\bkey="([^"]*)"')),
        end_value="<|close|>argument<|sep|>",
        block=(Tag("<|open|>json", "<|sep|>"), "<|close|>json<|sep|>"),
        trim=Trim.NOTHING,
        string=re.compile(r'\btype="string"|^(?!.*\btype=)', re.DOTALL),
        escaped=True,
    ),
    Frame(
        opening="<|open|>tools<|sep|>",
        head='<|open|>call tool="{name}" index="{number}"<|sep|><|open|>json type="object"<|sep|>',
        tail="<|close|>json<|sep|><|close|>call<|sep|>",
        before="<|open|>tools<|sep|>",
        after="<|close|>tools<|sep|>",
        asides=_RESPONSE,
    ),
)

DEEPSEEK_V32 = tagged_syntax(
    "deepseek_v32",
    Tags(
        section=("<｜DSML｜function_calls>", "</｜DSML｜function_calls>"),
        call=Tag("<｜DSML｜invoke", ">"),
        end_call="</｜DSML｜invoke>",
        argument=Tag("<｜DSML｜parameter", ">"),
        end_value="</｜DSML｜parameter>",
        trim=Trim.NOTHING,
        string=re.compile(r'\bstring="true"'),
    ),
    Frame(
        opening="<｜DSML｜function_calls>",
        head='<｜DSML｜invoke name="{name}">\n',
        tail="\n</｜DSML｜invoke>",
        before="<｜DSML｜function_calls>\n",
        between="\n",
        after="\n</｜DSML｜function_calls>",
    ),
)
