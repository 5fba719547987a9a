"""From a model's configuration to its folder."""

from pathlib import Path

import pytest

from service.config import ModelConfig
from service.errors import SetupError
from service.pool import catalogue
from service.pool.catalogue import model_folder


async def test_a_folder_is_used_as_it_is(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is under the user's home too."""
    assert await model_folder(ModelConfig("a", path=str(tiny_model)), tmp_path) == tiny_model
    monkeypatch.setenv("HOME", str(tiny_model.parent))
    assert await model_folder(ModelConfig("a", path=f"~/{tiny_model.name}"), tmp_path) == tiny_model


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (None, "no folder"),
        ([], "config.json"),
        (["config.json"], "safetensors"),
        (["model.safetensors"], "config.json"),
    ],
)
async def test_what_is_missing_is_told(tmp_path: Path, files: list[str] | None, said: str) -> None:
    """In one line with the model's name and the folder."""
    folder = tmp_path / "model"
    if files is not None:
        folder.mkdir()
        for file in files:
            (folder / file).touch()
    with pytest.raises(SetupError, match=said) as raised:
        await model_folder(ModelConfig("a", path=str(folder)), tmp_path)
    assert str(raised.value).startswith("model 'a': ")
    assert str(folder) in str(raised.value)


async def test_a_repository_is_fetched(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its revision, and only the files that serving needs."""
    asked: list[tuple[str, str | None, list[str]]] = []

    def download(repo: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo, revision, allow_patterns))
        return str(tiny_model)

    monkeypatch.setattr(catalogue, "snapshot_download", download)
    config = ModelConfig("a", repo="owner/name", revision="v1")
    assert await model_folder(config, tmp_path) == tiny_model
    [(repo, revision, patterns)] = asked
    assert (repo, revision) == ("owner/name", "v1")
    assert {"*.json", "*.safetensors", "*.jinja"} <= set(patterns)


async def test_a_repository_that_cannot_be_fetched_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line; the hub is switched off here."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SetupError, match=r"model 'a': .*owner/name") as raised:
        await model_folder(ModelConfig("a", repo="owner/name"), tmp_path)
    assert "\n" not in str(raised.value)
