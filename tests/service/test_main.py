"""`python -m service`: starts that fail do so in one line."""

import asyncio
import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import grpc
import psutil
import pytest
from grpc import aio

from tests.calls import Refusal, answer, refused, server_info, text_request
from tests.conftest import StartService
from tests.processes import READY, START_S, STOP_S, child_of, model_flags, run_to_end, starting

Loading = tuple[asyncio.subprocess.Process, psutil.Process, aio.Channel]

QUICK_S = 10.0
"""What may take a moment on a busy machine, and must not take longer."""
TURNED_AWAY = (grpc.StatusCode.UNAVAILABLE, ["RetryInfo"])
NO_NETWORK = {
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_FIND_LINKS": "",
    "PIP_NO_CACHE_DIR": "1",
    "HF_HUB_OFFLINE": "0",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}
"""Environment in which a fetch asks the one server that is added."""


def one_line(errors: str) -> str:
    """Check that a failure is told in one line for a person, after whatever the log says; the line."""
    assert "Traceback" not in errors
    said = [line for line in errors.splitlines() if not line.startswith("{")]
    assert len(said) == 1, errors
    assert said[0].startswith("service: ")
    return said[0]


def missing(folder: Path) -> Path:
    return folder / "missing"


def empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def without_weights(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    return folder


def broken_json(folder: Path) -> Path:
    (folder / "config.json").write_text("{")
    return folder


def unknown_type(folder: Path) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "no_such_type"}))
    return folder


def broken_weights(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    return folder


def cut_weights(folder: Path) -> Path:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    return folder


def broken_tokenizer(folder: Path) -> Path:
    (folder / "tokenizer.json").write_text("{}")
    return folder


def broken_template(folder: Path) -> Path:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": "{% if %}"}))
    return folder


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    """Give a model folder to break."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.mark.parametrize(
    "broken",
    [
        *(missing, empty, without_weights, broken_json, unknown_type),
        *(broken_weights, cut_weights, broken_tokenizer, broken_template),
    ],
)
async def test_a_model_that_cannot_be_loaded_is_told(
    copied: Path, tmp_path: Path, broken: Callable[[Path], Path]
) -> None:
    """In one line that names the model and its folder, with exit code 1."""
    folder = broken(copied)
    code, errors = await run_to_end(
        *("--listen", "127.0.0.1:0", "--model", f"mine={folder}", "--cache-dir", str(tmp_path / "cache"))
    )
    assert code == 1
    line = one_line(errors)
    assert "'mine'" in line
    assert str(folder) in line


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--listen", "nowhere"], "nowhere"),
        (["--listen", "127.0.0.1:99999"], "99999"),
        (["--listen", "unix:"], "unix:"),
        (["--model", "a b=/x"], "a b"),
        (["--model", "mine"], "mine"),
        (["--model", "a=/x", "--model", "a=/y"], "same name"),
        (["--max-running", "0"], "max_running"),
        (["--max-queued", "0"], "max_queued"),
        (["--drain-s", "0"], "drain_s"),
        (["--drain-s", "nan"], "drain_s"),
        (["--log-level", "loud"], "log_level"),
        (["--config", "/nowhere/service.toml"], "/nowhere/service.toml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_bad_flags_are_told(flags: list[str], named: str) -> None:
    """In one line that names what is wrong, with exit code 2."""
    code, errors = await run_to_end(*flags)
    assert code == 2
    assert named in one_line(errors)


@pytest.mark.parametrize("flags", [["--nonsense"], ["--max-running", "many"], ["stray"]])
async def test_flags_that_do_not_exist_are_told(flags: list[str]) -> None:
    """By the usage and one line, with exit code 2."""
    code, errors = await run_to_end(*flags)
    assert code == 2
    assert errors.startswith("usage: python -m service")
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("listen = [", "TOML"),
        ("nonsense = 1", "nonsense"),
        ("max_running = 'many'", "max_running"),
        ("max_running = 0", "max_running"),
        ("[[models]]\nname = 'a'", "'a'"),
        ("[[models]]\nname = 'a'\npath = '/x'\nsize = 1", "size"),
        ("\udcff", "TOML"),
    ],
)
async def test_a_bad_file_is_told(tmp_path: Path, text: str, named: str) -> None:
    """In one line that names what is wrong, with exit code 2."""
    file = tmp_path / "service.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    code, errors = await run_to_end("--config", str(file))
    assert code == 2
    assert named in one_line(errors)


async def test_a_port_that_is_taken_is_told(tiny_model: Path, tmp_path: Path) -> None:
    """In one line that names the address, with exit code 1, before any model is loaded."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = ("--listen", address, "--model", f"mine={tiny_model}", "--cache-dir", str(tmp_path))
        code, errors = await run_to_end(*flags)
    assert code == 1
    assert address in one_line(errors)


async def test_two_services_do_not_share_a_port(start_service: StartService, tiny_model: Path, tmp_path: Path) -> None:
    """The second one fails instead of taking every other call."""
    first = await start_service({"tiny": tiny_model})
    flags = ("--listen", first.address, "--model", f"mine={tiny_model}", "--cache-dir", str(tmp_path))
    code, errors = await run_to_end(*flags)
    assert code == 1
    assert first.address in one_line(errors)


async def test_the_ready_line_is_all_that_is_printed(start_service: StartService, tiny_model: Path) -> None:
    """Standard output says when and where, once; the rest goes to standard error."""
    process = await start_service({"one": tiny_model, "two": tiny_model})
    assert process.line == f"{READY}{process.address} (one, two)"
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    assert process.process.stdout is not None
    assert process.process.stdout.read() == b""
    assert "Traceback" not in process.errors


async def test_the_log_says_that_it_drains_and_has_stopped(start_service: StartService, tiny_model: Path) -> None:
    """With the number of calls that run."""
    process = await start_service({"tiny": tiny_model})
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    said = [json.loads(line) for line in process.errors.splitlines() if line.startswith("{")]
    [draining] = [line for line in said if line["event"] == "draining"]
    assert (draining["running"], draining["from"]) == (0, "service")
    assert said[-1]["event"] == "stopped"


@pytest.mark.parametrize("lacking", ["structlog", "uvloop", "msgspec", "tokenizers", "grpc_health"])
def test_a_thin_install_is_told_what_to_do(lacking: str) -> None:
    """In one line, with exit code 1."""
    start = f"import runpy, sys; sys.modules[{lacking!r}] = None; runpy.run_module('service', run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", start], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, b"")
    line = one_line(ended.stderr.decode())
    assert line.startswith(f"service: {lacking}")
    assert line.endswith(" is not installed: pip install '.[service]'")


def test_help_says_the_defaults() -> None:
    """Of all flags that have one."""
    printed = subprocess.run([sys.executable, "-m", "service", "--help"], capture_output=True, check=True).stdout
    options = re.split(r"\n  --", printed.decode())[1:]
    without = [option.split()[0] for option in options if "default:" not in " ".join(option.split())]
    assert without == ["config"]
    assert "(default: 32)" in " ".join(printed.decode().split())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_it_starts_ends_it(tiny_model: Path, tmp_path: Path, number: int) -> None:
    """It does not wait for its models, and leaves no engine behind."""
    flags = ("--listen", "127.0.0.1:0", "--model", f"mine={tiny_model}", "--cache-dir", str(tmp_path))
    async with starting(*flags, "--log-level", "debug") as process:
        engine = await child_of(process, "service.engine")
        process.send_signal(number)
        output, errors = await asyncio.wait_for(process.communicate(), START_S)
    assert (process.returncode, output) == (0, b"")
    assert b"Traceback" not in errors
    assert not engine.is_running()


@contextlib.asynccontextmanager
async def held_up(models: Mapping[str, Path], cache: Path, path: Path) -> AsyncIterator[Loading]:
    """Start a service whose first model does not come up before its engine goes on."""
    flags = ("--listen", f"unix:{path}", *model_flags(models), "--cache-dir", str(cache))
    async with starting(*flags) as process, aio.insecure_channel(f"unix:{path}") as channel:
        engine = await child_of(process, "service.engine")
        engine.suspend()
        yield process, engine, channel


async def waiting(channel: aio.Channel, model: str) -> "asyncio.Task[Refusal]":
    """Ask for a model that is not ready."""
    task = asyncio.create_task(refused(answer(channel, text_request("The sky is", model=model))))
    await server_info(channel)  # which is answered after that call has come in
    assert not task.done()
    return task


async def test_a_signal_while_it_loads_turns_callers_away(tiny_model: Path, tmp_path: Path, socket_path: Path) -> None:
    """They may try elsewhere at once, whichever model they wait for, and the exit is a clean one."""
    models = {"first": tiny_model, "second": tiny_model}
    async with held_up(models, tmp_path, socket_path) as (process, engine, channel):
        callers = [await waiting(channel, name) for name in models]
        process.send_signal(signal.SIGTERM)
        refusals = await asyncio.wait_for(asyncio.gather(*callers), QUICK_S)
        engine.resume()
        output, errors = await asyncio.wait_for(process.communicate(), STOP_S)
    assert [(refusal.code, list(refusal.details)) for refusal in refusals] == [TURNED_AWAY] * 2
    assert (process.returncode, output) == (0, b"")
    assert b"Traceback" not in errors
    assert not engine.is_running()


async def test_a_model_that_fails_does_not_keep_callers_of_the_next(
    tiny_model: Path, tmp_path: Path, socket_path: Path
) -> None:
    """The start is over at once, and told in one line, though somebody waits for a model that does not come."""
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "tokenizer.json").write_text("{")
    models = {"first": tiny_model, "second": broken, "third": broken}
    async with held_up(models, tmp_path, socket_path) as (process, engine, channel):
        caller = await waiting(channel, "third")
        engine.resume()
        _, errors = await asyncio.wait_for(process.communicate(), STOP_S)
        refusal = await asyncio.wait_for(caller, QUICK_S)
    assert (refusal.code, list(refusal.details)) == TURNED_AWAY
    assert process.returncode == 1
    assert "'second'" in one_line(errors.decode())
    assert not engine.is_running()


@pytest.mark.parametrize(
    ("flags", "variable"),
    [(("--model", "mine=owner/name"), "HF_ENDPOINT"), ((), "PIP_INDEX_URL")],
    ids=["hub", "built-in"],
)
async def test_a_signal_while_it_fetches_ends_it(tmp_path: Path, flags: tuple[str, ...], variable: str) -> None:
    """It does not wait for a server that never answers, and leaves nothing behind that does."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.setblocking(False)
        env = NO_NETWORK | {variable: f"http://127.0.0.1:{mute.getsockname()[1]}", "HF_HOME": str(tmp_path / "hub")}
        async with starting("--listen", "127.0.0.1:0", "--cache-dir", str(tmp_path), *flags, env=env) as process:
            connected, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(mute), START_S)
            with connected:
                children = psutil.Process(process.pid).children(recursive=True)
                process.send_signal(signal.SIGTERM)
                output, errors = await asyncio.wait_for(process.communicate(), QUICK_S)
    assert (process.returncode, output) == (0, b"")
    assert b"Traceback" not in errors
    assert children
    assert not any(child.is_running() for child in children)


async def test_a_cache_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """In one line that names it, with exit code 1."""
    (tmp_path / "file").touch()
    code, errors = await run_to_end("--listen", "127.0.0.1:0", "--cache-dir", str(tmp_path / "file" / "cache"))
    assert code == 1
    assert str(tmp_path / "file" / "cache") in one_line(errors)
