"""What a script does with its client, case by case, told as one line of JSON: `{case: {"value" | "error": …}}`."""

import asyncio
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Given:
    """What a test gives to a script: the shim's URL, and the tools, in the API's form, that the taught model knows."""

    url: str
    tools: list[dict[str, Any]]


def tell(*cases: Callable[[Given], object]) -> None:
    """Run the cases, and print what came of them, errors included. The command line has the URL and the tools."""
    given = Given(sys.argv[1], json.loads(sys.argv[2]))
    told: dict[str, dict[str, object]] = {}
    # One loop for all: clients keep connections that belong to it.
    with asyncio.Runner() as runner:
        for case in cases:
            try:
                value = case(given)
                told[case.__name__] = {"value": runner.run(value) if inspect.iscoroutine(value) else value}
            except Exception:  # noqa: BLE001 - one case leaves the others be, and its test says what went wrong
                told[case.__name__] = {"error": traceback.format_exc()}
    print(json.dumps(told))
