"""Pydantic AI: agents over OpenAI's API."""

# mypy: disable-error-code="import-not-found"

from typing import Any

from cases import Given, tell
from pydantic_ai import Agent, NativeOutput, Tool, ToolOutput
from pydantic_ai.direct import model_request
from pydantic_ai.messages import ModelRequest
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from subjects import DRAWN, GREEDY, KNOWS, QUESTION, RANDOM, RESULT, THINKS, THOUGHT, WEATHER, Trip


def _model(given: Given, name: str) -> Any:
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=f"{given.url}/v1", api_key="none"))


def _agent(given: Given, output: Any) -> Any:
    return Agent(_model(given, RANDOM), output_type=output, model_settings=DRAWN, retries=0)


def run(given: Given) -> object:
    """A whole answer."""
    result = Agent(_model(given, KNOWS), model_settings=GREEDY).run_sync(QUESTION)
    return {
        "text": result.output,
        "finish": result.response.finish_reason,
        "tokens": [result.usage.input_tokens, result.usage.output_tokens],
    }


async def stream(given: Given) -> object:
    """A streamed answer."""
    async with Agent(_model(given, KNOWS), model_settings=GREEDY).run_stream(QUESTION) as result:
        deltas = [delta async for delta in result.stream_text(delta=True, debounce_by=None)]
        return {"deltas": deltas, "tokens": [result.usage.input_tokens, result.usage.output_tokens]}


async def request(given: Given) -> object:
    """A request without an agent."""
    response = await model_request(
        _model(given, KNOWS),
        [ModelRequest.user_text_prompt(QUESTION)],
        model_settings=GREEDY,
        model_request_parameters=ModelRequestParameters(),
    )
    return response.text


def tool_output(given: Given) -> object:
    """A class as the arguments of a call that is required, which is the library's default."""
    return _agent(given, ToolOutput(Trip)).run_sync(QUESTION).output.model_dump()


async def streamed_tool_output(given: Given) -> object:
    """The same, growing as it is streamed."""
    async with _agent(given, ToolOutput(Trip)).run_stream(QUESTION) as result:
        return (await result.get_output()).model_dump()


def native_output(given: Given) -> object:
    """A class by a JSON schema as the response's format."""
    return _agent(given, NativeOutput(Trip)).run_sync(QUESTION).output.model_dump()


async def streamed_native_output(given: Given) -> object:
    """The same, streamed."""
    async with _agent(given, NativeOutput(Trip)).run_stream(QUESTION) as result:
        return (await result.get_output()).model_dump()


def agent(given: Given) -> object:
    """An agent that calls a function of its own will, and tells its result."""

    def get_weather(city: str) -> str:
        """Tell the weather."""
        return RESULT if city == "Paris" else ""

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    tools = []
    for function, tool in zip((get_weather, add), given.tools, strict=True):
        form = tool["function"]
        tools.append(Tool.from_schema(function, form["name"], form["description"], form["parameters"]))
    agent = Agent(_model(given, KNOWS), tools=tools, model_settings=GREEDY, retries=0)
    result = agent.run_sync(WEATHER)
    return {"answer": result.output, "requests": result.usage.requests}


def reasoning(given: Given) -> object:
    """What the model thinks, as a part of its own."""
    response = Agent(_model(given, THINKS), model_settings=GREEDY).run_sync(THOUGHT).response
    return [[part.part_kind, part.content] for part in response.parts]


if __name__ == "__main__":
    tell(
        run,
        stream,
        request,
        tool_output,
        streamed_tool_output,
        native_output,
        streamed_native_output,
        agent,
        reasoning,
    )
