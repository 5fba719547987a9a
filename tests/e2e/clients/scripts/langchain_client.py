"""langchain-openai, LangChain's own integration of OpenAI's API."""

# mypy: disable-error-code="import-not-found"

from typing import Any

from cases import Given, tell
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from subjects import DRAWN, FACT, GREEDY, KNOWS, QUESTION, RANDOM, RESULT, THINKS, WEATHER, Fact, Trip, book

BOOK = tool(book)


def _chat(given: Given, model: str, **settings: Any) -> Any:
    return ChatOpenAI(
        base_url=f"{given.url}/v1", api_key="none", model=model, max_retries=0, stream_usage=True, **settings
    )


def _told(message: BaseMessage) -> dict[str, object]:
    told: dict[str, object] = message.model_dump(mode="json")
    return told


def invoke(given: Given) -> object:
    """A whole answer."""
    return _told(_chat(given, KNOWS, **GREEDY).invoke(QUESTION))


async def invoke_async(given: Given) -> object:
    """The same, asynchronously."""
    return _told(await _chat(given, KNOWS, **GREEDY).ainvoke(QUESTION))


def stream(given: Given) -> object:
    """A stream's chunks, and their sum."""
    chunks = list(_chat(given, KNOWS, **GREEDY).stream(QUESTION))
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return {"texts": [chunk.content for chunk in chunks], "total": _told(total)}


async def stream_async(given: Given) -> object:
    """A stream's texts, asynchronously."""
    return [chunk.content async for chunk in _chat(given, KNOWS, **GREEDY).astream(QUESTION)]


def batch(given: Given) -> object:
    """Several questions at once."""
    answers = _chat(given, KNOWS, **GREEDY).batch([QUESTION, QUESTION])
    return [answer.content for answer in answers]


def logprobs(given: Given) -> object:
    """The tokens of an answer."""
    return _chat(given, KNOWS, logprobs=True, top_logprobs=2, **GREEDY).invoke(QUESTION).response_metadata["logprobs"]


def text(given: Given) -> object:
    """A legacy completion, whole and streamed."""
    model = OpenAI(base_url=f"{given.url}/v1", api_key="none", model=RANDOM, max_tokens=8, temperature=0, max_retries=0)
    return {"whole": model.invoke(QUESTION), "streamed": "".join(model.stream(QUESTION))}


def any_tool(given: Given) -> object:
    """A call that is required, and its result given back."""
    model = _chat(given, RANDOM, **DRAWN).bind_tools([BOOK], tool_choice="any")
    asked: list[BaseMessage] = [HumanMessage(QUESTION)]
    call = model.invoke(asked)
    results = [BOOK.invoke(one) for one in call.tool_calls]
    answer = _chat(given, RANDOM, temperature=0, max_tokens=4).bind_tools([BOOK], tool_choice="none")
    return {
        "calls": call.tool_calls,
        "finish": call.response_metadata["finish_reason"],
        "results": [result.content for result in results if isinstance(result, ToolMessage)],
        "is_answered": isinstance(answer.invoke([*asked, call, *results]), AIMessage),
    }


def streamed_tool(given: Given) -> object:
    """A call of a named tool, streamed."""
    total = None
    parts = []
    for chunk in _chat(given, RANDOM, **DRAWN).bind_tools([BOOK], tool_choice="book").stream(QUESTION):
        parts += chunk.tool_call_chunks
        total = chunk if total is None else total + chunk
    assert total is not None
    return {"parts": parts, "calls": total.tool_calls, "broken": total.invalid_tool_calls}


def tool_turns(given: Given) -> object:
    """A call of the model's own will, and the answer after its result."""
    model = _chat(given, KNOWS, **GREEDY).bind_tools(given.tools)
    asked: list[BaseMessage] = [HumanMessage(WEATHER)]
    call = model.invoke(asked)
    results = [ToolMessage(RESULT, tool_call_id=one["id"]) for one in call.tool_calls]
    return {"calls": call.tool_calls, "answer": model.invoke([*asked, call, *results]).content}


def json_mode(given: Given) -> object:
    """A class out of a model that reasons before the JSON object."""
    model = _chat(given, THINKS, **GREEDY).with_structured_output(Fact, method="json_mode")
    return model.invoke(FACT).model_dump()


def structured(given: Given) -> object:
    """A class, in each of the three ways that LangChain has."""
    model = _chat(given, RANDOM, **DRAWN)
    return {
        "json_schema": model.with_structured_output(Trip, method="json_schema").invoke(QUESTION).model_dump(),
        "strict": model.with_structured_output(Trip, method="json_schema", strict=True).invoke(QUESTION).model_dump(),
        "function_calling": model.with_structured_output(Trip, method="function_calling").invoke(QUESTION).model_dump(),
    }


async def structured_stream(given: Given) -> object:
    """The JSON of a class, growing as it is streamed."""
    model = _chat(given, RANDOM, **DRAWN).with_structured_output(Trip.model_json_schema() | {"title": "Trip"})
    return [part async for part in model.astream(QUESTION)]


if __name__ == "__main__":
    tell(
        invoke,
        invoke_async,
        stream,
        stream_async,
        batch,
        logprobs,
        text,
        any_tool,
        streamed_tool,
        tool_turns,
        json_mode,
        structured,
        structured_stream,
    )
