"""LiteLLM, which speaks to any server of OpenAI's API under the name `openai/MODEL`."""

# mypy: disable-error-code="import-not-found"

from typing import Any

import litellm
from cases import Given, tell
from subjects import BOOK_TOOL, DRAWN, GREEDY, KNOWS, MESSAGES, QUESTION, RANDOM, RESULT, THINKS, THOUGHT, WEATHER, Trip

litellm.suppress_debug_info = True
FORCED = DRAWN | {"tools": [BOOK_TOOL], "tool_choice": "required"}


def _to(given: Given, model: str) -> dict[str, Any]:
    return {"model": f"openai/{model}", "api_base": f"{given.url}/v1", "api_key": "none", "num_retries": 0}


def complete(given: Given) -> object:
    """A whole answer."""
    return litellm.completion(**_to(given, KNOWS), messages=MESSAGES, **GREEDY).model_dump()


def stream(given: Given) -> object:
    """A stream, and what LiteLLM makes of its chunks."""
    chunks = list(
        litellm.completion(
            **_to(given, KNOWS), messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **GREEDY
        )
    )
    return {
        "deltas": [chunk.choices[0].delta.content for chunk in chunks],
        "built": litellm.stream_chunk_builder(chunks, messages=MESSAGES).model_dump(),
    }


async def complete_async(given: Given) -> object:
    """A whole answer, asynchronously."""
    return (await litellm.acompletion(**_to(given, KNOWS), messages=MESSAGES, **GREEDY)).model_dump()


async def stream_async(given: Given) -> object:
    """A stream, asynchronously."""
    chunks = await litellm.acompletion(**_to(given, KNOWS), messages=MESSAGES, stream=True, **GREEDY)
    return [chunk.choices[0].delta.content async for chunk in chunks]


def logprobs(given: Given) -> object:
    """A whole answer with its tokens."""
    answer = litellm.completion(**_to(given, KNOWS), messages=MESSAGES, logprobs=True, top_logprobs=2, **GREEDY)
    return answer.choices[0].logprobs.model_dump()


def text(given: Given) -> object:
    """A legacy completion."""
    to = _to(given, RANDOM) | {"model": f"text-completion-openai/{RANDOM}"}
    return litellm.text_completion(**to, prompt=QUESTION, max_tokens=4, temperature=0, echo=True).model_dump()


def structured(given: Given) -> object:
    """An answer in the form of a class."""
    answer = litellm.completion(**_to(given, RANDOM), messages=MESSAGES, response_format=Trip, **DRAWN)
    return Trip.model_validate_json(answer.choices[0].message.content).model_dump()


def tool_calls(given: Given) -> object:
    """A tool call that is required."""
    return litellm.completion(**_to(given, RANDOM), messages=MESSAGES, **FORCED).model_dump()


def streamed_tool_calls(given: Given) -> object:
    """The same, streamed."""
    chunks = list(litellm.completion(**_to(given, RANDOM), messages=MESSAGES, stream=True, **FORCED))
    return litellm.stream_chunk_builder(chunks, messages=MESSAGES).model_dump()


def reasoning(given: Given) -> object:
    """The reasoning of a whole answer and of a stream, each beside its content."""
    asked = {"messages": [{"role": "user", "content": THOUGHT}]} | GREEDY
    message = litellm.completion(**_to(given, THINKS), **asked).choices[0].message
    chunks = list(litellm.completion(**_to(given, THINKS), stream=True, **asked))
    built = litellm.stream_chunk_builder(chunks).choices[0].message
    return [[one.reasoning_content, one.content] for one in (message, built)]


def tool_turns(given: Given) -> object:
    """A call of the model's own will, and the answer after its result."""
    messages: list[Any] = [{"role": "user", "content": WEATHER}]
    asked = {"tools": given.tools} | GREEDY
    call = litellm.completion(**_to(given, KNOWS), messages=messages, **asked).choices[0].message
    messages += [
        call,
        *({"role": "tool", "tool_call_id": one.id, "content": RESULT} for one in call.tool_calls),
    ]
    answer = litellm.completion(**_to(given, KNOWS), messages=messages, **asked).choices[0].message
    return {"call": call.model_dump(), "answer": answer.content}


def errors(given: Given) -> object:
    """The exceptions that a user of LiteLLM catches."""
    told: dict[str, str] = {}
    for name, model, fields in (
        ("range", KNOWS, {"temperature": 3}),
        ("model", "nobody", {}),
        ("context", KNOWS, {"messages": [{"role": "user", "content": QUESTION * 5000}]}),
    ):
        try:
            litellm.completion(**_to(given, model) | {"messages": MESSAGES} | fields)
        except (litellm.BadRequestError, litellm.NotFoundError) as error:
            told[name] = type(error).__name__
    return told


if __name__ == "__main__":
    tell(
        complete,
        stream,
        complete_async,
        stream_async,
        logprobs,
        text,
        structured,
        tool_calls,
        streamed_tool_calls,
        reasoning,
        tool_turns,
        errors,
    )
