"""What is on disk is listed, with what is wrong with it."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from service.config import BUILT_IN_MODEL, ModelConfig
from service.pool import built_in, listing
from service.pool.allowed import named_model
from service.pool.listing import Entry, Kind, hub_cache, list_models
from tests.service.pool.processes import make_gguf

MODULES = "import sys, service.pool.listing as it; it._model_types(); print(*sorted(sys.modules))"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the hub's library an empty cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    made = tmp_path.resolve() / "models"
    made.mkdir()
    return made


async def listed(tmp_path: Path, *folders: Path) -> dict[str, Entry]:
    entries = await list_models(tmp_path / "cache", [str(folder) for folder in folders])
    return {entry.name: entry for entry in entries}


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


async def test_models_in_folders_are_listed(tiny_model: Path, models: Path, tmp_path: Path) -> None:
    """Each with its name, kind and size; what is hidden, too deep or no model is not."""
    shutil.copytree(tiny_model, models / "plain")
    shutil.copytree(tiny_model, models / "owner" / "name")
    shutil.copytree(tiny_model, models / ".hidden")
    shutil.copytree(tiny_model, models / "far" / "too" / "deep" / "down")
    gguf = make_gguf(models / "owner" / "other.gguf")
    (models / "notes.txt").touch()
    entries = await listed(tmp_path, models, tmp_path / "not-there")
    assert entries == {
        "plain": Entry("plain", models / "plain", Kind.MLX, size(tiny_model)),
        "owner/name": Entry("owner/name", models / "owner" / "name", Kind.MLX, size(tiny_model)),
        "owner/other": Entry("owner/other", gguf, Kind.GGUF, gguf.stat().st_size),
    }
    assert all(entry.is_servable for entry in entries.values())
    assert entries["owner/other"].config == ModelConfig("owner/other", path=str(gguf), preload=False)


async def test_what_cannot_be_served_says_why(tiny_model: Path, models: Path, tmp_path: Path) -> None:
    """In one line each."""
    config = json.loads((tiny_model / "config.json").read_text())
    for name, changes in {"program": {"model_file": "x.py"}, "future": {"model_type": "llama99"}}.items():
        shutil.copytree(tiny_model, models / name)
        (models / name / "config.json").write_text(json.dumps(config | changes))
    for name in ("pickled", "torn"):
        (models / name).mkdir()
        (models / name / "config.json").write_text(json.dumps(config) if name == "pickled" else "{")
    (models / "pickled" / "pytorch_model.bin").touch()
    (models / "torn" / "model.safetensors").touch()
    for name in ("bad", "two words"):
        (models / f"{name}.gguf").write_bytes(b"nothing")
    entries = await listed(tmp_path, models)
    said = {
        "program": "program of its own, 'x.py'",
        "future": "knows no model of type 'llama99'",
        "pickled": "pickled ones such as pytorch_model.bin are not read",
        "torn": "cannot be read",
        "bad": "is no GGUF file",
        "two words": "name must be a word",
    }
    assert entries.keys() == said.keys()
    for name, why in said.items():
        assert why in entries[name].fault
        assert "\n" not in entries[name].fault
        assert not entries[name].is_servable


async def test_links_do_not_lead_out(tiny_model: Path, models: Path, tmp_path: Path) -> None:
    """What callers may not load is not shown to them."""
    shutil.copytree(tiny_model, models / "inside")
    (models / "link").symlink_to(models / "inside")
    (models / "out").symlink_to(tiny_model)
    (models / "circle").symlink_to(models / "circle")
    (models / "up").symlink_to(models)
    assert {"inside", "link"} == {name for name in await listed(tmp_path, models) if not name.startswith("up")}
    assert "out" not in await listed(tmp_path, models)


async def test_the_hubs_cache_is_listed(tiny_model: Path, tmp_path: Path, hub: Path) -> None:
    """Each repository at its main revision."""
    for commit in ("aaa", "bbb"):
        shutil.copytree(tiny_model, hub / "models--owner--name" / "snapshots" / commit)
    (hub / "models--owner--name" / "refs").mkdir()
    (hub / "models--owner--name" / "refs" / "main").write_text("bbb")
    (hub / "models--owner--empty").mkdir()
    (hub / "datasets--owner--data" / "snapshots" / "aaa").mkdir(parents=True)
    folder = hub / "models--owner--name" / "snapshots" / "bbb"
    assert await listed(tmp_path) == {
        "owner/name": Entry("owner/name", folder, Kind.REPOSITORY, size(tiny_model)),
    }
    assert (await listed(tmp_path))["owner/name"].config == ModelConfig("owner/name", repo="owner/name", preload=False)


async def test_the_built_in_model_is_listed_where_it_is(tiny_model: Path, tmp_path: Path) -> None:
    """And not before it has been fetched."""
    assert await listed(tmp_path) == {}
    shutil.copytree(tiny_model, built_in.kept_under(tmp_path / "cache"))
    entries = await listed(tmp_path)
    assert entries[BUILT_IN_MODEL].kind is Kind.BUILT_IN
    assert entries[BUILT_IN_MODEL].config == ModelConfig(BUILT_IN_MODEL, preload=False)
    assert named_model(BUILT_IN_MODEL, entries[BUILT_IN_MODEL].source, "", []) == entries[BUILT_IN_MODEL].config


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({}, "~/.cache/huggingface/hub"),
    ],
)
def test_the_hubs_cache_is_where_its_library_has_it(
    variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same variables, in the same order."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_cache() == Path(place).expanduser()
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    library = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert library.stdout.strip() == str(hub_cache())


def test_what_mlx_lm_knows_is_known_without_it() -> None:
    """From its files: importing it would cost the service over 100 MiB."""
    assert {"llama", "mistral", "qwen3_moe", "kimi_k2"} <= listing._model_types()
    assert "bert" not in listing._model_types()
    ran = subprocess.run([sys.executable, "-c", MODULES], capture_output=True, text=True, check=True, timeout=60)
    assert {"mlx", "mlx_lm", "transformers", "huggingface_hub"}.isdisjoint(ran.stdout.split())


@pytest.mark.parametrize(
    "config",
    [b'{"model_type": []}', b"[" * 100_000, b'{"model_type": "%s"}' % (b"x" * 1_000_000), b"\xff"],
    ids=["list", "deep", "long", "bytes"],
)
async def test_one_broken_folder_hides_no_other(tiny_model: Path, models: Path, tmp_path: Path, config: bytes) -> None:
    """It is listed with its fault, in few words."""
    shutil.copytree(tiny_model, models / "good")
    shutil.copytree(tiny_model, models / "broken")
    (models / "broken" / "config.json").write_bytes(config)
    entries = await listed(tmp_path, models)
    assert entries["good"].is_servable
    assert 0 < len(entries["broken"].fault) <= 301


async def test_one_broken_gguf_file_hides_no_other(models: Path, tmp_path: Path) -> None:
    """Neither one with a value of a wrong type, nor one with a name of megabytes."""
    good = make_gguf(models / "good.gguf").read_bytes()
    key = b"general.architecture"
    place = good.index(key) + len(key)
    (models / "long.gguf").write_bytes(
        good[:place] + struct.pack("<IQ", 8, 3_000_000) + b"x" * 3_000_000 + good[place + 4 + 8 + len("llama") :]
    )
    key = b"tokenizer.ggml.model"
    place = good.index(key) + len(key)
    (models / "typed.gguf").write_bytes(
        good[:place] + struct.pack("<IIQ", 9, 4, 0) + good[place + 4 + 8 + len("gpt2") :]
    )
    entries = await listed(tmp_path, models)
    assert entries["good"].is_servable
    assert "is of architecture 'xxx" in entries["long"].fault
    assert len(entries["long"].fault) <= 301
    assert "has a tokenizer of type []" in entries["typed"].fault


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems have names in UTF-8 only")
async def test_a_name_that_is_not_utf8_is_told(tiny_model: Path, models: Path, tmp_path: Path) -> None:
    """In UTF-8, as the wire has nothing else."""
    shutil.copytree(tiny_model, models / os.fsdecode(b"odd\xff"))
    [entry] = (await listed(tmp_path, models)).values()
    assert entry.name == "odd\ufffd"
    assert "is not UTF-8" in entry.fault
    assert f"{entry.source}{entry.fault}".encode()


async def test_each_gguf_file_of_a_repository_is_listed(tmp_path: Path, hub: Path) -> None:
    """Under the name that loads it, where there are several."""
    folder = hub / "models--owner--name" / "snapshots" / "aaa"
    folder.mkdir(parents=True)
    file = make_gguf(folder / "a.gguf")
    assert [entry.name for entry in (await listed(tmp_path)).values()] == ["owner/name"]
    shutil.copy(file, folder / "b.gguf")
    entries = await listed(tmp_path)
    assert [(entry.source, entry.fault) for entry in entries.values()] == [
        ("owner/name/a.gguf", ""),
        ("owner/name/b.gguf", ""),
    ]


async def test_a_reference_that_is_no_text_is_passed_over(tiny_model: Path, tmp_path: Path, hub: Path) -> None:
    """As is one with a line's end, which people write."""
    repository = hub / "models--owner--name"
    shutil.copytree(tiny_model, repository / "snapshots" / "aaa")
    shutil.copytree(tiny_model, repository / "snapshots" / "bbb")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_bytes(b"\xff\xfe")
    assert (await listed(tmp_path))["owner/name"].is_servable
    (repository / "refs" / "main").write_bytes(b"bbb\n")
    assert (await listed(tmp_path))["owner/name"].path.name == "bbb"
