"""JSON values as text and as a Struct."""

from typing import Any

import pytest

from mlx_grpc.v1 import generation_pb2 as wire
from shim.errors import ApiError
from shim.values import json_text, struct


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def test_deep_nesting_is_refused_where_the_wire_cannot_hold_it() -> None:
    """Values that JSON could carry but the wire could not are refused by name, and what is allowed does fit."""
    for write, depth in ((struct, 30), (json_text, 600)):
        with pytest.raises(ApiError) as refused:
            write(nested(depth), "field")
        assert (refused.value.status, refused.value.body["error"]["param"]) == (400, "field")
    fitting = wire.ChatRequest(chat_template_kwargs=struct(nested(24), "field"))
    assert wire.ChatRequest.FromString(fitting.SerializeToString()) == fitting


def test_text_keeps_keys_in_order_and_integers_whole() -> None:
    """A schema's order is the order in which an answer is written."""
    assert json_text({"b": 1, "a": {"d": 1.5, "c": None}}, "field") == '{"b":1,"a":{"d":1.5,"c":null}}'
