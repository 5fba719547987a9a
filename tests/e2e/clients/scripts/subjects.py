"""What the clients ask, and of which of the models."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

KNOWS = "llama3"
"""A model that has learned its answers and its tool calls by heart."""
THINKS = "qwen"
"""Another, which reasons before it answers."""
RANDOM = "tiny"
"""A model that writes anything that it is not held from."""
QUESTION = "Count to five."
MESSAGES = [{"role": "user", "content": QUESTION}]
WEATHER = "Paris?"
"""What makes the model that knows call a tool, whose result it then tells."""
RESULT = "18 degrees"
THOUGHT = "Why is the sky blue?"
FACT = "Paris as JSON?"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 64}
DRAWN: dict[str, Any] = {
    "temperature": 1,
    "seed": 7,
    "max_tokens": 1024,
    "extra_body": {"reasoning_effort": "none"},
}
"""Room enough for every answer that the classes below allow, as long as nobody thinks at random before it."""


class Trip(BaseModel):
    """Where to go, and nothing more, so that a random model comes to an end."""

    model_config = ConfigDict(extra="forbid")

    city: Literal["Paris", "Rome"]
    days: int = Field(ge=1, le=9)
    by: list[Literal["train", "boat"]] = Field(min_length=1, max_length=2)


class Fact(BaseModel):
    """What the thinking model knows of a city."""

    city: str
    degrees: int


def book(city: Literal["Paris", "Rome"], days: Literal[1, 2]) -> str:
    """Book a trip."""
    return f"{days} days in {city}"


BOOK_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "book",
        "description": book.__doc__,
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"enum": [1, 2]}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
