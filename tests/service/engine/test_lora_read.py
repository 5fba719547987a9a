"""Which format a folder is in."""

from pathlib import Path

import pytest

from service.engine.lora_folder import LoraError
from service.engine.lora_read import read
from tests.service.engine.lora_files import delta, write_mlx, write_peft
from tests.service.engine.models import llama


def test_both_formats_are_told_by_their_files(tmp_path: Path) -> None:
    """The same factors come out of both."""
    factors = delta(llama())
    written = write_mlx(tmp_path / "mlx", factors), write_peft(tmp_path / "peft", factors)
    one, other = (read(folder) for folder in written)
    assert one.factors.keys() == other.factors.keys()
    assert one.scale == other.scale == 2.0


def test_folders_without_weights_are_refused(tmp_path: Path) -> None:
    """The reason says what was looked for, and that pickled weights are not read."""
    with pytest.raises(LoraError, match="missing is not a folder"):
        read(tmp_path / "missing")
    with pytest.raises(LoraError, match=r"has neither adapters\.safetensors nor adapter_model\.safetensors"):
        read(tmp_path)
    (tmp_path / "adapter_model.bin").touch()
    with pytest.raises(LoraError, match=r"adapter_model\.bin may run a program"):
        read(tmp_path)


def test_weights_without_settings_are_refused(tmp_path: Path) -> None:
    """Without them the scale is not known."""
    folder = write_mlx(tmp_path, delta(llama()))
    (folder / "adapter_config.json").unlink()
    with pytest.raises(LoraError, match=r"adapter_config\.json does not exist"):
        read(folder)
