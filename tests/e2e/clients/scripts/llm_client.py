"""The command line `llm` and its library, with models named in its own settings file."""

# mypy: disable-error-code="import-not-found, import-untyped"

import json

import llm
import yaml
from cases import Given, tell
from click.testing import CliRunner
from llm.cli import cli
from subjects import KNOWS, QUESTION, RANDOM, RESULT, WEATHER, Trip


def known(given: Given) -> object:
    """Write the models where `llm` looks for them, and list what it found there."""
    llm.user_dir().mkdir(parents=True, exist_ok=True)
    abilities = {"supports_schema": True, "supports_tools": True, "reasoning": True, "api_base": f"{given.url}/v1"}
    models: list[dict[str, object]] = [
        {"model_id": f"our-{name}", "model_name": name} | abilities for name in (KNOWS, RANDOM)
    ]
    models.append({"model_id": "our-text", "model_name": RANDOM, "completion": True} | abilities)
    (llm.user_dir() / "extra-openai-models.yaml").write_text(yaml.safe_dump(models))
    return [model["model_id"] for model in models if f"{model['model_id']}\n" in _typed("models", "list")]


def _typed(*words: str) -> str:
    """Type a command, and read what it prints."""
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    printed: str = result.output
    return printed


def stream(given: Given) -> object:
    """An answer on the terminal, which is streamed."""
    return _typed("-m", f"our-{KNOWS}", "-o", "temperature", "0", QUESTION)


def whole(given: Given) -> object:
    """The same without streaming, and what is kept in its log."""
    text = _typed("-m", f"our-{KNOWS}", "--no-stream", "-o", "temperature", "0", QUESTION)
    (logged,) = json.loads(_typed("logs", "--json", "--count", "1"))
    return {"text": text, "tokens": [logged["input_tokens"], logged["output_tokens"]]}


def conversation(given: Given) -> object:
    """Two turns of the library's conversation."""
    talk = llm.get_model(f"our-{KNOWS}").conversation()
    return [talk.prompt(QUESTION, temperature=0).text(), bool(talk.prompt(QUESTION, max_tokens=8).text())]


async def asynchronous(given: Given) -> object:
    """The library's asynchronous model."""
    response = llm.get_async_model(f"our-{KNOWS}").prompt(QUESTION, temperature=0)
    return [chunk async for chunk in response]


def completion(given: Given) -> object:
    """A legacy completion."""
    return _typed("-m", "our-text", "-o", "temperature", "0", "-o", "max_tokens", "8", QUESTION)


def schema(given: Given) -> object:
    """An answer by a JSON schema."""
    written = json.dumps(Trip.model_json_schema())
    options = ["-o", "seed", "7", "-o", "max_tokens", "1024", "-o", "reasoning_effort", "none"]
    return json.loads(_typed("-m", f"our-{RANDOM}", *options, "--schema", written, QUESTION))


def chain(given: Given) -> object:
    """A tool that the model calls of its own will, and the answer after its result."""
    tools = [
        llm.Tool(form["name"], form["description"], form["parameters"], implementation=lambda **_: RESULT)
        for form in (tool["function"] for tool in given.tools)
    ]
    chain = llm.get_model(f"our-{KNOWS}").chain(WEATHER, tools=tools, options={"temperature": 0})
    responses = list(chain.responses())
    return {
        "calls": [[call.name, call.arguments] for call in responses[0].tool_calls()],
        "answer": responses[-1].text(),
    }


if __name__ == "__main__":
    tell(known, stream, whole, conversation, asynchronous, completion, schema, chain)
