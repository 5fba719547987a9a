"""Model folders that one process of a test run makes and the others wait for."""

import os
import subprocess
import sys
from pathlib import Path

import filelock

from service.pool.blas import engine_environment

_ROOT = Path(__file__).parent.parent
_THREADS = max(1, (os.cpu_count() or 1) // 2)


def made_once(folder: Path, module: str, name: str, *, limit_s: float) -> Path:
    """Give the folder, which `python -m module NAME FOLDER` makes where it is missing, in a process of its own."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}.partial")
            command = [sys.executable, "-m", module, name, str(partial)]
            subprocess.run(command, cwd=_ROOT, check=True, timeout=limit_s, env=engine_environment(_THREADS))
            partial.rename(folder)
    return folder
