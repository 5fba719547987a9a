"""Model folders for tests, real ones that take milliseconds to run: `python -m tests.tiny KIND FOLDER` writes one.

Tests that need a folder run this as a script, so that MLX stays out of the process of the tests.
"""

import argparse
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import optimizers
from mlx.nn.layers.base import Module
from mlx.nn.layers.quantized import quantize
from mlx.nn.losses import cross_entropy
from mlx.nn.utils import value_and_grad
from mlx.utils import tree_flatten
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

Config = dict[str, Any]

END = "<|im_end|>"
TEXT_END = "<|endoftext|>"
SPECIAL = (TEXT_END, "<|im_start|>", END)
MARKERS = ("<think>", "</think>")
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LINES = (
    "The sky is blue because the air scatters blue light more than red light.",
    "What is it that a person would ask of a model? What the answer is, and why.",
    "One, two, three, four, five: the numbers go on. system user assistant",
    "def f(x):\n    return x + 1\n\nprint(f(41))",
)
DIALOGUES = {
    "Why is the sky blue?": "<think>\nShort waves scatter the most.\n</think>\n\nBecause the air scatters blue light.",
    "What is two and two?": "Four.",
    "Count to five.": "1, 2, 3, 4, 5.",
    "Say hello in Japanese.": "こんにちは 👋🏽!",
}
"""What the talker says, word for word, when it decodes greedily."""

_LARGE = 1 << 15
_FINAL_NORM = {"mamba": "backbone.norm_f.weight"}
"""The last norm before the output head, where it is not the usual one."""


def tokenizer(vocab_size: int = 384, special: Sequence[str] = (*SPECIAL, *MARKERS)) -> Tokenizer:
    """Train a byte-level BPE tokenizer, of any size that LINES give; the added tokens come last."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = vocab_size - len(special)
    made.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    made.add_special_tokens([AddedToken(text, normalized=False) for text in special if text not in MARKERS])
    made.add_tokens([AddedToken(text, normalized=False) for text in special if text in MARKERS])
    return made


def llama_config(vocab_size: int, **changes: Any) -> Config:
    """Return the configuration of a llama of two layers, 64 wide."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": vocab_size,
        "max_position_embeddings": _LARGE,
        "tie_word_embeddings": False,
    } | changes


def sliding_config(vocab_size: int, window: int = 16) -> Config:
    """Return the configuration of a llama whose first layer sees only the last `window` tokens."""
    return llama_config(vocab_size, layer_types=["sliding_attention", "full_attention"], sliding_window=window)


def gemma_config(vocab_size: int, window: int = 16) -> Config:
    """Return the configuration of a Gemma 3, whose every second layer sees only the last `window` tokens."""
    return llama_config(
        vocab_size,
        architectures=["Gemma3ForCausalLM"],
        model_type="gemma3_text",
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=window,
        sliding_window_pattern=2,
    )


def mamba_config(vocab_size: int) -> Config:
    """Return the configuration of a Mamba, which keeps a state instead of keys and values."""
    return {
        "architectures": ["MambaForCausalLM"],
        "model_type": "mamba",
        "hidden_size": 64,
        "intermediate_size": 128,
        "state_size": 8,
        "num_hidden_layers": 2,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_rank": 4,
        "tie_word_embeddings": False,
        "vocab_size": vocab_size,
        "max_position_embeddings": _LARGE,
    }


def build(config: Config, *, seed: int = 0, scale: float = 8.0) -> Module:
    """Make a model of random weights. `scale` sharpens its distribution, so that rounding decides nothing."""
    mx.random.seed(seed)
    library = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    model: Module = library.Model(library.ModelArgs.from_dict(config))
    sharp = _FINAL_NORM.get(config["model_type"], "model.norm.weight")
    model.load_weights([(sharp, parameters(model)[sharp] * scale)], strict=False)
    mx.eval(parameters(model))
    return model


def parameters(model: Module) -> dict[str, mx.array]:
    """Return the weights by their names."""
    return dict(tree_flatten(model.parameters()))  # type: ignore[no-untyped-call]


def save(
    folder: Path,
    model: Module,
    config: Config,
    words: Tokenizer,
    *,
    template: str | None = CHATML,
    generation: Config | None = None,
) -> None:
    """Write a model folder as mlx-lm does. `generation` is its generation_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    end = next((number for text in (END, TEXT_END) if (number := words.token_to_id(text)) is not None), None)
    mx.save_safetensors(str(folder / "model.safetensors"), parameters(model), metadata={"format": "mlx"})
    words.save(str(folder / "tokenizer.json"))
    settings: Config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": _LARGE}
    settings |= {"clean_up_tokenization_spaces": False}
    if end is not None:
        settings["eos_token"] = words.id_to_token(end)
    if template is not None:
        settings["chat_template"] = template
    write_json(folder / "tokenizer_config.json", settings)
    write_json(folder / "config.json", {"eos_token_id": end} | config)
    if generation is not None:
        write_json(folder / "generation_config.json", generation)


def llama(folder: Path, *, seed: int = 0, scale: float = 8.0, quantised: bool = False, **changes: Any) -> None:
    """Write a random llama, with `changes` to its configuration."""
    words = tokenizer()
    config = llama_config(words.get_vocab_size(), **changes)
    model = build(config, seed=seed, scale=scale)
    if quantised:
        quantize(model, group_size=32, bits=4)
        config["quantization"] = {"group_size": 32, "bits": 4}
    save(folder, model, config, words)


def bare(folder: Path) -> None:
    """Write a random Mamba that has no chat template and belongs to no family that has one."""
    words = tokenizer(special=(TEXT_END,))
    config = mamba_config(words.get_vocab_size())
    save(folder, build(config), config, words, template=None)


def gemma(folder: Path) -> None:
    """Write a random Gemma with a window that prompts outgrow."""
    words = tokenizer()
    config = gemma_config(words.get_vocab_size())
    save(folder, build(config), config, words)


def talker(folder: Path) -> None:
    """Write a llama that has learned DIALOGUES by heart."""
    overfit(folder, DIALOGUES)


def overfit(folder: Path, dialogues: dict[str, str], *, seed: int = 0) -> None:
    """Write a llama that answers each user's message with its answer, word for word, when it decodes greedily."""
    words = tokenizer()
    config = llama_config(words.get_vocab_size())
    model = build(config, seed=seed, scale=1.0)
    pairs = [_encoded(words, question, answer) for question, answer in dialogues.items()]
    _train(model, pairs)
    for (prompt, answer), question in zip(pairs, dialogues, strict=True):
        if _greedy(model, prompt, len(answer)) != answer:
            raise RuntimeError(f"the model has not learned to answer {question!r}")
    save(folder, model, config, words)


def _encoded(words: Tokenizer, question: str, answer: str) -> tuple[list[int], list[int]]:
    """Return the token ids of the ChatML prompt and of the answer with its end of turn."""
    prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    return words.encode(prompt).ids, words.encode(answer + END).ids


def _train(model: Module, pairs: Sequence[tuple[list[int], list[int]]]) -> None:
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
    rows = mx.array([[*prompt, *answer] + [0] * (longest - len(prompt) - len(answer)) for prompt, answer in pairs])
    learned = mx.array(
        [
            [float(len(prompt) <= place < len(prompt) + len(answer)) for place in range(1, longest)]
            for prompt, answer in pairs
        ]
    )

    def loss_of(model: Module) -> mx.array:
        losses = cross_entropy(model(rows[:, :-1]), rows[:, 1:])
        return (losses * learned).sum() / learned.sum()

    step = value_and_grad(model, loss_of)
    optimizer = optimizers.Adam(learning_rate=3e-3)
    for _ in range(1000):
        loss, gradients = step(model)
        optimizer.update(model, gradients)
        mx.eval(parameters(model), optimizer.state)
        if loss.item() < 2e-3:
            return
    raise RuntimeError("the model does not learn")


def _greedy(model: Module, prompt: list[int], count: int) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(mx.argmax(model(mx.array([ids]))[0, -1])))
    return ids[len(prompt) :]


def write_json(path: Path, content: Config) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


KINDS: dict[str, Callable[[Path], None]] = {"llama": llama, "bare": bare, "gemma": gemma, "talker": talker}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    KINDS[options.kind](options.folder)
