"""Programs beside the service: what they say, how they end."""

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from service.errors import SetupError
from service.pool.child import Outcome, run_module


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let programs of the test be found."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


async def test_each_line_is_heard_at_once(programs: Path) -> None:
    """While the program still runs; its arguments and its environment are those that were given."""
    (programs / "said.py").write_text(
        "import os, sys\nprint(sys.argv[1], flush=True)\nprint(os.environ['MORE'], os.environ['PYTHONPATH'], input())"
    )
    lines: list[str] = []
    outcome = await run_module("said", "one", heard=lines.append, environment={"MORE": "two"})
    assert lines == ["one\n"]
    assert outcome.code == 1, "there is no standard input to read from"


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        ("first\nERROR: bad thing\nlast\n", 1, "bad thing"),
        ("first\nlast\n", 1, "last"),
        ("", 3, "exit code 3"),
        ("half a li", -9, "it was ended by signal 9"),
    ],
)
def test_the_reason_is_one_line(words: str, code: int, reason: str) -> None:
    """The last error that it told of, or what there is."""
    assert Outcome(code, words).reason == reason


async def test_it_ends_with_its_caller(programs: Path) -> None:
    """One that is cancelled leaves no program behind."""
    (programs / "long.py").write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)")
    said: asyncio.Queue[str] = asyncio.Queue()
    running = asyncio.create_task(run_module("long", heard=said.put_nowait))
    pid = int(await asyncio.wait_for(said.get(), 30))
    assert psutil.Process(pid).ppid() == os.getpid()
    running.cancel()
    await asyncio.wait([running])
    assert not psutil.pid_exists(pid)


async def test_a_line_that_is_too_long_is_not_heard(programs: Path) -> None:
    """And those around it are."""
    (programs / "loud.py").write_text("print('one'); print('x' * 5_000_000); print('two')")
    lines: list[str] = []
    outcome = await run_module("loud", heard=lines.append)
    assert (outcome.code, lines[0], lines[-1]) == (0, "one\n", "two\n")


async def test_a_program_that_cannot_be_started_is_told() -> None:
    """In one line, as where the machine has no process to give."""
    with pytest.raises(SetupError, match="said cannot be started: Argument list too long"):
        await run_module("said", "x" * 10_000_000)
