"""The official SDK against the real default model."""

from collections.abc import AsyncIterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

MODEL = "smollm2-135m-instruct"
QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def client(smollm2_url: str) -> openai.OpenAI:
    """Make a client that does not retry, so that an error is seen."""
    return openai.OpenAI(base_url=f"{smollm2_url}/v1", api_key="none", max_retries=0)


@pytest.fixture
async def async_client(smollm2_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """Make its asynchronous sister."""
    async with openai.AsyncOpenAI(base_url=f"{smollm2_url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_smollm2_answers(client: openai.OpenAI) -> None:
    """The model knows the capital of France, and stops by itself."""
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_streamed_text_is_the_unary_text(client: openai.OpenAI) -> None:
    """The same request gives the same text, streamed and not."""
    unary = client.chat.completions.create(model=MODEL, messages=QUESTION, seed=7, max_tokens=24)
    stream = client.chat.completions.create(model=MODEL, messages=QUESTION, seed=7, max_tokens=24, stream=True)
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == unary.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == [
        unary.choices[0].finish_reason
    ]


async def test_async_stream_with_usage(async_client: openai.AsyncOpenAI) -> None:
    """The asynchronous SDK streams, and the last chunk has the usage that was asked for."""
    stream = await async_client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=8, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens <= 8


async def test_async_unary(async_client: openai.AsyncOpenAI) -> None:
    """The asynchronous SDK gets a whole answer."""
    answer = await async_client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    assert "Paris" in (answer.choices[0].message.content or "")


def test_legacy_completion_echoes(client: openai.OpenAI) -> None:
    """/v1/completions continues a string and can put it in front."""
    prompt = "The capital of France is"
    done = client.completions.create(model=MODEL, prompt=prompt, max_tokens=4, temperature=0, echo=True)
    assert done.choices[0].text.startswith(prompt)
    assert len(done.choices[0].text) > len(prompt)
    assert done.choices[0].finish_reason == "length"


def test_legacy_completion_streams(client: openai.OpenAI) -> None:
    """/v1/completions streams, and stops before a stop string."""
    stream = client.completions.create(
        model=MODEL, prompt="1, 2, 3, 4,", max_tokens=32, temperature=0, stop=[" 7"], stream=True
    )
    text = "".join(chunk.choices[0].text for chunk in stream)
    assert text == " 5, 6,"


def test_models(client: openai.OpenAI) -> None:
    """The SDK lists the model and gets it by its id."""
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).object == "model"


def test_errors_are_the_sdks_own(client: openai.OpenAI) -> None:
    """What is wrong comes as the exception that an SDK user catches, with the parameter's name."""
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=3)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nobody", messages=QUESTION)
    assert missing.value.code == "model_not_found"
