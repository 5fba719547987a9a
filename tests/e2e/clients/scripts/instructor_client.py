"""Instructor: classes out of a model, over OpenAI's SDK."""

# mypy: disable-error-code="import-not-found"

from typing import Any

import instructor
import openai
from cases import Given, tell
from subjects import DRAWN, MESSAGES, RANDOM, Trip


def _client(given: Given, mode: Any) -> Any:
    return instructor.from_openai(openai.OpenAI(base_url=f"{given.url}/v1", api_key="none", max_retries=0), mode=mode)


def _made(given: Given, mode: Any) -> dict[str, object]:
    made = _client(given, mode).create(
        model=RANDOM, messages=MESSAGES, response_model=Trip, max_retries=0, strict=True, **DRAWN
    )
    told: dict[str, object] = made.model_dump()
    return told


def tools(given: Given) -> object:
    """A class as the arguments of a named tool."""
    return _made(given, instructor.Mode.TOOLS)


def strict_tools(given: Given) -> object:
    """The same, strict."""
    return _made(given, instructor.Mode.TOOLS_STRICT)


def json_schema(given: Given) -> object:
    """A class by a JSON schema as the response's format."""
    return _made(given, instructor.Mode.JSON_SCHEMA)


def partial(given: Given) -> object:
    """A class that grows as it is streamed."""
    parts = _client(given, instructor.Mode.JSON_SCHEMA).create_partial(
        model=RANDOM, messages=MESSAGES, response_model=Trip, max_retries=0, **DRAWN
    )
    return [part.model_dump() for part in parts]


async def tools_async(given: Given) -> object:
    """A class as a named tool's arguments, asynchronously, with the completion that it came from."""
    async with openai.AsyncOpenAI(base_url=f"{given.url}/v1", api_key="none", max_retries=0) as client:
        made, completion = await instructor.from_openai(client, mode=instructor.Mode.TOOLS).create_with_completion(
            model=RANDOM, messages=MESSAGES, response_model=Trip, max_retries=0, **DRAWN
        )
    return {"made": made.model_dump(), "finish": completion.choices[0].finish_reason}


if __name__ == "__main__":
    tell(tools, strict_tools, json_schema, partial, tools_async)
