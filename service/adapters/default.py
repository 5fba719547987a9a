"""Any other model: what its tokenizer and generation_config say, and tokens that mean nothing else."""

from service.adapters.base import ModelAdapter

DEFAULT = ModelAdapter(
    name="default",
    end_of_turn=("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_turn|>", "<end_of_turn>"),
)
