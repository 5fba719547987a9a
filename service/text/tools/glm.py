"""GLM 4.5 to 4.7, Laguna and LongCat: `<tool_call>name<arg_key>k</arg_key><arg_value>v</arg_value></tool_call>`.

Sources: the chat templates of https://huggingface.co/zai-org/GLM-4.5 and
https://huggingface.co/meituan-longcat/LongCat-Flash-Chat.
"""

import re
import shlex
from functools import partial

from service.text.tools.frame import Frame
from service.text.tools.objects import read_object
from service.text.tools.reader import Format, syntax
from service.text.tools.schema import argument_types, parameters
from service.text.tools.source import NotACall, Step
from service.text.tools.stream import CallStream
from service.text.tools.syntax import ToolSyntax
from service.text.tools.tagged import Tag, Tags
from service.text.tools.values import quoted, typed

_KEY = re.compile(r">\s*(.*?)\s*$", re.DOTALL)
_NAME = re.compile(r"[^\s<>{]*")


def _read(tags: Tags, stream: CallStream, opening: str) -> Step[None]:
    yield from stream.blank()
    if (yield from stream.next_is("{")):
        yield from read_object(stream, tags.ends)
        yield from stream.close(tags.end_call)
        return
    start = stream.at
    try:
        yield from tags.read(stream, opening)
    except NotACall:
        stream.at = start
        yield from _read_pairs(tags, stream)


def _read_pairs(tags: Tags, stream: CallStream) -> Step[None]:
    """Read `name key=value …`, as these models write now and then."""
    name = yield from stream.run(_NAME)
    start = stream.at
    text = yield from stream.before(tags.ends)
    rest = stream.text[start + len(text) :]
    if not rest or not (rest.startswith(tags.end_call) or tags.ends_call(rest)):
        raise NotACall
    tool = stream.tools.get(name)
    schema = parameters(tool) if tool else {}
    try:
        pairs = [word.split("=", 1) for word in shlex.split(text)]
        arguments = [(key, typed(value, argument_types(schema, key), guess=True)) for key, value in pairs]
    except ValueError:
        raise NotACall from None
    stream.begin(name)
    stream.say("{" + ", ".join(f"{quoted(key)}: {value}" for key, value in arguments) + "}")
    yield from stream.close(tags.end_call)


def _syntax(name: str, prefix: str) -> ToolSyntax:
    call, end_call = f"<{prefix}tool_call>", f"</{prefix}tool_call>"
    tags = Tags(
        call=Tag(call),
        end_call=end_call,
        argument=Tag(f"<{prefix}arg_key>", f"</{prefix}arg_key>", _KEY),
        value=f"<{prefix}arg_value>",
        end_value=f"</{prefix}arg_value>",
        guess=True,
    )
    return syntax(
        name,
        Format(partial(_read, tags), tags.openings, tags.others),
        Frame(opening=call, head=call + "{name}\n", tail="\n" + end_call, between="\n"),
    )


GLM = _syntax("glm47", "")
LONGCAT = _syntax("longcat", "longcat_")
