"""Streams of which some are held to a JSON schema, against as many that are free."""

import json
from typing import Any

from tests.bench.bench import Bench
from tests.bench.client.answer import complete, rate
from tests.bench.results import Result, at_least, ratio
from tests.bench.rounds import alternate
from tests.bench.workload import Sampling

_STREAMS, _HELD = 16, 4
_TEMPERATURE, _TOP_P = 0.8, 0.9
_SAMPLED, _GREEDY = at_least(0.9), at_least(0.85)
_COMPACT = {"whitespace_flexible": False}
_PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 4},
        "active": {"type": "boolean"},
    },
    "required": ["name", "age", "tags", "active"],
    "additionalProperties": False,
}
# More of them than any stream has tokens for, so that all streams are of one length.
_SCHEMA = json.dumps({"type": "array", "items": _PERSON, "minItems": 10_000, "x-guidance": _COMPACT})


def measure(bench: Bench) -> list[Result]:
    """Tokens a second of all streams together, where each draws its tokens and where each takes the likeliest."""
    name, tokens = bench.model.name, bench.model.tokens

    def side(held: int, samplings: list[Sampling] | None) -> float:
        requests = [
            bench.request(prompt, tokens, samplings[row] if samplings else None, schema=_SCHEMA if row < held else "")
            for row, prompt in enumerate(bench.prompts.many(_STREAMS))
        ]
        return rate(complete(bench.run(bench.grpc.answers(requests)), tokens))

    sampled = [Sampling(_TEMPERATURE, _TOP_P, seed) for seed in range(_STREAMS)]
    figures = alternate(
        {
            "held, sampled": lambda: side(_HELD, sampled),
            "free, sampled": lambda: side(0, sampled),
            "held, greedy": lambda: side(_HELD, None),
            "free, greedy": lambda: side(0, None),
        },
        bench.rounds,
    )
    return [
        ratio(
            f"{_STREAMS} streams, {_HELD} with a JSON schema ÷ none, {how}",
            name,
            "tok/s",
            figures[f"held, {how}"],
            figures[f"free, {how}"],
            reach,
        )
        for how, reach in (("sampled", _SAMPLED), ("greedy", _GREEDY))
    ]
