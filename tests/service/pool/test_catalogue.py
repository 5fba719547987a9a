"""From a model's configuration to its folder."""

import json
import shutil
from pathlib import Path

import pytest

from service.config import ModelConfig
from service.errors import SetupError
from service.pool.catalogue import model_folder
from service.pool.progress import LoadProgress, Stage
from service.text.tokenizer import Tokenizer
from tests.service.pool.processes import make_gguf


async def test_a_folder_is_used_as_it_is(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is under the user's home too."""
    heard: list[LoadProgress] = []
    assert await model_folder(ModelConfig("a", path=str(tiny_model)), tmp_path, heard.append) == tiny_model
    assert heard == [LoadProgress(Stage.RESOLVING)]
    monkeypatch.setenv("HOME", str(tiny_model.parent))
    assert await model_folder(ModelConfig("a", path=f"~/{tiny_model.name}"), tmp_path) == tiny_model


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (None, "no folder"),
        ([], "safetensors"),
        (["config.json"], "safetensors"),
        (["model.safetensors"], "config.json"),
        (["a.gguf", "b.gguf"], "several GGUF files, name one of a.gguf, b.gguf"),
        (["only.gguf"], "only.gguf: it is broken or is no GGUF file"),
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


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the hub's library a cache of its own and switch its network off."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("revision", [None, "v1"])
async def test_a_repository_is_found_in_the_hubs_cache(
    tiny_model: Path, tmp_path: Path, hub_cache: Path, revision: str | None
) -> None:
    """The real library finds a snapshot that is there, by its revision."""
    repository = hub_cache / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / (revision or "main")).write_text("c0ffee")
    shutil.copytree(tiny_model, repository / "snapshots" / "c0ffee")
    folder = await model_folder(ModelConfig("a", repo="owner/name", revision=revision), tmp_path)
    assert folder == repository / "snapshots" / "c0ffee"


async def test_a_repository_that_cannot_be_fetched_is_told(tmp_path: Path, hub_cache: Path) -> None:
    """In one line; the hub is switched off here."""
    with pytest.raises(SetupError, match=r"model 'a': cannot fetch owner/name: .") as raised:
        await model_folder(ModelConfig("a", repo="owner/name"), tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("named", ["file", "folder"])
async def test_a_gguf_file_becomes_a_folder(tmp_path: Path, named: str) -> None:
    """Whether it is named itself or its folder is, in which there is nothing else."""
    (tmp_path / "models").mkdir()
    file = make_gguf(tmp_path / "models" / "mine.gguf")
    source = file if named == "file" else file.parent
    folder = await model_folder(ModelConfig("a", path=str(source)), tmp_path / "cache")
    assert folder.is_relative_to(tmp_path / "cache")
    assert Tokenizer.from_file(str(folder / "tokenizer.json")) is not None
    assert await model_folder(ModelConfig("a", path=str(source)), tmp_path / "cache") == folder


async def test_a_model_that_brings_a_program_has_to_be_trusted(tiny_model: Path, tmp_path: Path) -> None:
    """As its configuration says in one line; what other libraries would run, and this one does not, is no matter."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "theirs.Model"}}))
    assert await model_folder(ModelConfig("a", path=str(folder)), tmp_path) == folder
    (folder / "config.json").write_text(json.dumps(config | {"model_file": "theirs.py"}))
    with pytest.raises(SetupError, match=r"'theirs.py', which is not run unless .* trust_remote_code = true$"):
        await model_folder(ModelConfig("a", path=str(folder)), tmp_path)
    assert await model_folder(ModelConfig("a", path=str(folder), trust_remote_code=True), tmp_path) == folder
