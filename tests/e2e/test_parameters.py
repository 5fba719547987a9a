"""Every parameter, over both ways: what is sent, what must be seen; a parameter without a row fails."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from grpc import aio
from tokenizers import Tokenizer

from mlx_grpc.v1 import generation_pb2 as pb
from shim import schemas, unserved
from tests.conftest import Folders
from tests.e2e.chat_parameters import CHATS
from tests.e2e.rows import BASE_CHAT, BASE_TEXT, END_ID, LETTER, LETTER_ID, WIRE_CHAT, WIRE_TEXT, No, Row, Rows
from tests.e2e.seen import CHAT, TEXT, Json, Refused, ask, call, wire
from tests.e2e.text_parameters import TEXTS

PROMPTS = {"text", "tokenIds"}


def numbered(table: Rows) -> list[Any]:
    """Give all rows, each with a name."""
    return [pytest.param(row, id=f"{name}-{place}") for name, rows in table.items() for place, row in enumerate(rows)]


def merged(base: Json, changes: Json) -> Json:
    """Change a request of the wire, its messages field by field; None takes a field out."""
    made = {name: value for name, value in base.items() if not (name in PROMPTS and PROMPTS & set(changes))}
    for name, value in changes.items():
        old = made.get(name)
        made[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return {name: value for name, value in made.items() if value is not None}


async def check(row: Row, answer: Any, base: Any, *, status: int, field: str) -> None:
    """Check an answer, or that the request was refused with `status` for `field`."""
    if not isinstance(row.see, No):
        assert row.see(await answer, await base)
        return
    with pytest.raises(Refused) as refused:
        await answer
    base.close()
    assert (refused.value.error.status, refused.value.error.field) == (status, field)
    assert refused.value.error.message


async def check_row(
    http: httpx.AsyncClient, channel: aio.Channel, row: Row, path: str, base: Json, wire_base: Json
) -> None:
    """Check a row over both ways."""
    no = row.see if isinstance(row.see, No) else No()
    if row.http is not None:
        answer = ask(http, path, base | row.http)
        await check(row, answer, ask(http, path, base), status=no.status, field=no.param)
    if row.wire is not None:
        wired = call(channel, merged(wire_base, row.wire))
        await check(row, wired, call(channel, wire_base), status=no.code, field=no.field)


@pytest.mark.parametrize("row", numbered(CHATS))
async def test_a_parameter_of_chat(taught: httpx.AsyncClient, taught_channel: aio.Channel, row: Row) -> None:
    """What is accepted is seen in the answer, and what is not is refused by its name."""
    await check_row(taught, taught_channel, row, CHAT, BASE_CHAT, WIRE_CHAT)


@pytest.mark.parametrize("row", numbered(TEXTS))
async def test_a_parameter_of_completions(taught: httpx.AsyncClient, taught_channel: aio.Channel, row: Row) -> None:
    """What is accepted is seen in the answer, and what is not is refused by its name."""
    await check_row(taught, taught_channel, row, TEXT, BASE_TEXT, WIRE_TEXT)


def declared(message: Any, prefix: str = "") -> Iterator[str]:
    """Give the paths of all fields that a message's descriptor has."""
    for field in message.fields:
        name = prefix + field.name
        inner = field.message_type
        is_map = inner is not None and inner.GetOptions().map_entry
        if inner is None or is_map or inner.full_name == "google.protobuf.Struct":
            yield name
        else:
            yield from declared(inner, f"{name}.")


def filled(message: Message, prefix: str = "") -> Iterator[str]:
    """Give the paths of all fields that are set in a message."""
    for field, value in message.ListFields():
        name = prefix + field.name
        yield name
        if field.type == FieldDescriptor.TYPE_MESSAGE and not hasattr(value, "keys"):
            for inner in value if hasattr(value, "__len__") and not isinstance(value, Message) else [value]:
                yield from filled(inner, f"{name}.")


@pytest.mark.parametrize(
    ("table", "base", "kind"), [(CHATS, WIRE_CHAT, pb.ChatRequest), (TEXTS, WIRE_TEXT, pb.GenerateRequest)]
)
def test_no_field_of_the_wire_is_without_a_row(table: Rows, base: Json, kind: type[Message]) -> None:
    """A new field of a request needs a row that shows what it does."""
    shown: set[str] = set()
    for row in (row for rows in table.values() for row in rows if row.wire is not None):
        shown |= set(filled(wire(merged(base, row.wire or {}))))
    assert set(declared(kind.DESCRIPTOR)) - shown == set()


def properties(schema: Any, definitions: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Give the paths of all properties that a JSON Schema of the shim's declares."""
    if "$ref" in schema:
        yield from properties(definitions[schema["$ref"].rpartition("/")[2]], definitions, prefix)
    for name, inner in schema.get("properties", {}).items():
        yield prefix + name
        yield from properties(inner, definitions, f"{prefix}{name}.")
    for inner in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        yield from properties(inner, definitions, prefix)


def keys(value: object, prefix: str = "") -> Iterator[str]:
    """Give the paths of all keys of a body."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield prefix + name
            yield from keys(inner, f"{prefix}{name}.")
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner, prefix)


@pytest.mark.parametrize(
    ("table", "base", "kind"),
    [(CHATS, BASE_CHAT, schemas.ChatRequest), (TEXTS, BASE_TEXT, schemas.CompletionRequest)],
)
def test_no_field_of_http_is_without_a_row(table: Rows, base: Json, kind: type[schemas.GenerationRequest]) -> None:
    """A new field of a body needs a row, those that are refused included."""
    document = kind.model_json_schema()
    wanted = set(properties(document, document["$defs"])) | set(kind.unserved)
    shown: set[str] = set()
    for row in (row for rows in table.values() for row in rows if row.http is not None):
        shown |= set(keys(base | (row.http or {})))
    assert wanted - shown == set()


def nulls(document: Mapping[str, Any], given: Mapping[str, Any], *more: str) -> Json:
    """Give a null for each optional property of a document that is not given."""
    return dict.fromkeys({*document["properties"], *more} - set(given))


@pytest.mark.parametrize(
    ("path", "base", "kind", "refused"),
    [
        (CHAT, BASE_CHAT, schemas.ChatRequest, unserved.CHAT),
        (TEXT, BASE_TEXT, schemas.CompletionRequest, unserved.COMPLETIONS),
    ],
)
async def test_nulls_are_defaults(
    taught: httpx.AsyncClient, path: str, base: Json, kind: type[schemas.GenerationRequest], refused: Mapping[str, Any]
) -> None:
    """A null in any field, those that nothing serves included, is as good as no field."""
    empty = nulls(kind.model_json_schema(), base, *refused, "metadata", "store")
    assert len(empty) > 20
    assert (await ask(taught, path, base | empty)) == await ask(taught, path, base)


async def test_nulls_inside_are_defaults(taught: httpx.AsyncClient) -> None:
    """So is one in a message, a tool or a format."""
    document = schemas.ChatRequest.model_json_schema()
    message = {"role": "user", "content": "Draw."}
    empty = nulls(document["$defs"]["UserMessage"], message)
    function = {"name": "f", "description": None, "parameters": None, "strict": None}
    tools = {"tools": [{"type": "function", "function": function}], "tool_choice": "none"}
    nested = {
        "messages": [message | empty],
        "response_format": {"type": "text"} | nulls(document["$defs"]["TextFormat"], {"type": "text"}),
        "structured_outputs": nulls(document["$defs"]["StructuredOutputs"], {}),
        "reasoning": nulls(document["$defs"]["Reasoning"], {}),
        "chat_template_kwargs": {},
    }
    base = await ask(taught, CHAT, BASE_CHAT)
    assert await ask(taught, CHAT, BASE_CHAT | nested) == base
    assert (await ask(taught, CHAT, BASE_CHAT | tools)).texts == base.texts


async def test_unknown_fields_are_ignored(taught: httpx.AsyncClient) -> None:
    """Wherever they are, they change nothing and are no error."""
    unknown = {"shoe_size": 43, "x": [{"y": None}]}
    part = {"type": "text", "text": "Draw.", "cache_control": {"type": "ephemeral"}}
    body = BASE_CHAT | unknown | {"messages": [{"role": "user", "content": [part]} | unknown]}
    body |= {"response_format": {"type": "text"} | unknown}
    assert await ask(taught, CHAT, body) == await ask(taught, CHAT, BASE_CHAT)
    assert await ask(taught, TEXT, BASE_TEXT | unknown) == await ask(taught, TEXT, BASE_TEXT)


async def test_unknown_fields_of_the_wire_are_ignored(taught_channel: aio.Channel) -> None:
    """A newer client's message is read as an older one."""
    known = wire(WIRE_CHAT)
    newer = pb.ChatRequest.FromString(known.SerializeToString() + bytes([0xFA, 0x7F, 0x03]) + b"new")
    assert len(newer.SerializeToString()) > len(known.SerializeToString())
    assert await call(taught_channel, newer) == await call(taught_channel, known)


def test_the_table_knows_its_model(model_folder: Folders) -> None:
    """The token ids in it are those that it takes them for."""
    words: Tokenizer = Tokenizer.from_file(str(model_folder("llama") / "tokenizer.json"))
    assert (words.id_to_token(LETTER_ID), words.token_to_id("<|im_end|>")) == (LETTER, END_ID)
