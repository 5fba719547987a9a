"""What is read of a model folder."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.utils import load_model, load_tokenizer, quantize_model, save_config, save_model
from tokenizers import Tokenizer

from service.engine.frames import Defaults, Loading, Unpacker, events, pack
from service.engine.loader import load
from tests import tiny


def change(file: Path, **settings: Any) -> None:
    """Change settings in a JSON file; None takes one away."""
    content = json.loads(file.read_text()) if file.exists() else {}
    merged = {name: value for name, value in (content | settings).items() if value is not None}
    file.write_text(json.dumps(merged))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.llama(tmp_path / "model")
    return tmp_path / "model"


def test_what_the_files_say_is_told(folder: Path, tmp_path: Path) -> None:
    """Type, sizes, stop token, template, special tokens."""
    _, loaded = load(folder, tmp_path)
    words = tiny.tokenizer()
    weights = sum(
        value.nbytes for value in tiny.parameters(tiny.build(tiny.llama_config(words.get_vocab_size()))).values()
    )
    assert (loaded.model_type, loaded.architectures) == ("llama", ["LlamaForCausalLM"])
    assert (loaded.vocab_size, loaded.context_length, loaded.weights_bytes) == (
        words.get_vocab_size(),
        1 << 15,
        weights,
    )
    assert loaded.stop_ids == [words.token_to_id(tiny.END)]
    assert loaded.chat_template == tiny.CHATML
    assert loaded.special_tokens["eos_token"] == tiny.END
    assert loaded.defaults == Defaults()
    assert loaded.tokenizer_file == str(folder / "tokenizer.json")
    assert loaded.created == (folder / "config.json").stat().st_mtime


def test_stop_tokens_come_from_all_files(folder: Path, tmp_path: Path) -> None:
    """A list in the configuration, and that of generation_config.json, which wins as in mlx-lm."""
    change(folder / "config.json", eos_token_id=[3, 5])
    assert {3, 5} <= set(load(folder, tmp_path)[1].stop_ids)
    change(folder / "generation_config.json", eos_token_id=[7, 9])
    assert {7, 9} <= set(load(folder, tmp_path)[1].stop_ids)


def test_sampling_defaults_come_from_generation_config(folder: Path, tmp_path: Path) -> None:
    """Those that it has; the others stay open."""
    change(folder / "generation_config.json", temperature=0.6, top_k=20, do_sample=True)
    assert load(folder, tmp_path)[1].defaults == Defaults(temperature=0.6, top_k=20)


@pytest.mark.parametrize(
    ("settings", "defaults"),
    [
        ({"temperature": "hot", "top_p": 0.9}, Defaults(top_p=0.9)),
        ({"top_k": 50.0, "temperature": 1}, Defaults(temperature=1.0, top_k=50)),
        ({"temperature": -1, "top_p": 0, "top_k": -1, "repetition_penalty": 0, "min_p": 0.1}, Defaults(min_p=0.1)),
        ({"temperature": 2.5, "top_p": 1.5, "min_p": -1, "repetition_penalty": 3, "top_k": 5}, Defaults(top_k=5)),
        ({"temperature": float("nan"), "top_k": float("inf"), "top_p": [1]}, Defaults()),
        ({"top_k": 10**30}, Defaults()),
    ],
    ids=str,
)
def test_bad_sampling_defaults_are_ignored(
    folder: Path, tmp_path: Path, settings: dict[str, Any], defaults: Defaults
) -> None:
    """The model serves with the others; what is ignored is in the log."""
    change(folder / "generation_config.json", **settings)
    loaded = load(folder, tmp_path)[1].defaults
    assert loaded == defaults
    assert loaded.top_k is None or type(loaded.top_k) is int


@pytest.mark.parametrize("template", [5, True, [{"name": "tools", "template": "x"}]], ids=str)
def test_a_template_that_is_no_text_leaves_the_model_usable(folder: Path, tmp_path: Path, template: object) -> None:
    """What the service gets can go through the pipe."""
    change(folder / "tokenizer_config.json", chat_template=template)
    loaded = load(folder, tmp_path)[1]
    unpacked = [events.decode(body) for body in Unpacker().feed(pack(loaded))]
    assert unpacked == [loaded]


@pytest.mark.parametrize(
    ("config", "settings", "length"),
    [
        ({"max_position_embeddings": 77}, {}, 77),
        ({"max_position_embeddings": -5}, {"model_max_length": 99}, 99),
        ({"max_position_embeddings": None}, {"model_max_length": 99}, 99),
        ({"max_position_embeddings": None}, {"model_max_length": None}, 4096),
        ({"max_position_embeddings": None}, {"model_max_length": 10**30}, 4096),
        ({"max_position_embeddings": None, "text_config": {"max_position_embeddings": 55}}, {}, 55),
    ],
)
def test_the_context_is_found_where_it_is_written(
    folder: Path, tmp_path: Path, config: dict[str, Any], settings: dict[str, Any], length: int
) -> None:
    """In the configuration, nested in it, in the tokenizer's, or nowhere."""
    change(folder / "config.json", **config)
    change(folder / "tokenizer_config.json", **settings)
    assert load(folder, tmp_path)[1].context_length == length


def test_a_template_may_be_a_file_of_its_own(folder: Path, tmp_path: Path) -> None:
    """Or there may be none."""
    change(folder / "tokenizer_config.json", chat_template=None)
    assert load(folder, tmp_path)[1].chat_template is None
    (folder / "chat_template.jinja").write_text("own")
    assert load(folder, tmp_path)[1].chat_template == "own"


def test_a_tokenizer_file_is_made_where_there_is_none(folder: Path, tmp_path: Path) -> None:
    """Out of the older files, in the cache, and it tokenizes as they do."""
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    change(folder / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer", eos_token=None)
    _, loaded = load(folder, tmp_path / "cache")
    made = Path(loaded.tokenizer_file)
    assert made.is_relative_to(tmp_path / "cache")
    assert [file.name for file in made.parent.iterdir()] == [made.name]
    text = "The sky is blue, こんにちは"
    assert Tokenizer.from_file(str(made)).encode(text).ids == words.encode(text).ids


@pytest.mark.skipif(mx.default_device() == mx.gpu, reason="on the GPU weights stay as they are")
def test_weights_are_dense_on_the_cpu(tmp_path: Path) -> None:
    """Quantised and 16-bit ones are slow there, and these fit into memory."""
    tiny.llama(tmp_path / "dense")
    tiny.llama(tmp_path / "quantised", quantised=True)
    (dense, _), (quantised, loaded) = (load(tmp_path / name, tmp_path) for name in ("dense", "quantised"))
    assert {value.dtype for value in tiny.parameters(quantised).values()} == {mx.float32}
    assert tiny.parameters(quantised).keys() == tiny.parameters(dense).keys()
    logits = [model(mx.array([[1, 2, 3]])) for model in (dense, quantised)]
    assert float(mx.abs(logits[0] - logits[1]).mean()) < 0.2 * float(mx.abs(logits[0]).mean())
    assert loaded.weights_bytes == sum(value.nbytes for value in tiny.parameters(dense).values())


@pytest.mark.skipif(mx.default_device() == mx.gpu, reason="on the GPU weights stay as they are")
@pytest.mark.parametrize("mode", ["affine", "mxfp4"])
def test_packed_weights_are_not_rounded_once_more(mode: str, tmp_path: Path) -> None:
    """What 16-bit scales make of them is computed in float32."""
    tiny.llama(tmp_path / "model")
    model, config = load_model(tmp_path / "model")
    model.set_dtype(mx.float16)
    _, packed = quantize_model(model, config, group_size=32, bits=4, mode=mode)
    save_model(tmp_path / "model", model)
    save_config(packed, tmp_path / "model" / "config.json")
    layer = model.layers[0].self_attn.q_proj
    biases = layer.biases.astype(mx.float32) if mode == "affine" else None
    scales = layer.scales.astype(mx.float32) if mode == "affine" else layer.scales
    exact = mx.dequantize(layer.weight, scales, biases, 32, 4, mode).astype(mx.float32)
    made, _ = load(tmp_path / "model", tmp_path)
    assert {value.dtype for value in tiny.parameters(made).values()} == {mx.float32}
    assert mx.array_equal(made.layers[0].self_attn.q_proj.weight, exact)


def test_it_tells_how_far_it_is(folder: Path, tmp_path: Path) -> None:
    """Fractions of the weights from none to all, then the first steps."""
    told: list[Loading] = []
    load(folder, tmp_path, report=told.append)
    *weights, last = told
    fractions = [loading.fraction for loading in weights]
    assert ({loading.stage for loading in weights}, last.stage) == ({"weights"}, "warming")
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert fractions == sorted(set(fractions))
    assert len(fractions) > 3


def test_keys_and_values_get_what_is_left(folder: Path, tmp_path: Path) -> None:
    """Of what is reserved, beside the process with its weights; or what is set, whatever is reserved."""
    reserved = 4 << 30
    _, loaded = load(folder, tmp_path, reserved_bytes=reserved)
    assert loaded.kv_bytes == reserved - loaded.rss_bytes
    assert loaded.rss_bytes > loaded.weights_bytes
    assert load(folder, tmp_path, reserved_bytes=reserved, kv_bytes=12345)[1].kv_bytes == 12345
    assert load(folder, tmp_path, reserved_bytes=1)[1].kv_bytes == 64 << 20


def test_a_program_is_run_only_where_it_may(folder: Path, tmp_path: Path) -> None:
    """A model may bring one; it is refused, with its name, unless it is trusted."""
    (folder / "mine.py").write_text("raise RuntimeError('it runs')")
    change(folder / "config.json", model_file="mine.py")
    with pytest.raises(ValueError, match=r"mine\.py"):
        load(folder, tmp_path)
    with pytest.raises(RuntimeError, match="it runs"):
        load(folder, tmp_path, trust_remote_code=True)


def test_so_is_a_program_of_the_tokenizer(folder: Path, tmp_path: Path) -> None:
    """It comes by another way, through transformers, which would ask on the terminal."""
    (folder / "mine.py").write_text("raise RuntimeError('it runs')")
    change(folder / "tokenizer_config.json", tokenizer_class="Mine", auto_map={"AutoTokenizer": ["mine.Mine", None]})
    with pytest.raises(ValueError, match="trust_remote_code"):
        load(folder, tmp_path)
    with pytest.raises(RuntimeError, match="it runs"):
        load(folder, tmp_path, trust_remote_code=True)


def test_stop_tokens_of_the_kind_are_used_where_a_folder_has_none(folder: Path, tmp_path: Path) -> None:
    """As mlx-lm does, and those of the tokenizer in any case."""
    change(folder / "config.json", eos_token_id=None)
    theirs = load_tokenizer(folder)  # type: ignore[no-untyped-call]
    assert load(folder, tmp_path)[1].stop_ids == sorted(theirs.eos_token_ids)


@pytest.mark.skipif(mx.default_device() == mx.gpu, reason="on the GPU weights stay as they are")
@pytest.mark.parametrize(("bits", "mode"), [(3, "affine"), (4, "affine"), (5, "affine"), (6, "affine"), (4, "mxfp4")])
def test_packed_weights_are_counted_one_by_one(
    bits: int, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any width: what would take more than a quarter of the memory as float32 stays as it is."""
    tiny.llama(tmp_path / "model")
    model, config = load_model(tmp_path / "model")
    count = sum(value.size for value in tiny.parameters(model).values())
    _, packed = quantize_model(model, config, group_size=32, bits=bits, mode=mode)
    save_model(tmp_path / "model", model)
    save_config(packed, tmp_path / "model" / "config.json")
    for installed, stays in ((16 * count - 16, True), (16 * count, False)):
        monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": installed}.__getitem__)
        made, _ = load(tmp_path / "model", tmp_path, kv_bytes=1 << 20)
        assert any(name.endswith(".scales") for name in tiny.parameters(made)) == stays
