"""One file of the Hugging Face hub, fetched to where the hub's library keeps files, and continued after a break."""

import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Collection, Mapping
from io import FileIO
from pathlib import Path
from urllib.parse import urlparse

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.file_download import HfFileMetadata, http_get
from huggingface_hub.utils._fixes import WeakFileLock
from huggingface_hub.utils._headers import build_hf_headers

_EVERY_S = 0.2
_ETAG = re.compile(r"[\w-]+")
"""It names a file here, and comes from elsewhere."""
_SHA256 = re.compile("[0-9a-f]{64}")
_CHUNK = 1 << 20


def say(**facts: str | int) -> None:
    """Write a line of JSON at once."""
    sys.stdout.write(f"{json.dumps(facts)}\n")
    sys.stdout.flush()


class Meter:
    """Counts the bytes that are there, of all files together, and says so now and then."""

    def __init__(self, sizes: Mapping[str, int], wanted: Collection[str], missing: Collection[str]) -> None:
        self._total = sum(sizes[name] for name in wanted)
        self._bytes = {name: 0 if name in missing else sizes[name] for name in wanted}
        self._said_at = 0.0
        self._lock = threading.Lock()

    def reach(self, file: str, place: int) -> None:
        """Note that so many bytes of a file are there."""
        with self._lock:
            self._bytes[file] = place
            done = sum(self._bytes.values())
            if (now := time.monotonic()) - self._said_at >= _EVERY_S or done == self._total:
                self._said_at = now
                say(bytes=done, total_bytes=self._total)


class Partial(FileIO):
    """A file that is being fetched, continued where an earlier process was ended."""

    def __init__(self, path: Path, name: str, meter: Meter) -> None:
        super().__init__(path, "ab")
        self._name, self._meter = name, meter

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """See io.FileIO; writes all of it."""
        view = memoryview(data)
        while view:
            view = view[super().write(view) :]
        self._meter.reach(self._name, self.tell())
        return len(data)


def fetch_file(repo: str, folder: Path, name: str, meter: Meter) -> None:
    """Fetch the contents of a file to where the hub's library finds them, and does not fetch them again.

    The library throws away what it has of a file when its process is ended; this continues it.
    """
    metadata = get_hf_file_metadata(hf_hub_url(repo, name, revision=folder.name))
    etag = metadata.etag or ""
    if metadata.size is None or metadata.size > constants.MAX_HTTP_DOWNLOAD_SIZE or not _ETAG.fullmatch(etag):
        return  # the library has other ways
    repository = folder.parent.parent
    blob = repository / "blobs" / etag
    lock = repository.parent / ".locks" / repository.name / f"{etag}.lock"  # the library's own
    for made in (blob.parent, lock.parent):
        made.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if not blob.exists():
            partial = blob.with_name(f"{blob.name}.partial")
            _continue(partial, name, metadata, meter)
            partial.rename(blob)


def _continue(partial: Path, name: str, metadata: HfFileMetadata, meter: Meter) -> None:
    """Fetch what is missing of a file. Raises OSError for contents that are not those that were announced."""
    headers = build_hf_headers()
    if urlparse(metadata.location).netloc != urlparse(hf_hub_url("a/b", "c")).netloc:
        headers.pop("authorization", None)  # it is for the hub, and not for where its files are
    with Partial(partial, name, meter) as opened:
        if (began := opened.tell()) > (metadata.size or 0):
            opened.truncate(0)
            began = 0
        meter.reach(name, began)
        http_get(metadata.location, opened, resume_size=began, headers=headers, expected_size=metadata.size)
    if began and metadata.etag and _SHA256.fullmatch(metadata.etag) and _digest(partial) != metadata.etag:
        partial.unlink()
        raise OSError(f"the contents of {name} are not what the hub says; try again")


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
