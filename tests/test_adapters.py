"""Names of modules in a recipe's lora section and in a stored adapter, in the spelling of either transformers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_networks import small_depth_anything, small_glpn
from test_models import built

from sonde.adapters import add_lora, load_adapter

NEW = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value"}
LORA = {
    "r": 2,
    "target_modules": ["q_proj", "v_proj"],
    "rank_pattern": {"q_proj": 4, r"layer\.1\.attention\.v_proj": 3},
    "alpha_pattern": {"attention.q_proj": 32},
    "exclude_modules": ["layer.0.attention.v_proj"],
    "modules_to_save": ["layer.3.attention.k_proj"],
    "layers_to_transform": [0, 1, 2],
}


def older(text: str) -> str:
    """Names as transformers 4 spells them."""
    for new, old in NEW.items():
        text = text.replace(f"attention.{new}", f"attention.{old}").replace(
            f"attention\\\\.{new}", f"attention\\\\.{old}"
        )
    return text.replace('"q_proj"', '"query"').replace('"v_proj"', '"value"')


def adapted(lora):
    torch.manual_seed(0)
    network = add_lora(built(small_depth_anything()), lora)
    for name, parameter in network.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter)
    return network.eval()


def ranks(network) -> dict[str, int]:
    state = network.state_dict()
    return {key.split("layer.")[1]: len(value) for key, value in state.items() if "lora_A" in key}


def test_a_recipe_spells_every_key_either_way():
    new, old = adapted(LORA), adapted(json.loads(older(json.dumps(LORA))))
    assert ranks(new) == ranks(old) and set(ranks(new).values()) == {2, 3, 4}
    image = torch.rand(1, 3, 56, 56)
    assert torch.equal(new(pixel_values=image).predicted_depth, old(pixel_values=image).predicted_depth)


def test_an_adapter_of_either_spelling_comes_back_as_it_was_saved(tmp_path):
    image = torch.rand(1, 3, 56, 56)
    network = adapted(LORA)
    expected = network(pixel_values=image).predicted_depth
    network.save_pretrained(tmp_path, save_embedding_layers=False)
    for _ in range(2):
        again = load_adapter(built(small_depth_anything()), tmp_path).eval()
        assert torch.equal(again(pixel_values=image).predicted_depth, expected)
        state = load_file(tmp_path / "adapter_model.safetensors")
        save_file({older(key): value for key, value in state.items()}, tmp_path / "adapter_model.safetensors")
        config = tmp_path / "adapter_config.json"
        config.write_text(older(config.read_text()))
    assert '"query"' in config.read_text()


@pytest.mark.parametrize(
    "lora,words",
    [
        ({"rank_pattern": {"nothing": 4}}, r"lora\.rank_pattern names no layer 'nothing'"),
        ({"exclude_modules": ["nothing"]}, r"lora\.exclude_modules names no module"),
        ({"modules_to_save": ["nothing"]}, r"lora\.modules_to_save names no module"),
        ({"target_modules": "(a+)+b"}, "repeats too much"),
        ({"rank_pattern": {"query": 2, "q_proj": 3}}, "twice, in two spellings"),
        ({"r": 10**9}, r"lora\.r: "),
        ({"lora_alpha": "much"}, r"lora\.lora_alpha: "),
    ],
)
def test_a_setting_that_fits_nothing_is_refused(lora, words):
    with pytest.raises(ValueError, match=words):
        add_lora(built(small_depth_anything()), lora)


def stored(folder: Path, **fields: object) -> Path:
    add_lora(built(small_glpn()), {"r": 2}).save_pretrained(str(folder), save_embedding_layers=False)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


@pytest.mark.parametrize(
    "fields,words",
    [
        ({"r": 4096}, "of another shape is"),
        ({"r": 10**9}, "`r`"),
        ({"peft_type": "MAGIC"}, "peft_type"),
        ({"layer_replication": [[0, 10**9]]}, "layer_replication"),
        ({"target_modules": ["query"]}, "it holds the foreign"),
        ({"target_modules": "(.+)+(.+)+x$"}, "repeats too much"),
        ({"rank_pattern": []}, "rank_pattern"),
    ],
)
def test_a_stored_adapter_that_cannot_be_is_refused_before_it_takes_memory(fields, words, tmp_path):
    with pytest.raises(ValueError, match=words) as caught:
        load_adapter(built(small_glpn()), stored(tmp_path, **fields))
    assert str(tmp_path) in str(caught.value)


def test_an_adapter_that_is_not_finite_is_refused(tmp_path):
    path = stored(tmp_path) / "adapter_model.safetensors"
    state = load_file(path)
    name = next(iter(state))
    save_file(state | {name: torch.full_like(state[name], torch.nan)}, path)
    with pytest.raises(ValueError, match="not finite"):
        load_adapter(built(small_glpn()), tmp_path)
