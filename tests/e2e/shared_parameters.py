"""The parameters that chat and completions share.

A row changes the bases of tests.e2e.rows. Rows of one parameter show its effect, its bounds and its refusals.
"""

import json
from typing import Any

from tests.e2e.rows import (
    END_ID,
    LETTER,
    LETTER_ID,
    TOKENS,
    No,
    Row,
    Rows,
    See,
    counts,
    differs,
    fits,
    is_json,
    same,
    says,
)
from tests.e2e.seen import Json


def _sampling(name: str, wire_name: str, good: dict[Any, See], bad: tuple[Any, ...], **also: Any) -> Rows:
    """Make the rows of a number: its values with their effects, and those that are refused."""
    outcomes: list[tuple[Any, See | No]] = [*good.items(), *((value, No(name, f"sampling.{name}")) for value in bad)]
    rows = [Row(also | {name: value}, {"sampling": also | {wire_name: value}}, see) for value, see in outcomes]
    return {name: tuple(rows)}


_DRAWN = {"temperature": 1, "seed": 3}
_BIASED = {"logit_bias": {str(LETTER_ID): 100}}
_W_BIASED = {"sampling": {"logitBias": {str(LETTER_ID): 100}}}


def _biased(http: Json, wire: Json | None, see: See | No) -> Row:
    """Make a row of a model that says one letter only."""
    return Row(_BIASED | http, None if wire is None else _W_BIASED | wire, see)


def _stopping(http: Json, see: See | No) -> Row:
    """Make the same row for the fields of Stopping, whose names differ in their case only."""
    return _biased(http, {"stopping": {_camel(name): value for name, value in http.items()}}, see)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def free(name: str, value: object) -> Row:
    """Make a row of what is accepted and changes nothing."""
    return Row({name: value}, None, same)


def _format(kind: str, value: object) -> Json:
    return {"response_format": {"type": kind, kind: value}}


_RANGE = "[ab]{2,4}"
_LARK = 'start: "yes" | "no"'
_SCHEMA: Json = {"type": "integer", "minimum": 0, "maximum": 99}

SHARED: Rows = {
    "model": (
        Row({"model": "nobody"}, {"model": "nobody"}, No("model", "", status=404, code=5)),
        Row({"model": ""}, None, No("model")),
        Row(None, {"model": ""}, same),
    ),
    **_sampling("temperature", "temperature", {0: same, 2: differs}, (-0.1, 2.1), seed=3),
    **_sampling("top_p", "topP", {1e-9: same, 1: differs}, (0, 1.1, -1), **_DRAWN),
    **_sampling("top_k", "topK", {1: same, 0: differs, 10**6: differs}, (-1,), **_DRAWN),
    **_sampling("min_p", "minP", {1: same, 0: differs}, (1.1, -0.1), **_DRAWN),
    **_sampling("repetition_penalty", "repetitionPenalty", {1: same, 2: differs}, (0, 2.1)),
    **_sampling("frequency_penalty", "frequencyPenalty", {0: same, 2: differs, -2: counts(TOKENS)}, (2.1, -2.1)),
    **_sampling("presence_penalty", "presencePenalty", {0: same, 2: differs, -2: counts(TOKENS)}, (2.1, -2.1)),
    "logit_bias": (
        _biased({}, {}, says(LETTER * TOKENS, "length")),
        Row({"logit_bias": {}}, {"sampling": {"logitBias": {}}}, same),
        *(
            Row(
                {"logit_bias": {token: bias}},
                {"sampling": {"logitBias": {token: bias}}},
                No("logit_bias", f"sampling.logit_bias[{token}]"),
            )
            for token, bias in (("384", 1), ("-1", 1), ("5", 101), ("5", -101))
        ),
    ),
    "seed": (
        Row(_DRAWN, {"sampling": _DRAWN}, differs),
        Row({"seed": -(2**63)}, {"sampling": {"seed": -(2**63)}}, same),
        Row({"seed": 2**63}, None, No("seed")),
        Row({"seed": 1.5}, None, No("seed")),
    ),
    "max_tokens": (
        Row({"max_tokens": 3}, {"stopping": {"maxTokens": 3}}, counts(3)),
        *(
            Row({"max_tokens": count}, {"stopping": {"maxTokens": count}}, No("max_tokens", "stopping.max_tokens"))
            for count in (0, -1)
        ),
    ),
    "min_tokens": (
        _stopping({"stop_token_ids": [LETTER_ID], "min_tokens": 5}, counts(6, "stop")),
        _stopping({"min_tokens": TOKENS + 1}, No("min_tokens", "stopping.min_tokens")),
        _stopping({"min_tokens": -1}, No("min_tokens", "stopping.min_tokens")),
    ),
    "stop": (
        _stopping({"stop": [LETTER * 3]}, says("")),
        _stopping({"stop": ["never", "x" * 256, "y", "z"]}, says(LETTER * TOKENS, "length")),
        _biased({"stop": LETTER * 2}, None, says("")),
        _stopping({"stop": []}, says(LETTER * TOKENS, "length")),
        _stopping({"stop": [""]}, No("stop", "stopping.stop[0]")),
        _stopping({"stop": ["a", "x" * 257]}, No("stop", "stopping.stop[1]")),
        _biased({"stop": ["a"] * 5}, {"stopping": {"stop": ["a"] * 17}}, No("stop", "stopping.stop")),
        _biased({"stop": [5]}, None, No("stop")),
    ),
    "stop_token_ids": (
        _stopping({"stop_token_ids": [7, LETTER_ID]}, says("")),
        _stopping({"stop_token_ids": [7, 384]}, No("stop_token_ids", "stopping.stop_token_ids[1]")),
        _stopping({"stop_token_ids": [-1]}, No("stop_token_ids", "stopping.stop_token_ids[0]")),
    ),
    "ignore_eos": tuple(
        Row(
            {"logit_bias": {str(END_ID): 100}, "ignore_eos": value},
            {"sampling": {"logitBias": {str(END_ID): 100}}, "stopping": {"ignoreEos": value}},
            counts(*expected),
        )
        for value, expected in ((True, (TOKENS, "length")), (False, (1, "stop")))
    ),
    "include_stop": (
        _stopping({"stop": [LETTER * 3], "include_stop": True}, says(LETTER * 3)),
        _stopping({"stop_token_ids": [LETTER_ID], "include_stop": True}, says(LETTER)),
        _biased({"stop": [LETTER], "include_stop_str_in_output": True}, None, says(LETTER)),
        _biased({"stop": [LETTER], "include_stop": False}, None, says("")),
    ),
    "n": (
        Row({"n": 3}, {"n": 3}, lambda seen, base: seen.texts == base.texts * 3),
        Row(
            {"n": 3} | _DRAWN,
            {"n": 3, "sampling": _DRAWN},
            lambda seen, _: len(set(seen.texts)) == len(seen.said) == 3,
        ),
        *(Row({"n": count}, {"n": count}, No("n", "n")) for count in (0, -1, 129)),
    ),
    "priority": (
        Row({"priority": 7}, {"priority": 7}, same),
        Row({"priority": -(2**31)}, {"priority": -(2**31)}, same),
        Row({"priority": 2**31}, None, No("priority")),
    ),
    "prompt_cache_key": (
        Row({"prompt_cache_key": "a key"}, {"cache": {"salt": "a key"}}, same),
        Row({"prompt_cache_key": "x" * 257}, {"cache": {"salt": "x" * 257}}, No("prompt_cache_key", "cache.salt")),
    ),
    "cache": (Row(None, {"cache": {"bypass": True}}, lambda seen, base: same(seen, base) and seen.cached_tokens == 0),),
    "stream": (free("stream", False), Row({"stream": "yes"}, None, No("stream"))),
    "stream_options": (
        Row({"stream_options": {"include_usage": True, "include_obfuscation": False}}, None, No("stream_options")),
    ),
    "response_format": (
        Row({"response_format": {"type": "text"}}, None, same),
        Row({"response_format": {"type": "json_object"}}, {"constraint": {"jsonObject": True}}, is_json),
        Row(
            _format("json_schema", {"name": "number", "description": "One.", "strict": True, "schema": _SCHEMA}),
            {"constraint": {"jsonSchema": json.dumps(_SCHEMA)}},
            fits("[0-9]{1,2}"),
        ),
        Row(_format("regex", _RANGE), {"constraint": {"regex": _RANGE}}, fits(_RANGE)),
        Row(_format("grammar", _LARK), {"constraint": {"grammar": _LARK}}, fits("yes|no")),
        Row(_format("choice", ["yes", "no"]), {"constraint": {"choice": {"options": ["yes", "no"]}}}, fits("yes|no")),
        Row({"response_format": {"type": "xml"}}, None, No("response_format.type")),
        Row(
            _format("json_schema", {"schema": {"type": 5}}),
            {"constraint": {"jsonSchema": '{"type": 5}'}},
            No("response_format", "constraint.json_schema"),
        ),
    ),
    "structured_outputs": (
        Row({"structured_outputs": {"json": _SCHEMA}}, None, fits("[0-9]{1,2}")),
        Row({"structured_outputs": {"json_object": True}}, None, is_json),
        Row({"structured_outputs": {"regex": _RANGE}}, None, fits(_RANGE)),
        Row({"structured_outputs": {"choice": ["yes", "no"]}}, None, fits("yes|no")),
        Row({"structured_outputs": {"grammar": _LARK}}, None, fits("yes|no")),
        Row({"structured_outputs": {"structural_tag": "{}"}}, None, No("structured_outputs.structural_tag")),
        Row({"structured_outputs": {"whitespace_pattern": " "}}, None, No("structured_outputs.whitespace_pattern")),
        Row({"structured_outputs": {"regex": "("}}, None, No("structured_outputs.regex")),
    ),
    "guided": (
        Row({"guided_json": _SCHEMA}, None, fits("[0-9]{1,2}")),
        Row({"guided_json": json.dumps(_SCHEMA)}, None, fits("[0-9]{1,2}")),
        Row({"guided_regex": _RANGE}, None, fits(_RANGE)),
        Row({"guided_choice": ["yes", "no"]}, None, fits("yes|no")),
        Row({"guided_grammar": _LARK}, None, fits("yes|no")),
        Row({"regex": _RANGE}, None, fits(_RANGE)),
        Row({"regex": "a", "guided_regex": "a"}, None, No("regex")),
        Row({"guided_choice": []}, None, No("guided_choice")),
    ),
    "user": (free("user", "someone"), Row({"user": 5}, None, No("user"))),
    "unknown": (free("shoe_size", 43), free("metadata", {"a": "b"}), free("store", True)),
    "lora": (Row(None, {"lora": "one"}, No(code=5)),),
    "request_id": (
        Row(None, {"requestId": "mine"}, lambda seen, _: seen.raw[0].started.request_id == "mine"),
        Row(None, {"requestId": "x" * 129}, No("", "request_id")),
    ),
    "output": (
        Row(
            None,
            {"output": {"progress": True}},
            lambda seen, _: {event.WhichOneof("event") for event in seen.raw} > {"started", "progress", "text"},
        ),
        Row(None, {"output": {"tokenIds": True}}, lambda seen, _: len(seen.one.ids) == seen.completion_tokens),
        Row(
            None,
            {"output": {"promptLogprobs": 1}},
            lambda seen, base: (
                same(seen, base)
                and len(seen.one.tokens) == seen.prompt_tokens
                and seen.one.tokens[0].logprob is None
                and all(len(token.top) == 1 for token in seen.one.tokens[1:])
            ),
        ),
        Row(None, {"output": {"promptLogprobs": 21}}, No("", "output.prompt_logprobs")),
        Row(None, {"output": {"logprobs": True, "topLogprobs": 21}}, No("", "output.top_logprobs")),
        Row(None, {"output": {"topLogprobs": 2}}, No("", "output.top_logprobs")),
    ),
}
