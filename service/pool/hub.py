"""Fetches a model of the Hugging Face hub into the hub's own cache: `python -m service.pool.hub REPO`.

A process of its own, because a fetch can take hours and a thread cannot be stopped. It says in lines of JSON how many
bytes of how many are there, and at last the folder or the GGUF file, or what went wrong.
"""

import argparse
import json
import os
import re
import struct
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import HfApi, constants, get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import CachedRepoTreeNotFoundError
from huggingface_hub.utils.tqdm import disable_progress_bars

from service.pool.hub_file import Meter, fetch_file, say
from service.pool.hub_reason import reason_of

_SMALL = ["*.json", "*.jsonl", "*.jinja", "tokenizer.model", "*.tiktoken", "*.txt"]
"""What serving needs beside the weights."""
_CODE = ["*.py"]
"""What a model with a program of its own needs too."""
_NESTED = ["*/*"]
_WEIGHTS = re.compile(r"model[^/]*\.safetensors")
"""Those that mlx-lm reads; repositories may hold the same weights in other files too."""
_AT_A_TIME = 4
_PIECE = 1 << 17
"""Bytes that are written at a time. The library's ten megabytes would be long in coming, and lost when it is ended."""


class Refused(Exception):
    """The repository holds nothing that can be served. The text is the line that says so."""


def fetch(repo: str, revision: str | None, file: str | None, *, code: bool) -> Path:
    """The folder with the files of a repository that serving needs, or its GGUF file.

    `file` names one of several GGUF files; `code` takes programs too. Raises Refused, and what the hub's library does.
    """
    folder, tree = _look(repo, revision, _SMALL + _CODE if code else _SMALL)
    wanted, found = _choose(tree, file)
    if missing := [name for name in wanted if not (folder / name).exists()]:
        meter = Meter(tree, wanted, missing)
        pool = ThreadPoolExecutor(_AT_A_TIME)
        for fetched in as_completed([pool.submit(fetch_file, repo, folder, name, meter) for name in missing]):
            fetched.result()  # of the first that fails; nobody waits for the others
        snapshot_download(repo, revision=folder.name, allow_patterns=wanted)
        for name in missing:
            meter.reach(name, tree[name])
    return folder / found


def foresee(repo: str, revision: str | None, file: str | None, target: Path) -> Path:
    """A folder that is like the repository's but for the values of its weights, of which only the headers are fetched.

    It is `target`, or the folder itself where all is there. Raises Refused, and what the hub's library does.
    """
    folder, tree = _look(repo, revision, _SMALL)
    wanted, found = _choose(tree, file)
    if all((folder / name).exists() for name in wanted):
        return folder / found
    if found != ".":
        raise Refused("how much memory a GGUF file takes is known only once it has been fetched")
    target.mkdir(parents=True, exist_ok=True)
    for small in folder.iterdir():
        if small.is_file() and small.name not in wanted:
            (target / small.name).symlink_to(small)
    for name in wanted:
        known = HfApi().parse_safetensors_file_metadata(repo, name, revision=folder.name).tensors
        header = json.dumps({tensor: asdict(about) for tensor, about in known.items()}, default=list).encode()
        (target / name).write_bytes(struct.pack("<Q", len(header)) + header)
    return target


def _look(repo: str, revision: str | None, small: list[str]) -> tuple[Path, dict[str, int]]:
    """The folder of a repository in the cache, with its small files, and the sizes of all files that it has."""
    folder = Path(snapshot_download(repo, revision=revision, allow_patterns=small, ignore_patterns=_NESTED))
    try:
        return folder, {entry.path: entry.size for entry in get_cached_repo_tree(repo, revision=folder.name)}
    except CachedRepoTreeNotFoundError:  # offline, and put there by an older library or by hand
        files = [path for path in folder.rglob("*") if path.is_file()]
        return folder, {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _choose(tree: dict[str, int], file: str | None) -> tuple[list[str], str]:
    """Names of the weights to fetch, and of what is to be served: a GGUF file, or the folder itself."""
    ggufs = sorted(name for name in tree if name.endswith(".gguf"))
    if file is not None:
        if file not in ggufs:
            raise Refused(f"it has no file {file}, but {_listed(ggufs)}")
        return [file], file
    if weights := [name for name in tree if _WEIGHTS.fullmatch(name)]:
        return weights, "."
    if len(ggufs) > 1:
        raise Refused(f"it has several GGUF files; put one after the repository's name, as in OWNER/NAME/{ggufs[0]}")
    if ggufs:
        return ggufs, ggufs[0]
    raise Refused("it has neither model*.safetensors nor a GGUF file")


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "no GGUF file at all"


def main() -> int:
    """Fetch what the command line names; the exit code."""
    parser = argparse.ArgumentParser(prog="service.pool.hub", description=__doc__)
    parser.add_argument("repo")
    parser.add_argument("--revision")
    parser.add_argument("--file", help="the GGUF file, where there are several")
    parser.add_argument("--code", action="store_true", help="programs too")
    parser.add_argument("--headers", type=Path, help="fetch only the headers of the weights, into this folder")
    options = parser.parse_args()
    disable_progress_bars()
    constants.DOWNLOAD_CHUNK_SIZE = _PIECE
    try:
        if options.headers:
            found = foresee(options.repo, options.revision, options.file, options.headers)
        else:
            found = fetch(options.repo, options.revision, options.file, code=options.code)
        say(found=str(found))
    except Refused as error:
        say(error=str(error))
    except Exception as error:  # noqa: BLE001 - a hub can answer anything, of which the libraries make anything
        say(error=reason_of(error, options.revision))
    else:
        return 0
    return 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the library's threads may still be waiting for the network
