"""schemathesis: what the shim's own OpenAPI document allows is answered as the document says, and nothing is a 500."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients.conftest import RunClient
from tests.e2e.conftest import shim_over
from tests.processes import ServiceProcess

_HOOKS = Path(__file__).parent / "scripts" / "schemathesis_hooks.py"
# A context so short that no request of the many runs for long.
_CONFIG = """
listen = ["127.0.0.1:0"]
[[models]]
name = "tiny"
path = "{model}"
context_length = 96
"""


@pytest.fixture(scope="module")
def short_url(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a service and a shim on a model of a short context."""
    folder = tmp_path_factory.mktemp("short")
    config = folder / "service.toml"
    config.write_text(_CONFIG.format(model=tiny_model))
    flags = ["--config", str(config), "--cache-dir", str(folder / "cache")]
    with ServiceProcess(flags) as service, shim_over(service) as url:
        yield url


def test_the_shim_is_as_documented(run_client: RunClient, short_url: str, tmp_path: Path) -> None:
    """No generated request, allowed or not, gets a 500, an undocumented status or a body of another shape."""
    (tmp_path / "schemathesis.toml").write_text(f'hooks = "{_HOOKS}"\n')
    command = ["schemathesis", "run", f"{short_url}/openapi.json", "--no-color"]
    # What the service alone can judge (ranges, an empty message) is refused although the document allows it.
    command += ["--exclude-checks", "positive_data_acceptance"]
    limits = ["--max-examples", "10", "--max-time", "15", "--generation-deterministic", "--no-shrink"]
    printed = run_client([*command, *limits], tmp_path)
    tried = re.search(r"(\d+) generated, \1 passed", printed)
    assert tried is not None, printed
    assert int(tried[1]) > 100
