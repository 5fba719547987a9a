"""Callers may name repositories, and paths that are inside the folders for models."""

from pathlib import Path

import pytest

from service.config import BUILT_IN_MODEL, BUILT_IN_SOURCE, ModelConfig
from service.errors import InvalidField, PathNotAllowed
from service.pool.allowed import named_model


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Make a folder for models, with one, links to another and to what is outside, and one beside it."""
    root = tmp_path.resolve() / "models"
    (root / "owner" / "inside").mkdir(parents=True)
    (tmp_path / "models-too" / "outside").mkdir(parents=True)
    (root / "link").symlink_to(root / "owner" / "inside")
    (root / "out").symlink_to(tmp_path / "models-too" / "outside")
    (root / "circle").symlink_to(root / "circle")
    (root / "mine.gguf").touch()
    return root


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("{root}/owner/inside", "owner/inside"),
        ("{root}/owner/../owner/./inside", "owner/inside"),
        ("{root}/link", "owner/inside"),
        ("{root}/mine.gguf", "mine.gguf"),
        ("{root}/not-there", "not-there"),
        ("owner/inside", "owner/inside"),
        ("link", "owner/inside"),
        ("mine.gguf", "mine.gguf"),
    ],
)
def test_a_path_inside_is_taken(models: Path, source: str, found: str) -> None:
    """As it is, with its links followed; a relative one is looked for in the folders."""
    config = named_model("a", source.format(root=models), "", ["/nowhere", str(models)])
    assert config == ModelConfig("a", path=str(models / found), preload=False)


@pytest.mark.parametrize(
    "source",
    [
        "/",
        "/etc/passwd",
        "{root}/../models-too/outside",
        "{root}-too/outside",
        "{root}/out",
        "{root}/owner/../../models-too",
        "{root}/circle/\0",
        "../models-too/outside",
        "out",
        "~/model",
        ".",
        "",
        "owner/../../models-too/x.gguf",
        "owner/name\0",
        "x" * 5000,
        "/" + "x" * 5000,
        "https://host/owner/name",
    ],
    ids=lambda source: source[:30].replace("\0", "NUL"),
)
def test_all_else_is_refused(models: Path, source: str) -> None:
    """By `..`, by a link, by a name that begins like the folder's, or as no path and no repository at all."""
    with pytest.raises(PathNotAllowed):
        named_model("a", source.format(root=models), "", [str(models)])


def test_without_folders_no_path_is_taken(models: Path) -> None:
    """As nobody has said which ones are for models."""
    with pytest.raises(PathNotAllowed):
        named_model("a", str(models / "owner" / "inside"), "", [])


@pytest.mark.parametrize("source", ["mlx-community/Qwen3-4B-4bit", "owner/name/model-Q8_0.gguf", "a.b/c_d"])
def test_a_repository_is_taken(models: Path, source: str) -> None:
    """With its revision, and with one of its GGUF files."""
    made = named_model("a", source, "v1", [str(models)])
    assert made == ModelConfig("a", repo=source, revision="v1", preload=False)


def test_a_refused_name_is_told_of(models: Path) -> None:
    """And a revision of a path, of which there are none."""
    with pytest.raises(InvalidField, match="name"):
        named_model("two words", "owner/name", "", [])
    with pytest.raises(InvalidField, match="revision"):
        named_model("a", "mine.gguf", "v1", [str(models)])


@pytest.mark.parametrize("revision", ["../../x", "--code", "a\0b", "x" * 100_000])
def test_a_revision_that_leads_elsewhere_is_refused(revision: str) -> None:
    """By its own name."""
    with pytest.raises(InvalidField, match="revision must be a branch, a tag or a commit"):
        named_model("a", "owner/name", revision, [])


def test_the_built_in_model_is_taken() -> None:
    """By what it is listed with, under its own name and with no revision."""
    assert named_model(BUILT_IN_MODEL, BUILT_IN_SOURCE, "", []) == ModelConfig(BUILT_IN_MODEL, preload=False)
    with pytest.raises(InvalidField, match=f"name must be '{BUILT_IN_MODEL}'"):
        named_model("other", BUILT_IN_SOURCE, "", [])
    with pytest.raises(InvalidField, match="revision"):
        named_model(BUILT_IN_MODEL, BUILT_IN_SOURCE, "v1", [])


def test_a_folder_of_nobody_holds_nothing() -> None:
    """The others are looked into all the same."""
    assert named_model("a", "owner/name", "", ["~no-such-user/models"]).repo == "owner/name"
