"""Client libraries run for real, in an environment of their own, against a service and a shim."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.taught import TOOLS

_HERE = Path(__file__).parent
_LIMIT_S = 240
"""Importing some of them takes ten seconds of a free core, and thrice that for the first time."""


class Told:
    """What a script told of its cases."""

    def __init__(self, line: str) -> None:
        self._cases: Mapping[str, Mapping[str, Any]] = json.loads(line)

    def __getitem__(self, case: str) -> Any:
        """Give what a case returned; the client's own traceback where it failed."""
        told = self._cases[case]
        assert "value" in told, told["error"]
        return told["value"]


RunClient = Callable[[Sequence[str], Path | None], str]
UseClient = Callable[[str], Told]


@pytest.fixture(scope="session")
def run_client(root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunClient:
    """Run a program of the clients' environment, in a folder, and read what it prints."""
    programs = root / ".venv-clients/bin"
    home = tmp_path_factory.mktemp("clients")
    environment = os.environ | {
        "LLM_USER_PATH": str(home / "llm"),
        "HF_HOME": str(home / "hf"),
        "HF_HUB_OFFLINE": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LOGFIRE_IGNORE_NO_CONFIG": "1",
        "LANGSMITH_TRACING": "false",
        "OPENAI_API_KEY": "none",
    }

    def run(command: Sequence[str], folder: Path | None) -> str:
        program, *flags = command
        assert (programs / program).exists(), "the clients are not installed: run `make clients`"
        done = subprocess.run(
            [str(programs / program), *flags],
            cwd=folder or home,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def use_client(run_client: RunClient, taught_url: str) -> UseClient:
    """Run all cases of a client's script, given its name."""

    def use(client: str) -> Told:
        script = str(_HERE / "scripts" / f"{client}_client.py")
        printed = run_client(["python", script, taught_url, json.dumps(TOOLS)], None)
        return Told(printed.splitlines()[-1])

    return use
