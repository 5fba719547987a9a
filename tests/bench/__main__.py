"""`python -m tests.bench`: every measure beside its baseline, as a table and, if asked for, as a JSON file."""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

from tests.bench.measure import Ratio, compare
from tests.bench.models import smollm2
from tests.bench.sides import Baseline, Grpc, Servers, Shim
from tests.bench.workload import prompt_ids

_BASELINE = "stream_generate"
_TOKENS = {"tiny": 128, "smollm2": 48}


def main() -> None:
    """Run the benchmarks and print their table."""
    options = _options()
    results: dict[str, list[Ratio]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders: dict[str, Callable[[], Path]] = {"tiny": partial(_tiny, Path(scratch)), "smollm2": smollm2}
        for name in options.models:
            results[name] = _one_stream(name, folders[name](), options.rounds)
            _print(name, results[name])
    if options.json:
        versions = {package: version(package) for package in ("mlx", "mlx-lm", "grpcio")}
        figures = {name: [asdict(ratio) for ratio in ratios] for name, ratios in results.items()}
        report = {"machine": platform.platform(), "versions": versions, "one stream": figures}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _one_stream(name: str, folder: Path, rounds: int) -> list[Ratio]:
    tokens = _TOKENS[name]
    prompt = prompt_ids(folder / "tokenizer.json")
    baseline = Baseline(folder)
    try:
        with Servers(name, folder) as servers:
            grpc, shim = Grpc(servers.address, prompt), Shim(servers.url, name, prompt)
            sides = {_BASELINE: baseline.run, "gRPC": grpc.run, "shim": shim.run}
            return compare(_BASELINE, {side: partial(run, tokens) for side, run in sides.items()}, rounds)
    finally:
        baseline.stop()


def _tiny(scratch: Path) -> Path:
    """Write the tiny model in a child, so that this process stays a mere client."""
    folder = scratch / "tiny"
    subprocess.run([sys.executable, "-m", "tests.bench.models", str(folder)], check=True)
    return folder


def _print(name: str, ratios: list[Ratio]) -> None:
    print(f"\none stream, {name}, {_TOKENS[name]} tokens: ratios to mlx-lm's stream_generate in the same rounds")
    print(f"{'':18}{'tokens/s':>10}{'ratio':>8}{'lowest':>8}{'highest':>8}")
    for ratio in ratios:
        figures = f"{ratio.figure:10.1f}{ratio.median:8.2f}{ratio.low:8.2f}{ratio.high:8.2f}"
        print(f"{ratio.name:18}{figures}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=_TOKENS, default=list(_TOKENS))
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count; one more warms up")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
