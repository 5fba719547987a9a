"""`python -m tests.bench.write_tiny TOKENIZER_FILE FOLDER` writes the tiny model with that tokenizer."""

import sys
from pathlib import Path

from tokenizers import Tokenizer

from tests.tiny import build, llama_config, save


def main() -> None:
    """Write the folder."""
    tokenizer_file, folder = sys.argv[1:]
    words = Tokenizer.from_file(tokenizer_file)
    config = llama_config(words.get_vocab_size())
    save(Path(folder), build(config), config, words)


if __name__ == "__main__":
    main()
