"""Engines that tests speak for."""

from pathlib import Path

import pytest

from tests.service.fakes import FakeEngines


@pytest.fixture
def fake_folder(tmp_path: Path) -> Path:
    """Give the folder of the model that fake engines load."""
    folder = tmp_path / "fake-model"
    folder.mkdir()
    return folder


@pytest.fixture
def engines(fake_folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngines:
    """Put fake engines in the place of real ones."""
    return FakeEngines.install(fake_folder, monkeypatch)
