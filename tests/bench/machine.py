"""What the figures were taken on: nothing that names the machine."""

import ctypes
import ctypes.util
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import psutil

_PACKAGES = ("mlx", "mlx-lm", "grpcio")


def machine() -> dict[str, str]:
    """The machine and its system."""
    return {
        "CPU": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / (1 << 30):.0f} GiB",
        "OS": _system(),
    }


def versions() -> dict[str, str]:
    """What the figures depend on."""
    packages = {package: version(package) for package in _PACKAGES}
    return {"Python": platform.python_version()} | packages | {"OpenBLAS": _openblas()}


def _cpu() -> str:
    if sys.platform == "darwin":
        return subprocess.check_output(["sysctl", "-n", "machdep.cpu.brand_string"], text=True).strip()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _system() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}, {platform.machine()}"
    return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {platform.machine()}"


def _openblas() -> str:
    """Its version and the kernels that it has chosen."""
    library = ctypes.util.find_library("openblas")
    if library is None:
        return "none"
    configuration = ctypes.CDLL(library).openblas_get_config
    configuration.restype = ctypes.c_char_p
    words = configuration().decode().split()
    return f"{words[1]} ({words[-2]})"
