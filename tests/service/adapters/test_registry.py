"""Tests of the table of families."""

import importlib
import pkgutil

import pytest

from service.adapters.base import ModelAdapter
from service.adapters.chatml import CHATML
from service.adapters.cohere import COHERE
from service.adapters.deepseek import DEEPSEEK, DEEPSEEK2, DEEPSEEK_R1
from service.adapters.default import DEFAULT
from service.adapters.gemma import GEMMA, GEMMA4
from service.adapters.gpt_oss import GPT_OSS
from service.adapters.granite import GRANITE
from service.adapters.kimi import KIMI_K3
from service.adapters.llama import LLAMA2, LLAMA3, LLAMA4
from service.adapters.mistral import MISTRAL
from service.adapters.phi import PHI3, PHI4
from service.adapters.registry import MODEL_TYPES, get_adapter
from tests.service.adapters.families import published
from tests.service.text.tokenizers import byte_level


@pytest.mark.parametrize(
    ("model_type", "adapter"),
    [
        ("llama", LLAMA2),
        ("qwen2", CHATML),
        ("qwen3", CHATML),
        ("qwen3_moe", CHATML),
        ("smollm3", CHATML),
        ("mistral", MISTRAL),
        ("mixtral", MISTRAL),
        ("ministral3", MISTRAL),
        ("gemma", GEMMA),
        ("gemma2", GEMMA),
        ("gemma3_text", GEMMA),
        ("gemma3n", GEMMA),
        ("gemma4", GEMMA4),
        ("phi3", PHI3),
        ("deepseek_v2", DEEPSEEK2),
        ("deepseek_v3", DEEPSEEK),
        ("gpt_oss", GPT_OSS),
        ("granitemoehybrid", GRANITE),
        ("llama4", LLAMA4),
        ("kimi_k3", KIMI_K3),
        ("cohere2", COHERE),
        ("mamba", DEFAULT),
        ("", DEFAULT),
    ],
)
def test_a_model_type_has_its_family(model_type: str, adapter: ModelAdapter) -> None:
    """Where nothing else is known the model type decides."""
    assert get_adapter(model_type) is adapter


@pytest.mark.parametrize(
    ("architecture", "adapter"),
    [("GptOssForCausalLM", GPT_OSS), ("Qwen2ForCausalLM", CHATML), ("Gemma2ForCausalLM", GEMMA), ("Odd", DEFAULT)],
)
def test_an_architecture_stands_in_for_an_unknown_type(architecture: str, adapter: ModelAdapter) -> None:
    """A type that is not in the table is looked up by its architecture."""
    assert get_adapter("new", ["Other", architecture]) is adapter


def test_the_type_comes_before_the_architecture_and_the_name() -> None:
    """A type that one family uses is not overruled."""
    assert get_adapter("gemma2", ["GptOssForCausalLM"], "llama-3") is GEMMA
    assert get_adapter("gemma2", vocabulary={"<|im_start|>"}) is GEMMA


@pytest.mark.parametrize(
    ("model_type", "name", "adapter"),
    [
        ("llama", "HuggingFaceTB/SmolLM2-135M-Instruct", CHATML),
        ("llama", "smollm2-135m-instruct", CHATML),
        ("llama", "mlx-community/Llama-3.2-1B-Instruct-4bit", LLAMA3),
        ("llama", "Meta-Llama-3-8B", LLAMA3),
        ("llama", "Llama-2-7b-chat", LLAMA2),
        ("", "Llama-4-Scout-17B-16E-Instruct", LLAMA4),
        ("llama", "models/DeepSeek_R1 Distill-Llama-8B", DEEPSEEK_R1),
        ("qwen2", "DeepSeek-R1-Distill-Qwen-1.5B-4bit", DEEPSEEK_R1),
        ("deepseek_v3", "DeepSeek-R1-0528", DEEPSEEK_R1),
        ("deepseek_v3", "DeepSeek-V3.1", DEEPSEEK),
        ("llama", "Mistral-7B-Instruct", MISTRAL),
        ("mistral", "Hermes-2-Pro-Mistral-7B", MISTRAL),
        ("phi3", "phi-4", PHI4),
        ("phi3", "Phi-4-mini-instruct", PHI3),
        ("", "ministral-8b", MISTRAL),
    ],
)
def test_a_name_decides_where_many_share_a_type(model_type: str, name: str, adapter: ModelAdapter) -> None:
    """Models built on another's architecture are told by their names."""
    assert get_adapter(model_type, (), name) is adapter


@pytest.mark.parametrize(
    ("token", "adapter"),
    [
        ("<|im_start|>", CHATML),
        ("<|start_header_id|>", LLAMA3),
        ("<|im_sep|>", PHI4),
        ("[INST]", MISTRAL),
        ("<|start_of_role|>", GRANITE),
        ("<start_of_turn>", GEMMA),
        ("<|end|>", PHI3),
        ("<|header_start|>", LLAMA4),
        ("<|end_of_msg|>", KIMI_K3),
        ("<|START_OF_TURN_TOKEN|>", COHERE),
    ],
)
def test_the_vocabulary_and_the_template_decide_before_the_name(token: str, adapter: ModelAdapter) -> None:
    """Turn tokens, which a model has, tell more than its name; those that its template writes tell most."""
    assert get_adapter("llama", (), "qwen", vocabulary={token}) is adapter
    assert get_adapter("", (), "qwen", vocabulary={"<|start_header_id|>"}, template=f"{{{{ '{token}' }}}}") is adapter


def test_a_tokenizer_is_a_vocabulary() -> None:
    """The service's tokenizer can be given as it is."""
    assert get_adapter("llama", vocabulary=byte_level()) is CHATML


@pytest.mark.parametrize(
    ("template", "adapter"),
    [
        ("qwen3", CHATML),
        ("qwq", CHATML),
        ("r1-distill", DEEPSEEK),
        ("deepseek-v3.1", DEEPSEEK),
        ("gemma-4", GEMMA4),
        ("gpt-oss", GPT_OSS),
        ("granite-3.3", GRANITE),
        ("ministral-3-reasoning", MISTRAL),
        ("mistral-7b-v0.2", MISTRAL),
        ("mistral-nemo", MISTRAL),
        ("phi-3.5", PHI3),
        ("phi-4", PHI4),
        ("smollm3", CHATML),
    ],
)
def test_a_published_template_tells_its_family(template: str, adapter: ModelAdapter) -> None:
    """A model of a type that is not known is told by its template."""
    assert get_adapter("unheard_of", template=published(template)) is adapter


def test_the_types_in_the_table_are_those_of_mlx_lm() -> None:
    """Every type is one that mlx-lm can load or that a text part of a larger model has."""
    models = {module.name for module in pkgutil.iter_modules(importlib.import_module("mlx_lm.models").__path__)}
    assert set(MODEL_TYPES) - models <= {"gemma3n_text", "phi4mm"}
