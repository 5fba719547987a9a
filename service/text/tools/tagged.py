"""Reading calls whose arguments are elements of their own: `<parameter=city>Köln</parameter>`."""

import html
import re
from dataclasses import dataclass
from functools import cached_property

from service.text.tools.markers import Markers, markers
from service.text.tools.objects import read_object
from service.text.tools.schema import Schema, argument_types, parameters
from service.text.tools.source import NotACall, Step
from service.text.tools.stream import CallStream
from service.text.tools.trim import Trim, Trimmer
from service.text.tools.values import quoted, typed

_NAME = re.compile(r"[^\s<>{]*")
_CDATA, _END_CDATA = "<![CDATA[", "]]>"
_STRING = frozenset({"string"})


@dataclass(frozen=True)
class Tag:
    """An element's beginning: `opening`, a header in which `name` finds the name, `closing`.

    Without `closing` the header is the name.
    """

    opening: str
    closing: str = ""
    name: re.Pattern[str] = re.compile(r"\bname\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'<>]+))")


@dataclass(frozen=True, eq=False)
class Tags:
    """The elements of a format. A call's arguments may also be one JSON object, in an element `block` if there is one.

    `value` is what opens a value if its header does not. `guess`: arguments without a type may be JSON.
    `string` is found in the header of a value that is one, if headers tell. `escaped`: names have XML's entities.
    `cdata`: a value may stand in a CDATA section.
    """

    call: Tag
    end_call: str
    argument: Tag
    end_value: str
    section: tuple[str, ...] = ()
    value: str = ""
    block: tuple[Tag, str] | None = None
    trim: Trim = Trim.BLANK
    guess: bool = False
    string: re.Pattern[str] | None = None
    escaped: bool = False
    cdata: bool = False

    @property
    def openings(self) -> tuple[str, ...]:
        """What begins a call."""
        return (*self.section[:1], self.call.opening)

    @property
    def others(self) -> tuple[str, ...]:
        """All other markers."""
        block = (self.block[0].opening, self.block[1]) if self.block else ()
        closings = (self.call.closing, self.argument.closing, self.value, self.end_call, *self.section[1:])
        return tuple(filter(None, (*closings, self.argument.opening, self.end_value, *block)))

    @cached_property
    def ends(self) -> Markers:
        """What ends broken arguments."""
        return markers(*self.section[1:], self.end_call, *self.openings)

    def ends_call(self, rest: str) -> bool:
        """Whether `rest`, which the text ends with, can only be the beginning of what ends a call."""
        follows = (self.argument.opening, *((self.block[0].opening,) if self.block else ()))
        ends = (self.end_call, *self.section[1:])
        return any(end.startswith(rest) for end in ends) and not any(text.startswith(rest) for text in follows)

    def read(self, stream: CallStream, opening: str) -> Step[None]:
        """Read one call."""
        if opening in self.section:
            yield from stream.blank()
            if not (yield from stream.take(self.call.opening)):
                yield from read_object(stream, self.ends)
                yield from stream.close(*self.section[1:])
                return
        name = self._name_in(self.call, (yield from self._header(stream, self.call)))
        yield from stream.blank()
        block = self.block[0].opening if self.block else "{"
        follows = yield from stream.next_is(self.argument.opening, self.end_call, block)
        if not follows and not self._is_cut(stream):
            raise NotACall
        stream.begin(name)
        if (yield from stream.next_is(block)):
            yield from self._json(stream)
        elif not (yield from self._arguments(stream, name)):
            yield from stream.verbatim(self.ends)
        yield from stream.close(self.end_call, *self.section[1:])

    def _header(self, stream: CallStream, tag: Tag) -> Step[str]:
        if not tag.closing:
            yield from stream.blank()
            return (yield from stream.run(_NAME))
        stops = () if tag.closing.startswith("<") else ("\n", "<")
        header = yield from stream.before(markers(tag.closing, *stops))
        yield from stream.take(tag.closing)
        return tag.opening + header

    def _name_in(self, tag: Tag, header: str) -> str:
        if not tag.closing:
            return header
        found = tag.name.search(header)
        name = next(filter(None, found.groups()), "") if found else ""
        return html.unescape(name) if self.escaped else name.strip()

    def _json(self, stream: CallStream) -> Step[None]:
        if self.block:
            tag, end = self.block
            yield from stream.take(tag.opening)
            yield from self._header(stream, tag)
            yield from stream.blank()
            yield from stream.arguments(markers(end, self.end_call))
            yield from stream.blank()
            if not (yield from stream.take(end)):
                stream.cut(end)
        else:
            yield from stream.arguments(self.ends)

    def _arguments(self, stream: CallStream, function: str) -> Step[bool]:
        """Say the arguments as JSON; return whether they are whole."""
        tool = stream.tools.get(function)
        schema = parameters(tool) if tool else {}
        stream.say("{")
        comma = ""
        while True:
            yield from stream.blank()
            if (yield from stream.next_is(self.end_call, *self.section[1:])) or self._is_cut(stream):
                stream.say("}")
                return True
            if not (yield from stream.take(self.argument.opening)):
                stream.cut(*self.others)
                return False
            header = yield from self._header(stream, self.argument)
            if stream.over and not (yield from stream.more()):
                return False
            name = self._name_in(self.argument, header)
            if self.value:
                yield from stream.blank()
                if not (yield from stream.take(self.value)):
                    stream.cut(self.value)
                    return False
            stream.say(f"{comma}{quoted(name)}: ")
            comma = ", "
            if not (yield from self._value(stream, *self._types(header, schema, name))):
                return False

    def _is_cut(self, stream: CallStream) -> bool:
        """Whether the end of the text cuts what ends a call here."""
        return stream.ended and not stream.over and self.ends_call(stream.text[stream.at :])

    def _types(self, header: str, schema: Schema, name: str) -> tuple[frozenset[str] | None, bool]:
        """Return the types that a value may have, and whether it may be JSON where they do not tell."""
        if not self.string:
            return argument_types(schema, name), self.guess
        return (_STRING, False) if self.string.search(header) else (None, True)

    def _value(self, stream: CallStream, types: frozenset[str] | None, guess: bool) -> Step[bool]:
        """Say a value as JSON, a string as it comes; return whether it is whole."""
        if self.cdata and (yield from self._opens_cdata(stream)):
            text = yield from stream.before(markers(_END_CDATA))
            closed = yield from stream.take(_END_CDATA)
            value = typed(text, types, guess=guess)
            stream.say(value if closed else value.removesuffix('"'))
            yield from stream.blank()
            return bool((yield from stream.take(self.end_value))) or stream.cut(self.end_value)
        streams = types == _STRING or (types is None and not guess)
        trimmer, text = Trimmer(self.trim), ""
        stream.say('"' if streams else "")
        ends, marker, whole = markers(self.end_value, self.end_call), "", False
        while not whole:
            edge, marker = ends.find(stream.text, stream.at)
            whole = marker == self.end_value or (bool(marker) and (yield from self._ends_call(stream, edge)))
            waits = not marker and (yield from stream.more())
            edge += 0 if whole else len(marker)
            part = trimmer.feed(stream.text[stream.at : edge])
            stream.at = edge if marker or waits else len(stream.text)
            stream.settle()
            if streams:
                stream.say(quoted(part)[1:-1])
            else:
                text += part
            if not (marker or waits):
                break
        if streams:
            stream.say('"' if whole else "")
        elif whole or text:
            value = typed(text, types, guess=guess)
            stream.say(value if whole else value.removesuffix('"'))
        if whole:
            yield from stream.take(self.end_value)
        return whole

    def _ends_call(self, stream: CallStream, edge: int) -> Step[bool]:
        """Return whether a call ends at `edge`, in a value: its section or the text ends there, or another begins."""
        start, stream.at = stream.at, edge + len(self.end_call)
        yield from stream.blank()
        follows = yield from stream.next_is(*self.section[1:], *self.openings)
        ends = bool(follows) or stream.at == len(stream.text)
        stream.at = start
        return ends

    def _opens_cdata(self, stream: CallStream) -> Step[bool]:
        start = stream.at
        yield from stream.blank()
        opens = bool((yield from stream.take(_CDATA)))
        stream.at = stream.at if opens or stream.cut(_CDATA) else start
        return opens
