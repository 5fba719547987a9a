"""MLX stays in the engine."""

import subprocess
import sys
from pathlib import Path

import psutil

from tests.processes import ServiceProcess

SHOW = "import sys, service.__main__; print(*{name.partition('.')[0] for name in sys.modules})"
KEPT_OUT = {"mlx", "mlx_lm", "transformers", "torch", "numpy"}
ENGINE = SHOW.replace("service.__main__", "service.engine.serving")


def loaded_by(script: str) -> set[str]:
    """Give the top-level modules that a script has loaded."""
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    return set(run.stdout.split())


def test_the_service_loads_no_framework() -> None:
    """Importing any of them costs a second and a hundred megabytes."""
    assert loaded_by(SHOW) & KEPT_OUT == set()


def test_the_engine_loads_no_wire() -> None:
    """It is started often, and serves the pipe only."""
    modules = loaded_by(ENGINE)
    assert "mlx_lm" in modules
    assert modules & {"grpc", "google", "mlx_grpc", "uvloop"} == set()


def test_a_running_service_has_no_framework_in_memory(service: ServiceProcess) -> None:
    """Its engines have."""
    if not Path("/proc/self/maps").exists():
        return
    maps = {
        process.pid: Path(f"/proc/{process.pid}/maps").read_text()
        for process in (psutil.Process(service.process.pid), service.engines[0])
    }
    assert "libmlx" in maps[service.engines[0].pid]
    assert "libmlx" not in maps[service.process.pid]
