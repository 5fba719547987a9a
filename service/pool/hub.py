"""Fetches a model of the Hugging Face hub into the hub's own cache: `python -m service.pool.hub REPO [REVISION]`.

A process of its own, because a fetch can take hours and a thread cannot be stopped. It prints the folder, or what
went wrong; progress bars are on standard error.
"""

import sys

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

_WANTED = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.tiktoken", "*.txt"]
"""The files of a repository that serving needs."""


def main() -> int:
    """Fetch what the command line names; the exit code."""
    repo, *revision = sys.argv[1:]
    try:
        said = snapshot_download(repo, revision=revision[0] if revision else None, allow_patterns=_WANTED)
    except RepositoryNotFoundError:
        said = "ERROR: there is no such repository that you can read"
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        said = f"ERROR: {' '.join(str(error).split())}"
    sys.stdout.write(f"{said}\n")
    return int(said.startswith("ERROR: "))


if __name__ == "__main__":
    sys.exit(main())
