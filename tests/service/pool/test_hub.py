"""Fetching a repository: the real library and the real program, against a hub on this machine."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.config import ModelConfig
from service.errors import SetupError
from service.pool.catalogue import foreseen_folder, model_folder
from service.pool.progress import LoadProgress, Stage
from service.pool.weights import estimated_bytes, kv_bytes
from tests.service.pool.local_hub import REPOSITORY, Hub, files_of, serving

FETCH_S = 60.0
BESIDE = {
    "onnx/config.json": b"{}",
    "consolidated.safetensors": bytes(1000),
    "pytorch_model.bin": b"pickled",
    "modeling.py": b"raise SystemExit",
    "README.md": b"words",
}
"""What repositories hold beside the model."""


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve a repository with a model, and let the library know of this hub and of a cache of the test."""
    with serving(files_of(tiny_model) | BESIDE) as serves:
        monkeypatch.setenv("HF_ENDPOINT", serves.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        yield serves


async def fetched(
    tmp_path: Path, repo: str = REPOSITORY, revision: str | None = None
) -> tuple[Path, list[LoadProgress]]:
    """Fetch a repository; its folder, and what was heard meanwhile."""
    heard: list[LoadProgress] = []
    config = ModelConfig("a", repo=repo, revision=revision)
    async with asyncio.timeout(FETCH_S):
        return await model_folder(config, tmp_path / "cache", heard.append), heard


async def test_a_model_is_fetched_with_what_it_needs(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    """And with nothing else; the bytes of its weights are counted to the last."""
    hub.pause_s = 0.05
    folder, heard = await fetched(tmp_path)
    assert files_of(folder) == files_of(tiny_model)
    assert heard[0] == LoadProgress(Stage.RESOLVING)
    size = (tiny_model / "model.safetensors").stat().st_size
    done = [progress.bytes for progress in heard if progress.stage is Stage.DOWNLOADING]
    assert done == sorted(done)
    assert done[-1] == size
    assert any(0 < part < size for part in done), "it is heard of on the way"
    assert {progress.total_bytes for progress in heard[1:]} == {size}


async def test_what_is_there_is_not_fetched_again(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the hub, and without it."""
    folder, _ = await fetched(tmp_path)
    sent = dict(hub.sent)
    assert await fetched(tmp_path) == (folder, [LoadProgress(Stage.RESOLVING)])
    assert hub.sent == sent
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert (await fetched(tmp_path))[0] == folder


async def test_a_fetch_that_was_ended_goes_on_where_it_was(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    """What had come is asked for no more, and counts from the start."""
    size = (tiny_model / "model.safetensors").stat().st_size
    hub.stop_after = size // 2
    least = size // 4
    under_way = asyncio.Event()

    def hear(progress: LoadProgress) -> None:
        if progress.bytes >= least:
            under_way.set()

    task = asyncio.create_task(model_folder(ModelConfig("a", repo=REPOSITORY), tmp_path / "cache", hear))
    async with asyncio.timeout(FETCH_S):
        await under_way.wait()
    task.cancel()
    await asyncio.wait([task])
    hub.stop_after = None
    hub.go_on.set()
    sent = hub.sent["model.safetensors"]
    folder, heard = await fetched(tmp_path)
    assert files_of(folder) == files_of(tiny_model)
    assert hub.ranges
    assert hub.sent["model.safetensors"] - sent <= size - least
    assert min(progress.bytes for progress in heard if progress.stage is Stage.DOWNLOADING) >= least


async def test_contents_that_have_changed_are_refused(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    """A part that is not what the hub has is found out, and the next try is a whole one."""
    await fetched(tmp_path)
    [weights] = [blob for blob in (tmp_path / "hub").rglob("blobs/*") if blob.stat().st_size == max_size(tiny_model)]
    weights.unlink()
    weights.with_name(f"{weights.name}.partial").write_bytes(b"x" * 1000)
    for pointer in (tmp_path / "hub").rglob("snapshots/*/model.safetensors"):
        pointer.unlink()
    with pytest.raises(SetupError, match="not what the hub says; try again"):
        await fetched(tmp_path)
    assert files_of((await fetched(tmp_path))[0]) == files_of(tiny_model)


def max_size(folder: Path) -> int:
    return max(len(data) for data in files_of(folder).values())


async def test_memory_is_foreseen_from_the_headers(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    """With little of the weights fetched; where they are there, their own folder is what to look at."""
    config = ModelConfig("a", repo=REPOSITORY)
    folder = await foreseen_folder(config, tmp_path / "cache", tmp_path / "scratch")
    assert folder == tmp_path / "scratch"
    assert estimated_bytes(folder) == estimated_bytes(tiny_model)
    assert kv_bytes(folder, 1000) == kv_bytes(tiny_model, 1000)
    assert hub.sent["model.safetensors"] < (tiny_model / "model.safetensors").stat().st_size / 4
    fetched_folder, _ = await fetched(tmp_path)
    assert files_of(fetched_folder) == files_of(tiny_model)
    assert await foreseen_folder(config, tmp_path / "cache", tmp_path / "scratch") == fetched_folder


async def test_the_memory_of_a_gguf_file_is_not_foreseen(hub: Hub, tmp_path: Path) -> None:
    """It is said why."""
    hub.files = {"a.gguf": b"x"}
    with pytest.raises(SetupError, match="known only once it has been fetched"):
        await foreseen_folder(ModelConfig("a", repo=REPOSITORY), tmp_path / "cache", tmp_path / "scratch")


async def test_programs_are_fetched_for_trusted_models_only(hub: Hub, tmp_path: Path) -> None:
    """Since nothing runs those of the others."""
    folder, _ = await fetched(tmp_path)
    assert not (folder / "modeling.py").exists()
    config = ModelConfig("a", repo=REPOSITORY, trust_remote_code=True)
    assert await model_folder(config, tmp_path / "cache") == folder
    assert (folder / "modeling.py").exists()


async def test_a_revision_is_fetched(hub: Hub, tmp_path: Path) -> None:
    """One that there is not is told of."""
    assert (await fetched(tmp_path, revision="v1"))[0].is_dir()
    with pytest.raises(SetupError, match=r"model 'a': cannot fetch owner/name: it has no revision v9$"):
        await fetched(tmp_path, revision="v9")


async def test_an_unknown_repository_is_told(hub: Hub, tmp_path: Path) -> None:
    """In one line."""
    with pytest.raises(SetupError, match=r"cannot fetch owner/other: there is no such repository that you can read$"):
        await fetched(tmp_path, "owner/other")


async def test_a_hub_that_is_gone_is_told(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, where nothing is in the cache."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SetupError, match=r"cannot fetch owner/name: .") as raised:
        await fetched(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "answers 401: set HF_TOKEN to a token that it knows"),
        (403, "answers 403: the token in HF_TOKEN must not read it"),
        (404, "answers 404: there is no such thing"),
        (429, "answers 429: .* try again later"),
        (500, "answers 500, try again later"),
        (418, "answers 418"),
    ],
)
async def test_what_the_hub_answers_is_told(hub: Hub, tmp_path: Path, status: int, said: str) -> None:
    """In few words for a person."""
    hub.status = status
    with pytest.raises(SetupError, match=rf"cannot fetch owner/name: the hub {said}$"):
        await fetched(tmp_path)


async def test_a_hub_that_closes_the_connection_is_told(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    """And not in the words of the progress; the next try is as any other."""
    hub.cut_after = 1 << 16
    with pytest.raises(SetupError, match=r"cannot fetch owner/name: the connection to the hub failed: .*closed"):
        await fetched(tmp_path)
    hub.cut_after = None
    assert files_of((await fetched(tmp_path))[0]) == files_of(tiny_model)


async def test_a_connection_that_is_cut_is_made_again(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    """And what has come is not asked for again."""
    hub.cut_after = 300_000
    assert files_of((await fetched(tmp_path))[0]) == files_of(tiny_model)
    assert any(not wanted.startswith("bytes=0-") for wanted in hub.ranges)


async def test_a_hub_that_stalls_is_told(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the library's time."""
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    hub.stop_after = 1 << 16
    with pytest.raises(SetupError, match="cannot fetch owner/name: the connection to the hub failed: timed out"):
        await fetched(tmp_path)


@pytest.mark.parametrize("body", [b"[]", b"{", b"5"])
async def test_an_answer_that_makes_no_sense_is_told(hub: Hub, tmp_path: Path, body: bytes) -> None:
    """In one line, which is not how a program ended."""
    hub.body = body
    with pytest.raises(SetupError, match=r"cannot fetch owner/name: (the hub is not understood: )?\w.{8}") as raised:
        await fetched(tmp_path)
    assert "exit code" not in str(raised.value)
    assert "\n" not in str(raised.value)


async def test_a_repository_is_no_flag(hub: Hub, tmp_path: Path) -> None:
    """Whatever it is called."""
    with pytest.raises(SetupError, match="cannot fetch -h/x: Repo id must use"):
        await fetched(tmp_path, "-h/x")


async def test_weights_in_folders_below_are_not_the_models(hub: Hub, tmp_path: Path) -> None:
    """As mlx-lm reads none there; they are neither fetched nor counted."""
    hub.files |= {"model_other/x.safetensors": bytes(100)}
    folder, heard = await fetched(tmp_path)
    assert not (folder / "model_other").exists()
    assert heard[-1].total_bytes == (folder / "model.safetensors").stat().st_size


async def test_what_is_not_whole_in_the_cache_is_told_offline(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it, or not the weights."""
    for half_there in (False, True):
        if half_there:
            folder, _ = await fetched(tmp_path)
            (folder / "model.safetensors").unlink()
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(SetupError, match="not whole in the cache, and HF_HUB_OFFLINE keeps the hub"):
            await fetched(tmp_path)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")


@pytest.mark.parametrize(
    ("files", "repo", "said"),
    [
        ({"config.json": b"{}"}, REPOSITORY, r"neither model\*.safetensors nor a GGUF file"),
        ({"a.gguf": b"x", "b.gguf": b"x"}, REPOSITORY, r"several GGUF files; .* as in OWNER/NAME/a.gguf"),
        ({"a.gguf": b"x", "b.gguf": b"x"}, f"{REPOSITORY}/c.gguf", "it has no file c.gguf, but a.gguf, b.gguf"),
        ({"a.gguf": b"x", "b.gguf": b"x"}, f"{REPOSITORY}/b.gguf", "b.gguf: it is broken or is no GGUF file"),
        ({"a.gguf": b"no model"}, REPOSITORY, "a.gguf: it is no GGUF file"),
    ],
)
async def test_what_a_repository_lacks_is_told(
    hub: Hub, tmp_path: Path, files: dict[str, bytes], repo: str, said: str
) -> None:
    """A GGUF file is taken where there is nothing else, and the one that is named of several."""
    hub.files = files
    with pytest.raises(SetupError, match=said):
        await fetched(tmp_path, repo)
    assert set(hub.sent) <= {"config.json", repo.removeprefix(f"{REPOSITORY}/"), "a.gguf"}
