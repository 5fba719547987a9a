"""Which adapter a model gets: explicit tables, asked in order."""

from collections.abc import Container, Sequence

from service.adapters.base import ModelAdapter
from service.adapters.chatml import CHATML
from service.adapters.cohere import COHERE, START_OF_TURN
from service.adapters.deepseek import ASSISTANT, DEEPSEEK, DEEPSEEK2, DEEPSEEK_R1
from service.adapters.default import DEFAULT
from service.adapters.gemma import GEMMA, GEMMA4
from service.adapters.gpt_oss import GPT_OSS
from service.adapters.granite import GRANITE
from service.adapters.kimi import KIMI_K3
from service.adapters.llama import LLAMA2, LLAMA3, LLAMA4
from service.adapters.mistral import MISTRAL
from service.adapters.phi import PHI3, PHI4

MODEL_TYPES = {
    "cohere": COHERE,
    "cohere2": COHERE,
    "deepseek": DEEPSEEK2,
    "deepseek_v2": DEEPSEEK2,
    "deepseek_v3": DEEPSEEK,
    "deepseek_v32": DEEPSEEK,
    "gemma": GEMMA,
    "gemma2": GEMMA,
    "gemma3": GEMMA,
    "gemma3_text": GEMMA,
    "gemma3n": GEMMA,
    "gemma3n_text": GEMMA,
    "gemma4": GEMMA4,
    "gemma4_text": GEMMA4,
    "gpt_oss": GPT_OSS,
    "granite": GRANITE,
    "granitemoe": GRANITE,
    "granitemoehybrid": GRANITE,
    "kimi_k3": KIMI_K3,
    "llama4": LLAMA4,
    "llama4_text": LLAMA4,
    "phi3small": PHI3,
    "phimoe": PHI3,
    "phi4mm": PHI3,
    "qwen2_moe": CHATML,
    "qwen3": CHATML,
    "qwen3_moe": CHATML,
    "qwen3_next": CHATML,
    "qwen3_5": CHATML,
    "qwen3_5_moe": CHATML,
    "smollm3": CHATML,
}
"""Types that one family uses."""

SHARED_TYPES = {
    "llama": LLAMA2,
    "ministral3": MISTRAL,
    "mistral": MISTRAL,
    "mistral3": MISTRAL,
    "mixtral": MISTRAL,
    "phi3": PHI3,
    "qwen2": CHATML,
}
"""Types that others build on: these families have them if nothing says otherwise."""

ARCHITECTURES = {
    "Cohere2ForCausalLM": "cohere2",
    "CohereForCausalLM": "cohere",
    "DeepseekV2ForCausalLM": "deepseek_v2",
    "DeepseekV3ForCausalLM": "deepseek_v3",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3",
    "Gemma3ForConditionalGeneration": "gemma3",
    "Gemma4ForConditionalGeneration": "gemma4",
    "GemmaForCausalLM": "gemma",
    "GptOssForCausalLM": "gpt_oss",
    "GraniteForCausalLM": "granite",
    "GraniteMoeForCausalLM": "granitemoe",
    "GraniteMoeHybridForCausalLM": "granitemoehybrid",
    "Llama4ForCausalLM": "llama4_text",
    "Llama4ForConditionalGeneration": "llama4",
    "LlamaForCausalLM": "llama",
    "Mistral3ForConditionalGeneration": "mistral3",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mixtral",
    "Phi3ForCausalLM": "phi3",
    "PhiMoEForCausalLM": "phimoe",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen2MoeForCausalLM": "qwen2_moe",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3_moe",
    "SmolLM3ForCausalLM": "smollm3",
}
"""The model type that an architecture stands for."""

TURN_TOKENS = (
    (ASSISTANT, DEEPSEEK),
    ("<|start_header_id|>", LLAMA3),
    ("<|header_start|>", LLAMA4),
    (START_OF_TURN, COHERE),
    ("<|end_of_msg|>", KIMI_K3),
    ("<|start_of_role|>", GRANITE),
    ("<start_of_turn>", GEMMA),
    ("<|turn>", GEMMA4),
    ("<|channel|>", GPT_OSS),
    ("<|im_sep|>", PHI4),
    ("<|im_start|>", CHATML),
    ("<<SYS>>", LLAMA2),
    ("[INST]", MISTRAL),
    ("<|end|>", PHI3),
)
"""What a family begins its turns with, which a model's template or vocabulary tells. The telling ones first."""

NAMES = (
    (("deepseek", "r1"), DEEPSEEK_R1),
    (("deepseek",), DEEPSEEK),
    (("gpt-oss",), GPT_OSS),
    (("kimi-k3",), KIMI_K3),
    (("magistral",), MISTRAL),
    (("mistral",), MISTRAL),
    (("ministral",), MISTRAL),
    (("mixtral",), MISTRAL),
    (("codestral",), MISTRAL),
    (("devstral",), MISTRAL),
    (("smollm",), CHATML),
    (("qwen",), CHATML),
    (("hermes",), CHATML),
    (("gemma-4",), GEMMA4),
    (("gemma",), GEMMA),
    (("granite",), GRANITE),
    (("phi-4-mini",), PHI3),
    (("phi-4",), PHI4),
    (("phi-3",), PHI3),
    (("llama-2",), LLAMA2),
    (("llama-4",), LLAMA4),
    (("llama-3",), LLAMA3),
    (("llama3",), LLAMA3),
)
"""Words that a name has, all of them, in lower case and with hyphens. The first match counts."""


def get_adapter(
    model_type: str,
    architectures: Sequence[str] = (),
    name: str = "",
    *,
    vocabulary: Container[str] = frozenset(),
    template: str | None = None,
) -> ModelAdapter:
    """Return the adapter of a model, by what its config says, or where many share that, by what else is known.

    `name` is its alias, path or repository; `vocabulary` tells whether it has a token, such as its
    Tokenizer does; `template` is the source of its own chat template.
    """
    types = [model_type, *(ARCHITECTURES.get(architecture, "") for architecture in architectures)]
    known = next((kind for kind in types if kind in MODEL_TYPES or kind in SHARED_TYPES), "")
    adapter = MODEL_TYPES.get(known) or _by_turn_tokens(template, vocabulary) or _by_name(name)
    adapter = adapter or SHARED_TYPES.get(known, DEFAULT)
    return DEEPSEEK_R1 if adapter is DEEPSEEK and _is_r1(name) else adapter


def _by_turn_tokens(template: str | None, vocabulary: Container[str]) -> ModelAdapter | None:
    if template is not None:
        for token, adapter in TURN_TOKENS:
            if token in template:
                return adapter
    return next((adapter for token, adapter in TURN_TOKENS if token in vocabulary), None)


def _by_name(name: str) -> ModelAdapter | None:
    words = _spelled(name)
    return next((adapter for parts, adapter in NAMES if all(part in words for part in parts)), None)


def _is_r1(name: str) -> bool:
    return "-r1" in _spelled(name)


def _spelled(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")
