"""The sides of a benchmark, each a process of its own that is asked for one run at a time."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import httpx

from mlx_grpc.v1 import generation_pb2 as pb
from mlx_grpc.v1 import generation_pb2_grpc as pb_grpc
from service.pool.blas import engine_environment
from tests.processes import ServiceProcess

_THREADS = 1


class Baseline:
    """mlx-lm in a process of its own; see tests.bench.baseline."""

    def __init__(self, folder: Path) -> None:
        """Start it with the BLAS that the engine gets."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.baseline", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=engine_environment(_THREADS),
            text=True,
        )
        assert self._read() == "ready"

    def run(self, tokens: int) -> float:
        """Generate; tokens a second."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{tokens}\n")
        self._process.stdin.flush()
        seconds, made = self._read().split()
        assert int(made) == tokens
        return tokens / float(seconds)

    def stop(self) -> None:
        """End it."""
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Grpc:
    """One stream over gRPC."""

    def __init__(self, address: str, prompt: list[int]) -> None:
        self._stub = pb_grpc.GenerationServiceStub(grpc.insecure_channel(address))
        self._prompt = prompt

    def run(self, tokens: int) -> float:
        """Generate; tokens a second, from the call to the last message."""
        request = pb.GenerateRequest(
            token_ids=pb.TokenIds(ids=self._prompt),
            sampling=pb.SamplingParams(temperature=0),
            stopping=pb.Stopping(max_tokens=tokens, ignore_eos=True),
        )
        start = time.perf_counter()
        events = list(self._stub.Generate(request))
        seconds = time.perf_counter() - start
        assert events[-1].completed.usage.completion_tokens == tokens
        return tokens / seconds


class Shim:
    """One stream over the shim's /v1/completions."""

    def __init__(self, url: str, model: str, prompt: list[int]) -> None:
        self._client = httpx.Client(base_url=url, timeout=300)
        self._body = {"model": model, "prompt": prompt, "stream": True, "temperature": 0, "ignore_eos": True}
        self._body |= {"stream_options": {"include_usage": True}}

    def run(self, tokens: int) -> float:
        """Generate; tokens a second, from the request to `[DONE]`."""
        start = time.perf_counter()
        last = previous = ""
        with self._client.stream("POST", "/v1/completions", json=self._body | {"max_tokens": tokens}) as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    previous, last = last, line
        seconds = time.perf_counter() - start
        assert last == "data: [DONE]"
        assert json.loads(previous.removeprefix("data: "))["usage"]["completion_tokens"] == tokens
        return tokens / seconds


class Servers:
    """A service on one model with a shim over it."""

    def __init__(self, name: str, folder: Path) -> None:
        flags = ("--listen", "127.0.0.1:0", "--model", f"{name}={folder}", "--log-level", "warning")
        self._service = ServiceProcess(flags)
        self.address = self._service.address
        self._shim = subprocess.Popen(
            [sys.executable, "-m", "shim", "--listen", "127.0.0.1:0", "--service", self.address],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._shim.stdout is not None
        self.url = self._shim.stdout.readline().split()[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shim.terminate()
        self._shim.communicate()
        self._service.stop()
