"""Formats in which each argument is an element.

Sources: the chat templates of https://huggingface.co/Qwen/Qwen3-Coder-30B-A3B-Instruct,
https://huggingface.co/ByteDance-Seed/Seed-OSS-36B-Instruct,
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


def invoked(section: tuple[str, str], prefix: str = "") -> Frame:
    """Return the frame of a section of `invoke` elements, whose names begin with `prefix`."""
    opening, closing = section
    return Frame(
        opening=opening,
        head=f'<{prefix}invoke name="{{name}}">\n',
        tail=f"\n</{prefix}invoke>",
        before=opening + "\n",
        between="\n",
        after="\n" + closing,
    )


def _coder_syntax(name: str, prefix: str) -> ToolSyntax:
    section = (f"<{prefix}tool_call>", f"</{prefix}tool_call>")
    return tagged_syntax(
        name,
        Tags(
            section=section,
            call=Tag("<function=", ">", _EQUALS),
            end_call="</function>",
            argument=Tag("<parameter=", ">", _EQUALS),
            end_value="</parameter>",
            trim=Trim.LINE,
        ),
        Frame(
            opening=section[0],
            head=f"{section[0]}\n<function={{name}}>\n",
            tail=f"\n</function>\n{section[1]}",
            between="\n",
        ),
    )


QWEN3_CODER = _coder_syntax("qwen3_coder", "")
SEED = _coder_syntax("seed", "seed:")

_MINIMAX = ("<minimax:tool_call>", "</minimax:tool_call>")
MINIMAX_M2 = tagged_syntax(
    "minimax_m2",
    Tags(
        section=_MINIMAX,
        call=Tag("<invoke name=", ">"),
        end_call="</invoke>",
        argument=Tag("<parameter name=", ">"),
        end_value="</parameter>",
    ),
    invoked(_MINIMAX),
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

_ATEM = ("<atem:function_calls>", "</atem:function_calls>")
MUSE_SPARK = tagged_syntax(
    "muse_spark",
    Tags(
        section=_ATEM,
        call=Tag("<atem:invoke", ">"),
        end_call="</atem:invoke>",
        argument=Tag("<atem:parameter", ">"),
        end_value="</atem:parameter>",
        guess=True,
    ),
    invoked(_ATEM, "atem:"),
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

_DSML = ("<｜DSML｜function_calls>", "</｜DSML｜function_calls>")
DEEPSEEK_V32 = tagged_syntax(
    "deepseek_v32",
    Tags(
        section=_DSML,
        call=Tag("<｜DSML｜invoke", ">"),
        end_call="</｜DSML｜invoke>",
        argument=Tag("<｜DSML｜parameter", ">"),
        end_value="</｜DSML｜parameter>",
        trim=Trim.NOTHING,
        string=re.compile(r'\bstring="true"'),
    ),
    invoked(_DSML, "｜DSML｜"),
)
