"""What gRPC's core is told."""

import subprocess
import sys

import pytest

FIRST = """
import sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            import os
            print(os.environ.get("GRPC_EXPERIMENTS"), os.environ.get("GRPC_VERBOSITY"))

sys.meta_path.insert(0, Watch())
import {module}
"""


@pytest.mark.parametrize("module", ["shim.__main__", "shim.worker"])
@pytest.mark.parametrize(("given", "used"), [({}, "-event_engine_client"), ({"GRPC_EXPERIMENTS": "x"}, "x")])
def test_the_core_is_told_before_it_is_loaded(module: str, given: dict[str, str], used: str) -> None:
    """Both programs set the environment before anything of them imports grpc, and leave what is set."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST.format(module=module)], env=given, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [used, "ERROR"]
