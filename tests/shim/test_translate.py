"""OpenAI's JSON to the wire."""

import re
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_grpc.v1 import generation_pb2 as wire
from shim import translate
from shim.errors import ApiError
from shim.reading import read
from shim.schemas import ChatRequest, CompletionRequest

Json = dict[str, Any]
HELLO: Json = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


def chat(**fields: object) -> wire.ChatRequest:
    return translate.chat(read(ChatRequest, HELLO | fields), "").wires[0]


def completion(**fields: object) -> wire.GenerateRequest:
    return translate.completion(read(CompletionRequest, {"model": "tiny", "prompt": "x"} | fields), "").wires[0]


def refusal(**fields: object) -> Json:
    with pytest.raises(ApiError) as caught:
        chat(**fields)
    assert caught.value.status == 400
    return dict(caught.value.body["error"])


def completion_refusal(**fields: object) -> Json:
    with pytest.raises(ApiError) as caught:
        completion(**fields)
    assert caught.value.status == 400
    return dict(caught.value.body["error"])


def as_json(message: wire.ChatRequest | wire.GenerateRequest) -> Json:
    made: Json = MessageToDict(message)
    return {name: value for name, value in made.items() if value != {}}


def test_a_plain_chat_sets_nothing_but_model_and_messages() -> None:
    """Only what the client said reaches the wire."""
    assert as_json(chat()) == {"model": "tiny", "messages": [{"role": "ROLE_USER", "content": [{"text": "hi"}]}]}


def test_values_that_say_the_default_set_nothing() -> None:
    """Fields that many clients send with their defaults are not refused as unimplemented."""
    plain = as_json(chat())
    assert as_json(chat(logprobs=False, top_logprobs=0, tools=[], tool_choice="none")) == plain
    assert as_json(chat(response_format={"type": "text"}, user="u", metadata={"a": "b"}, store=True)) == plain
    assert as_json(chat(temperature=None, stop=None, n=None, stream=None, logit_bias=None, tools=None)) == plain


def test_sampling_and_stopping_fields_arrive() -> None:
    """Every sampling and stopping field has its place on the wire."""
    sampling: Json = {
        "temperature": 0, "top_p": 0.5, "top_k": 4, "min_p": 0.1, "repetition_penalty": 1.1,
        "frequency_penalty": -1, "presence_penalty": 2, "logit_bias": {"5": -100, "6": 0.5}, "seed": 2**63 - 1,
    }  # fmt: skip
    stopping: Json = {"max_tokens": 7, "min_tokens": 2, "stop": "END", "stop_token_ids": [3], "ignore_eos": True}
    request = chat(**sampling, **stopping, include_stop_str_in_output=True, n=2)
    assert request.sampling.HasField("temperature")
    assert request.sampling == wire.SamplingParams(**(sampling | {"logit_bias": {5: -100, 6: 0.5}}))
    assert request.stopping == wire.Stopping(**(stopping | {"stop": ["END"], "include_stop": True}))
    assert request.n == 2


def test_the_newer_name_of_max_tokens_wins() -> None:
    """Of max_tokens and max_completion_tokens the newer one counts, and errors name it."""
    request = read(ChatRequest, HELLO | {"max_tokens": 1, "max_completion_tokens": 2})
    translated = translate.chat(request, "")
    assert translated.wires[0].stopping.max_tokens == 2
    assert translated.params.name("stopping.max_tokens") == "max_completion_tokens"


def test_messages_arrive_whole() -> None:
    """Parts, names, tool calls, results and reasoning keep their places."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "n"},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "content": "", "tool_call_id": "c1"},
    ]
    first, second, third = chat(messages=messages).messages
    parts = [wire.ContentPart(text="a"), wire.ContentPart(text="b")]
    assert first == wire.ChatMessage(role=wire.ROLE_DEVELOPER, content=parts, name="n")
    calls = [wire.ToolCall(id="c1", name="f", arguments='{"a": 1}')]
    assert second == wire.ChatMessage(role=wire.ROLE_ASSISTANT, tool_calls=calls, reasoning="hm")
    assert third == wire.ChatMessage(role=wire.ROLE_TOOL, content=[wire.ContentPart(text="")], tool_call_id="c1")


def test_tools_and_their_choice_arrive() -> None:
    """Tools keep integers in their schemas, and the choice its function."""
    function = {"name": "f", "description": "d", "parameters": {"maximum": 1}, "strict": True}
    request = chat(
        tools=[{"type": "function", "function": function}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=False,
    )
    assert list(request.tools) == [wire.Tool(name="f", description="d", parameters_json='{"maximum":1}', strict=True)]
    assert request.tool_choice == wire.ToolChoice(mode=wire.TOOL_CHOICE_MODE_FUNCTION, function_name="f")
    assert request.HasField("parallel_tool_calls")


def test_formats_reasoning_and_template_arguments_arrive() -> None:
    """response_format is a constraint, reasoning_effort an effort, and template arguments a Struct."""
    assert chat(response_format={"type": "json_object"}).constraint.json_object
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"minimum": 1}}}
    assert chat(response_format=schema).constraint.json_schema == '{"minimum":1}'
    assert chat(reasoning_effort="low").reasoning.effort == "low"
    assert dict(chat(chat_template_kwargs={"enable_thinking": False}).chat_template_kwargs) == {
        "enable_thinking": False
    }
    assert chat(logprobs=True, top_logprobs=3).output == wire.OutputOptions(logprobs=True, top_logprobs=3)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content[0].text"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"max_completion_tokens": -(2**40)}, "max_completion_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 1e30}, "seed"),
        ({"n": "1"}, "n"),
        ({"priority": 2**31}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"prompt_cache_key": 5}, "prompt_cache_key"),
        ({"user": 5}, "user"),
        ({"logprobs": 1}, "logprobs"),
        ({"logprobs": True, "top_logprobs": "5"}, "top_logprobs"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"top_k": 2**40}, "top_k"),
        ({"stop": [5]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": list("abcde")}, "stop"),
        ({"stop_token_ids": [2**31]}, "stop_token_ids"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1_0": 1}}, "logit_bias"),
        ({"logit_bias": {"9999999999": 1}}, "logit_bias"),
        ({"logit_bias": {"5": "x"}}, "logit_bias"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema"),
        ({"functions": []}, "functions"),
        ({"function_call": "auto"}, "function_call"),
    ],
)
def test_a_wrong_field_is_named(fields: Json, param: str) -> None:
    """A field with the wrong JSON type, or beyond the wire's integers, is refused by its OpenAI name."""
    error = refusal(**fields)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert param in error["message"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_value"),
        ({"messages": [{"role": 5, "content": "x"}]}, "invalid_type"),
        ({"messages": [{"role": "user", "content": 5}]}, "invalid_type"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "invalid_value"),
        ({"messages": "x"}, "invalid_type"),
        ({"messages": ["x"]}, "invalid_type"),
        ({"messages": None}, "invalid_type"),
        ({"model": ""}, "invalid_value"),
        ({"model": 5}, "invalid_type"),
        ({"temperature": "1"}, "invalid_type"),
        ({"n": 1.5}, "invalid_type"),
        ({"n": 2**31}, "invalid_value"),
        ({"seed": 2**63}, "invalid_value"),
        ({"seed": float(2**70)}, "invalid_value"),
        ({"seed": "1"}, "invalid_type"),
        ({"stop": list("abcde")}, "invalid_value"),
        ({"stop": [5]}, "invalid_type"),
        ({"stop_token_ids": [2**31]}, "invalid_value"),
        ({"stop_token_ids": ["x"]}, "invalid_type"),
        ({"logit_bias": []}, "invalid_type"),
        ({"logit_bias": {"x": 1}}, "invalid_value"),
        ({"logit_bias": {"5": "x"}}, "invalid_type"),
        ({"stream": "yes"}, "invalid_type"),
        ({"tool_choice": "maybe"}, "invalid_value"),
        ({"tool_choice": {"type": "maybe"}}, "invalid_value"),
        ({"tool_choice": 5}, "invalid_type"),
        ({"response_format": {"type": "xml"}}, "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "missing_required_parameter"),
        ({"chat_template_kwargs": {"a": [[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]}}, "invalid_value"),
        ({"functions": []}, "unsupported_parameter"),
    ],
)
def test_the_code_tells_a_wrong_type_from_a_wrong_value(fields: Json, code: str) -> None:
    """Only what has another JSON type is invalid_type."""
    assert refusal(**fields)["code"] == code


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        (["a", 5], "invalid_type"),
        ([[1], [2**31]], "invalid_value"),
        (["a"] * 129, "invalid_value"),
        ([2**31], "invalid_value"),
        ([1e30], "invalid_value"),
        ([1.5], "invalid_type"),
        ([True], "invalid_type"),
        (5, "invalid_type"),
        (None, "invalid_type"),
    ],
)
def test_the_code_tells_what_is_wrong_with_a_prompt(prompt: object, code: str) -> None:
    """Prompts have the wrong type, or a value that no model has, or are too many."""
    assert completion_refusal(prompt=prompt)["code"] == code


@pytest.mark.parametrize("prompt", ["text", ["text"]])
def test_a_prompt_may_be_a_string(prompt: object) -> None:
    """A string, and a list of exactly one string, are text."""
    assert completion(prompt=prompt).text == "text"


@pytest.mark.parametrize("prompt", [[1, 2], [[1, 2]]])
def test_a_prompt_may_be_token_ids(prompt: object) -> None:
    """A list of ids, and a list of exactly one such list, are token ids."""
    assert list(completion(prompt=prompt).token_ids.ids) == [1, 2]


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        5,
        {},
        ["a", [1]],
        [[1], "a"],
        [[1], 2],
        ["a", 5],
        [1, "a"],
        [True],
        [1.5],
        [2**31],
        [None],
        [["a"]],
        [[[1]]],
    ],
)
def test_any_other_prompt_is_refused(prompt: object) -> None:
    """Prompts of other shapes are refused by name, never passed on in part."""
    assert completion_refusal(prompt=prompt)["param"] == "prompt"


@pytest.mark.parametrize("prompts", [["a", ""], [[1], [2, 3]]])
def test_several_prompts_are_several_calls(prompts: list[object]) -> None:
    """Each has a name of its own, and all else is the same."""
    fields: Json = {"n": 3, "seed": 5, "max_tokens": 2, "echo": True}
    request = translate.completion(
        read(CompletionRequest, {"model": "tiny", "prompt": prompts} | fields), request_id="r" * 128
    )
    assert [call.request_id for call in request.wires] == ["r" * 126 + "-0", "r" * 126 + "-1"]
    assert request.form.choices == 6
    for call, prompt in zip(request.wires, prompts, strict=True):
        call.ClearField("request_id")
        assert call == completion(prompt=prompt, **fields)


def test_the_number_of_choices_of_all_prompts_is_bounded() -> None:
    """As many as one prompt may have, whatever their shares."""
    assert completion_refusal(prompt=["a"] * 65, n=2)["param"] == "prompt"
    body: Json = {"model": "tiny", "prompt": ["a"] * 64, "n": 2}
    assert len(translate.completion(read(CompletionRequest, body), "").wires) == 64


def test_what_many_prompts_share_is_bounded() -> None:
    """It is copied for each, which a long list of token ids would make a long wait for all others."""
    bias = {str(token): 1 for token in range(16_384)}
    assert completion_refusal(prompt=["a"] * 128, logit_bias=bias)["param"] == "prompt"
    assert len(completion(prompt="a", logit_bias=bias).sampling.logit_bias) == 16_384
    body: Json = {"model": "tiny", "prompt": ["a"] * 128, "guided_json": {"title": "x" * 30_000}}
    assert len(translate.completion(read(CompletionRequest, body), "").wires) == 128


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user", "content": "a"}] * 4097}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 16_385}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}] * 16_385}]}, "messages[0].tool_calls"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 1025}, "tools"),
        ({"stop_token_ids": [5] * 1025}, "stop_token_ids"),
        ({"guided_choice": ["a"] * 4097}, "guided_choice"),
        ({"logit_bias": {str(token): "a" for token in range(16_385)}}, "logit_bias"),
        ({"chat_template_kwargs": {"a": [1] * 300_000}}, "chat_template_kwargs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_longer_than_anyone_needs_is_refused_unread(fields: Json, param: str) -> None:
    """The time to read it would be taken from all others; the entries behind are not even looked at."""
    with pytest.raises(ApiError) as refused:
        chat(**fields)
    error = refused.value.body["error"]
    assert (error["param"], error["code"]) == (param, "invalid_value")
    assert "at most" in error["message"]


def test_a_whole_number_may_have_a_point() -> None:
    """JSON Schema calls it an integer."""
    value = 2.0
    request = chat(max_tokens=value, n=value, seed=value, stop_token_ids=[value])
    assert (request.stopping.max_tokens, request.n, request.sampling.seed) == (2, 2, 2)
    assert list(request.stopping.stop_token_ids) == [2]
    assert list(completion(prompt=[value, 3]).token_ids.ids) == [2, 3]


def test_completion_defaults() -> None:
    """Completions stop after 16 tokens unless told otherwise, and pass echo and logprobs on."""
    assert completion().stopping.max_tokens == 16
    request = completion(max_tokens=0, echo=True, logprobs=2, best_of=1)
    assert request.stopping.HasField("max_tokens")
    assert request.stopping.max_tokens == 0
    assert request.output == wire.OutputOptions(echo=True, logprobs=True, top_logprobs=2, prompt_logprobs=2)


@pytest.mark.parametrize(
    ("fields", "output"),
    [
        ({"logprobs": 0}, wire.OutputOptions(logprobs=True)),
        ({"logprobs": 20}, wire.OutputOptions(logprobs=True, top_logprobs=20)),
        ({"logprobs": 0, "echo": True}, wire.OutputOptions(echo=True, logprobs=True, prompt_logprobs=0)),
        ({"echo": True}, wire.OutputOptions(echo=True)),
        ({"logprobs": None, "echo": None}, wire.OutputOptions()),
    ],
)
def test_logprobs_of_a_completion_are_a_number(fields: Json, output: wire.OutputOptions) -> None:
    """Zero asks for the tokens without alternatives, and with echo the prompt's tokens are asked for as well."""
    assert completion(**fields).output == output
    assert completion(**fields).output.HasField("prompt_logprobs") == output.HasField("prompt_logprobs")


@pytest.mark.parametrize("fields", [{"logprobs": -1}, {"logprobs": 21}])
def test_a_number_of_logprobs_out_of_range_is_the_services_to_refuse(fields: Json) -> None:
    """It arrives as it is, and what the service says of it is told of the field that the client sent."""
    body: Json = {"model": "tiny", "prompt": "x"} | fields
    request = translate.completion(read(CompletionRequest, body), "")
    assert request.wires[0].output.top_logprobs == fields["logprobs"]
    assert request.params.name("output.top_logprobs") == "logprobs"
    assert request.params.name("output.prompt_logprobs") == "logprobs"


def test_top_logprobs_need_logprobs() -> None:
    """Alternatives of tokens that are not told are refused by name."""
    assert refusal(top_logprobs=2)["param"] == "top_logprobs"
    assert refusal(top_logprobs=2, logprobs=False)["param"] == "top_logprobs"
    assert chat(top_logprobs=0, logprobs=True).output == wire.OutputOptions(logprobs=True)


def test_priority_and_cache_key_arrive() -> None:
    """The extension priority and the key under which prompts are cached have their places."""
    for request in (chat(priority=-3, prompt_cache_key="mine"), completion(priority=-3, prompt_cache_key="mine")):
        assert request.priority == -3
        assert request.cache == wire.CacheOptions(salt="mine")
    for request in (chat(priority=None, prompt_cache_key=None), completion(prompt_cache_key="")):
        assert not request.HasField("priority")
        assert not request.HasField("cache")
    assert chat(priority=0).HasField("priority")


@pytest.mark.parametrize(
    "fields", [{"best_of": 2}, {"best_of": 0}, {"best_of": 1, "n": 2}, {"suffix": "x"}, {"logprobs": True}]
)
def test_completion_fields_without_a_place_are_refused(fields: Json) -> None:
    """What the wire cannot say is refused by name rather than ignored."""
    assert completion_refusal(**fields)["param"] == next(iter(fields))


def test_as_many_as_are_returned_is_what_best_of_may_say() -> None:
    """Then there is nothing to choose from, and an empty suffix is none."""
    assert completion(best_of=2, n=2, suffix="").n == 2
    assert completion(best_of=1).text == "x"


def test_reasoning_has_several_names() -> None:
    """Effort and budget arrive from both places, and errors name the one that was used."""
    for fields, names in (
        ({"reasoning_effort": "low", "thinking_budget": 5}, ["reasoning_effort", "thinking_budget"]),
        ({"reasoning": {"effort": "low", "max_tokens": 5}}, ["reasoning.effort", "reasoning.max_tokens"]),
    ):
        request = translate.chat(read(ChatRequest, HELLO | fields), "")
        assert request.wires[0].reasoning == wire.Reasoning(effort="low", budget=5)
        assert [request.params.name(path) for path in ("reasoning.effort", "reasoning.budget")] == names
    assert chat(thinking_budget=0).reasoning.HasField("budget")
    assert not chat(reasoning={}, reasoning_effort=None, thinking_budget=None).HasField("reasoning")
    assert chat(reasoning_effort="low", reasoning={"effort": "low"}).reasoning.effort == "low"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, "reasoning.effort"),
        ({"thinking_budget": 1, "reasoning": {"max_tokens": 0}}, "reasoning.max_tokens"),
    ],
)
def test_names_that_contradict_each_other_are_refused(fields: Json, param: str) -> None:
    """Neither is dropped silently."""
    assert refusal(**fields)["param"] == param


@pytest.mark.parametrize("options", [{}, {"include_usage": True}, {"include_obfuscation": False}])
def test_stream_options_need_a_stream(options: Json) -> None:
    """As at OpenAI, they are refused by name without one, and null is none."""
    for stream in (False, None):
        assert refusal(stream_options=options, stream=stream)["param"] == "stream_options"
        assert completion_refusal(stream_options=options, stream=stream)["param"] == "stream_options"
    assert as_json(chat(stream_options=None)) == as_json(chat(stream_options=options, stream=True))


def test_constraints_arrive_from_both_kinds_and_are_blamed_by_their_name() -> None:
    """A completion may be constrained too, and what the service says of it is told of the field that was sent."""
    body: Json = {"model": "tiny", "prompt": "x", "structured_outputs": {"regex": "a+"}}
    request = translate.completion(read(CompletionRequest, body), "")
    assert request.wires[0].constraint == wire.Constraint(regex="a+")
    assert request.params.name("constraint.regex") == "structured_outputs.regex"
    assert chat(guided_choice=["a", "b"]).constraint.choice.options == ["a", "b"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("schema", "to_wire"), [(ChatRequest, translate.chat), (CompletionRequest, translate.completion)]
)
def test_no_json_value_is_more_than_a_400(schema: Any, to_wire: Any) -> None:
    """Whatever a field holds, it is translated to something that the wire can carry or refused by name."""
    plain: Json = HELLO | {"prompt": "x"}

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from([*schema.model_fields, "schema"]), VALUES)
    def check(name: str, value: object) -> None:
        try:
            to_wire(read(schema, plain | {name: value}), "").wires[0].SerializeToString()
        except ApiError as refused:
            error = refused
        else:
            return
        assert error.status == 400
        assert re.split(r"\W", error.body["error"]["param"] or "")[0] == name

    check()
