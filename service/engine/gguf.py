"""Turns a llama GGUF file into an MLX model folder: `python -m service.engine.gguf SOURCE TARGET`.

MLX reads Q4_0, Q4_1 and Q8_0 blocks straight into its own layouts with groups of 32, so that the weights are only
renamed, and put into the order that Hugging Face's llama has them in: GGUFs hold the rows of q and k permuted for
interleaved rotary embedding, which a LoRA made for the model does not expect.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx

from service.engine.gguf_header import GgufError, Header
from service.engine.gguf_llama import ATTENTION, FEED_FORWARD, FREQUENCIES, check, config, has_bias, renamed
from service.engine.gguf_tokenizer import Vocabulary

Weights = dict[str, mx.array]

_LARGEST_FLOAT16 = 65504.0
_PERMUTED = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
"""Layers whose rows are out of order, and the setting that says how many heads they have."""


def convert(source: Path, target: Path, *, temperature: float | None = None, top_p: float | None = None) -> None:
    """Write `source` as a model folder to `target`, with these sampling defaults.

    Raises GgufError for a file that is not a llama in a supported form.
    """
    header = Header.read(source)
    check(header)
    vocabulary = Vocabulary.of(header.metadata)
    tokenizer = vocabulary.tokenizer()
    loaded: Any = mx.load(str(source))
    weights: Weights = dict(loaded)
    frequencies: Any = weights.pop(FREQUENCIES).tolist() if FREQUENCIES in weights else None
    settings = config(header, frequencies) | {
        "bos_token_id": vocabulary.special("bos"),
        "eos_token_id": vocabulary.stop_ids,
    }
    target.mkdir(parents=True, exist_ok=True)
    ordered = {renamed(name): value for name, value in weights.items()}
    del weights, loaded
    ordered = _rounded(_with_all_biases(_ordered(ordered, settings), header, settings))
    mx.save_safetensors(str(target / "model.safetensors"), ordered, metadata={"format": "mlx"})
    tokenizer.save(str(target / "tokenizer.json"))
    _write_json(target / "config.json", settings)
    _write_json(
        target / "tokenizer_config.json",
        vocabulary.settings() | {"model_max_length": settings["max_position_embeddings"]},
    )
    sampling = {"temperature": temperature, "top_p": top_p}
    generation = {"eos_token_id": vocabulary.stop_ids}
    _write_json(target / "generation_config.json", generation | {k: v for k, v in sampling.items() if v is not None})


def _ordered(weights: Weights, settings: dict[str, Any]) -> Weights:
    """Put the rows of q and k, of packed weights and their scales too, into the order of halves and not of pairs."""
    for name, value in weights.items():
        if heads := _PERMUTED.get(name.split(".")[-2]):
            pairs = value.reshape(settings[heads], -1, 2, *value.shape[1:])
            weights[name] = pairs.swapaxes(1, 2).reshape(value.shape)
    return weights


def _with_all_biases(weights: Weights, header: Header, settings: dict[str, Any]) -> Weights:
    """MLX's llama has a bias in all projections or in none; those that are missing add nothing."""
    for modules in (ATTENTION, FEED_FORWARD):
        if has_bias(header, modules):
            for layer in range(settings["num_hidden_layers"]):
                for module in modules:
                    name = renamed(f"blk.{layer}.{module}.bias")
                    rows = header.tensors[f"blk.{layer}.{module}.weight"].shape[0]
                    weights.setdefault(name, mx.zeros(rows, mx.float16))
    return weights


def _rounded(weights: Weights) -> Weights:
    """Norms and biases as float16 beside weights that are not float32, or all would be computed in float32."""
    if any(value.ndim > 1 and value.dtype == mx.float32 for value in weights.values()):
        return weights
    return {
        name: value.astype(mx.float16) if value.dtype == mx.float32 and _fits(value) else value
        for name, value in weights.items()
    }


def _fits(value: mx.array) -> bool:
    return float(mx.abs(value).max()) <= _LARGEST_FLOAT16


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    """Convert as the command line says; the exit code. What is wrong with the file is said on standard error."""
    parser = argparse.ArgumentParser(prog="service.engine.gguf", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--temperature", type=float, help="the model's sampling default")
    parser.add_argument("--top-p", type=float, help="the model's sampling default")
    options = parser.parse_args()
    try:
        convert(options.source, options.target, temperature=options.temperature, top_p=options.top_p)
    except GgufError as error:
        sys.stderr.write(f"ERROR: it {error}\n")
    except OSError as error:
        sys.stderr.write(f"ERROR: {error.strerror or error}\n")
    except Exception as error:  # noqa: BLE001 - a file from elsewhere can be broken in any way
        sys.stderr.write(f"ERROR: {' '.join(f'{type(error).__name__}: {error}'.split())}\n")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
