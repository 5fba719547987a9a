"""The README's commands and examples, run word for word, on the default ports: files run on one worker each."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from service.config import read_config

README = Path(__file__).parents[2] / "README.md"
START_S = 120.0
BIN = Path(sys.executable).parent
PORTS = Path(tempfile.gettempdir()) / "mlx-grpc-default-ports.lock"
"""Held while the default ports are in use, since there is but one of each for all test runs of a machine."""


def blocks(language: str) -> list[str]:
    """Give the code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def example(language: str, mark: str) -> str:
    """Give the one block of a language that has `mark` in it."""
    (found,) = [block for block in blocks(language) if mark in block]
    return found


@pytest.fixture(scope="module")
def made_run(root: Path) -> Iterator[list[str]]:
    """Run `make run` on the default ports; the lines that it prints when all is ready.

    It runs in this environment as it is: to install again would pull packages from under the tests that run beside.
    """
    installed = (f"VENV={BIN.parent}", f"BIN={BIN}", "--assume-old", f"{BIN.parent}/installed")
    with filelock.FileLock(PORTS, timeout=START_S):
        command = ["make", "run", *installed]
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, start_new_session=True)
        try:
            yield _ready_lines(process)
        finally:
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does; make dies of it once its children have ended
            process.communicate(timeout=30)


def _ready_lines(process: "subprocess.Popen[bytes]") -> list[str]:
    assert process.stdout is not None
    text, deadline = b"", time.monotonic() + START_S
    while b"shim ready" not in text or not text.endswith(b"\n"):
        assert select.select([process.stdout], [], [], deadline - time.monotonic())[0], text
        data = os.read(process.stdout.fileno(), 1 << 12)
        assert data, f"make run ended: {text.decode()}"
        text += data
    return [line for line in text.decode().splitlines() if " ready on " in line]


def run(command: str, root: Path) -> str:
    """Run a command of the README in a shell that has the project's tools; what it prints."""
    path = f"{BIN}:{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=root,
        env=os.environ | {"PATH": path},
        capture_output=True,
        timeout=120,
        check=True,
    )
    return done.stdout.decode()


def documents(text: str) -> list[Any]:
    """Read JSON documents that follow one another."""
    found, decoder = [], json.JSONDecoder()
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def test_make_run_says_what_the_readme_says(made_run: list[str]) -> None:
    """The lines of `make run` are those that the README shows."""
    assert "\n".join(made_run) + "\n" in blocks("text")


def test_grpcurl_example(made_run: list[str], root: Path) -> None:
    """Grpcurl streams an answer, from the first event to the last."""
    printed = run(example("sh", "mlx_grpc.v1.GenerationService/Chat"), root)
    assert printed.index('"started"') < printed.index('"text"') < printed.index('"finish"')
    assert '"completed"' in printed


def test_curl_example(made_run: list[str], root: Path) -> None:
    """Curl gets server-sent events and `[DONE]` at their end."""
    lines = [line for line in run(example("sh", "curl -N"), root).splitlines() if line]
    assert all(line.startswith(("data: ", ": ")) for line in lines), "events, and comments that keep it alive"
    assert len(lines) > 10
    assert lines[-1] == "data: [DONE]"


def test_curl_examples_of_constraints_and_scores(made_run: list[str], root: Path) -> None:
    """The answer is one of the choices; each prompt comes back with log-probabilities from its second token on."""
    answer, scores = documents(run(example("sh", '"type":"choice"'), root))
    assert answer["choices"][0]["message"]["content"] in {"yes", "no"}
    assert [choice["text"] for choice in scores["choices"]] == ["The sky is", "The sea is"]
    for choice in scores["choices"]:
        first, *others = choice["logprobs"]["token_logprobs"]
        assert first is None
        assert others
        assert all(logprob < 0 for logprob in others)


def test_grpcurl_examples_of_constraints_and_tools(made_run: list[str], root: Path) -> None:
    """Two answers hold to the schema, with three tokens at each place; one is of two words; one is a call."""
    answers: list[list[Any]] = [[]]
    for event in documents(run(example("bash", "grpcurl -plaintext"), root)):
        answers[-1].append(event)
        if "completed" in event:
            answers.append([])
    by_schema, of_two, call, after = answers
    assert not after
    for index in range(2):
        deltas = [event["text"] for event in by_schema if "text" in event and event.get("index", 0) == index]
        written = json.loads("".join(delta.get("text", "") for delta in deltas))
        assert list(written) == ["author", "year"]
        assert 1500 <= written["year"] <= 1900
        assert {len(logprob["top"]) for delta in deltas for logprob in delta["logprobs"]} == {3}
    assert "".join(event["text"]["text"] for event in of_two if "text" in event) in {" yes", " no"}
    deltas = [event["toolCall"] for event in call if "toolCall" in event]
    assert deltas[0]["name"] == "get_weather"
    assert list(json.loads("".join(delta.get("argumentsDelta", "") for delta in deltas))) == ["city"]


def test_grpcurl_examples_of_the_pool(made_run: list[str], root: Path) -> None:
    """A plan for a model that is loaded, its end, and its load, stage by stage, to a model that is pinned."""
    plan, unloaded, *stages = documents(run(example("sh", "mlx_grpc.v1.ModelService/LoadModel"), root))
    assert (plan["plan"]["fits"], plan["plan"]["loaded"]) == (True, True)
    assert unloaded["model"]["state"] == "MODEL_STATE_UNLOADED"
    assert any("loading" in stage for stage in stages)
    assert (stages[-1]["ready"]["state"], stages[-1]["ready"]["pinned"]) == ("MODEL_STATE_READY", True)


def test_openai_example(made_run: list[str], root: Path) -> None:
    """The SDK example prints an answer."""
    assert "sky" in run(_python(example("python", "import openai")), root)


def test_stubs_example(made_run: list[str], root: Path) -> None:
    """The ten-line client prints an answer."""
    source = example("python", "import grpc")
    assert len(source.strip().splitlines()) <= 10
    assert "sky" in run(_python(source), root)


def test_the_configuration_example_is_read(tmp_path: Path) -> None:
    """The TOML of the README is a valid configuration."""
    file = tmp_path / "service.toml"
    file.write_text(example("toml", "[[models]]"), encoding="utf-8")
    assert read_config(file, {}).models[0].repo == "mlx-community/Qwen3-4B-4bit"


@pytest.mark.parametrize("module", ["service", "shim"])
def test_every_flag_is_in_the_readme(module: str) -> None:
    """The tables name the flags that the programs have, all and no others."""
    printed = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, check=True).stdout.decode()
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", printed)) - {"--help"}
    table = README.read_text(encoding="utf-8").split(f"| `python -m {module}` | |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(--[a-z-]+)", table, re.MULTILINE)) == flags


def _python(source: str) -> str:
    return f"python - <<'EOF'\n{source}EOF\n"
