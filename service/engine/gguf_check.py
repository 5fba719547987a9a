"""Says of GGUF files whether they can be served, by their headers: `python -m service.engine.gguf_check FILE...`.

One line of JSON for each, a list of its name and of what is wrong with it, empty for nothing.
"""

import json
import sys
from pathlib import Path

from service.engine.gguf_header import GgufError, Header
from service.engine.gguf_llama import check
from service.engine.gguf_tokenizer import Vocabulary


def fault(file: Path) -> str:
    """What keeps a file from being served, a phrase with the file as its subject; empty for nothing."""
    try:
        header = Header.read(file)
        check(header)
        if not (vocabulary := Vocabulary.of(header.metadata)).is_sentencepiece:
            _ = vocabulary.splitting
    except GgufError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except Exception as error:  # noqa: BLE001 - a file from elsewhere can be broken in any way
        return f"is broken: {' '.join(f'{type(error).__name__}: {error}'.split())}"
    return ""


def main() -> None:
    """Check what the command line names."""
    for name in sys.argv[1:]:
        sys.stdout.write(f"{json.dumps([name, fault(Path(name))])}\n")


if __name__ == "__main__":
    main()
