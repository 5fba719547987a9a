"""What a model folder has to hold."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from service.errors import SetupError
from service.pool.folder import check, expanded, find_gguf

LOOK = """
import os, sys
from pathlib import Path
from service.errors import SetupError
from service.pool.folder import check, find_gguf
os.seteuid(65534)
try:
    find_gguf(Path(sys.argv[1]))
    check(Path(sys.argv[1]))
except SetupError as error:
    print(error)
"""


def test_a_folder_without_a_tokenizer_is_told(tiny_model: Path, tmp_path: Path) -> None:
    """Before an engine is asked."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    check(folder)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(SetupError, match="it has no tokenizer"):
        check(folder)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_told(tmp_path: Path, name: str) -> None:
    """As one that cannot be read, or is not there."""
    with pytest.raises(SetupError, match=r"cannot be read|there is no"):
        find_gguf(tmp_path / name)


def test_the_home_of_nobody_is_a_path_like_any_other() -> None:
    """So that it is not there, which can be told."""
    assert expanded("~no-such-user/model") == Path("~no-such-user/model")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("locked", ["", "..", "config.json"])
def test_what_must_not_be_read_is_told(tiny_model: Path, locked: str) -> None:
    """The folder, the one above it, or a file in it."""
    with tempfile.TemporaryDirectory() as name:  # below pytest's own only we may look
        Path(name).chmod(0o755)
        folder = Path(shutil.copytree(tiny_model, Path(name) / "above" / "model"))
        (folder / locked).chmod(0)
        ran = subprocess.run(
            [sys.executable, "-c", LOOK, str(folder)], capture_output=True, text=True, timeout=60, check=True
        )
    assert "ermission denied" in ran.stdout, ran.stderr
