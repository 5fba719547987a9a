"""schemathesis: what the shim's own OpenAPI document allows is answered as the document says, and nothing is a 500."""

import re
from pathlib import Path

from tests.e2e.clients.conftest import RunClient

_HOOKS = Path(__file__).parent / "scripts" / "schemathesis_hooks.py"


def test_the_shim_is_as_documented(run_client: RunClient, url: str, tmp_path: Path) -> None:
    """What the document allows is answered, what it does not is refused, and both as it says."""
    (tmp_path / "schemathesis.toml").write_text(f'hooks = "{_HOOKS}"\n')
    command = ["schemathesis", "run", f"{url}/openapi.json", "--no-color"]
    limits = ["--max-examples", "10", "--max-time", "15", "--generation-deterministic", "--no-shrink"]
    printed = run_client([*command, *limits], tmp_path)
    tried = re.search(r"(\d+) generated, \1 passed", printed)
    assert tried is not None, printed
    assert int(tried[1]) > 100
