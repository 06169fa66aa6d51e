"""The settings of LoRA that sonde checks, in a recipe and in the `adapter_config.json` of a folder."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LARGEST_RANK = 1 << 12
"""A layer cannot use a rank above its own width."""
MOST_REPEATS = 3
"""`*`, `+`, `?` and `{` in a pattern of names."""
LONGEST_PATTERN = 200

Rank = Annotated[int, Field(ge=1, le=LARGEST_RANK)]
Names = list[str] | str


class LoraSettings(BaseModel):
    """Keys of `peft.LoraConfig`; others are PEFT's to check."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    r: Rank = 8
    lora_alpha: float = 8
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    bias: Literal["none", "all", "lora_only"] = "none"
    fan_in_fan_out: bool = False
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    init_lora_weights: bool | str | None = True
    task_type: str | None = None
    target_modules: Names | None = None
    exclude_modules: Names | None = None
    modules_to_save: list[str] | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: Names | None = None
    rank_pattern: dict[str, Rank] | None = None
    alpha_pattern: dict[str, float] | None = None


class StoredLora(LoraSettings):
    """The `adapter_config.json` of a folder."""

    peft_type: Literal["LORA"]
    layer_replication: None = None
    megatron_config: None = None
    trainable_token_indices: None = None
    target_parameters: None = None


def check_pattern(pattern: str) -> None:
    """Refuse a pattern of names that may take for ever to match: one with repeats inside of repeats, or many of them.

    Raises:
        ValueError: such a pattern, or one that is none.
    """
    inside = re.search(r"\)[*+?{]|\\[1-9]|\(\?(?!:)", pattern)
    if inside or len(pattern) > LONGEST_PATTERN or len(re.findall(r"(?<!\\)[*+?{]", pattern)) > MOST_REPEATS:
        raise ValueError(f"the pattern {pattern[:60]!r} repeats too much: name the modules instead")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern[:60]!r} is no pattern of names ({error})") from None
