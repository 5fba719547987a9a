"""Reads the folder of a LoRA."""

from pathlib import Path

from service.engine import lora_mlx, lora_peft
from service.engine.lora_folder import LoraError, LoraWeights, read_config

_PICKLED = "adapter_model.bin"


def read(folder: Path) -> LoraWeights:
    """A LoRA in either format, told by its file of weights. Raises LoraError."""
    if not folder.is_dir():
        raise LoraError(f"{folder} is not a folder")
    if (folder / lora_mlx.FILE).exists():
        return lora_mlx.read_mlx(folder, read_config(folder))
    if (folder / lora_peft.FILE).exists():
        return lora_peft.read_peft(folder, read_config(folder))
    if (folder / _PICKLED).exists():
        raise LoraError(f"{_PICKLED} may run a program when it is read; save it as {lora_peft.FILE}")
    raise LoraError(f"{folder} has neither {lora_mlx.FILE} nor {lora_peft.FILE}")
