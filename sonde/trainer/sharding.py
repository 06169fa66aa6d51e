"""Weights, gradients and optimizer state cut across processes by PyTorch's `fully_shard`, on GPUs and on CPUs alike.

transformers' own `fsdp: full_shard` is ignored on a CPU, where every process silently keeps the whole network; so the
trainer shards by itself, and asserts that it did. Checkpoints hold whole tensors, as without sharding.
"""

import logging
from dataclasses import replace
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

log = logging.getLogger("sonde")

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
SPREAD = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)


def shard(network: nn.Module) -> None:
    """Cut every repeated block, then what is left, across the processes; in place.

    Raises:
        RuntimeError: a process still holds a whole tensor.
    """
    kind = next(network.parameters()).device.type
    mesh = init_device_mesh(kind, (dist.get_world_size(),))
    for blocks in reversed([module for module in network.modules() if isinstance(module, nn.ModuleList)]):
        for block in blocks:
            if not isinstance(block, nn.ModuleList) and any(True for _ in block.parameters()):
                fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    held, total = held_share(network)
    if held > total // dist.get_world_size() + total // 10:
        raise RuntimeError(f"This process holds {held} of {total} weights after sharding: expected about its share.")
    log.info("sharded: this process holds %d of %d weights", held, total)


def held_share(network: nn.Module) -> tuple[int, int]:
    """(weights this process holds, weights there are)."""
    parameters = list(network.parameters())
    return sum(local(value.detach()).numel() for value in parameters), sum(value.numel() for value in parameters)


def local(value: Tensor, like: Tensor | None = None) -> Tensor:
    """What this process holds of a tensor; with `like`, what it would hold of it, were it cut as that one is."""
    if isinstance(like, DTensor) and not isinstance(value, DTensor):
        value = distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: Tensor) -> Tensor:
    """The tensor of all processes' parts; every process must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def whole_weights(network: nn.Module) -> dict[str, Any]:
    """The state of the whole network, on the main process; empty on the others."""
    return get_model_state_dict(network, options=WHOLE)


def whole_optimizer(network: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """The state of the whole optimizer, on the main process; empty on the others."""
    return get_optimizer_state_dict(network, optimizer, options=WHOLE)


def spread_weights(network: nn.Module, state: dict[str, Any]) -> None:
    """The reverse of `whole_weights`."""
    set_model_state_dict(network, state, options=SPREAD)


def spread_optimizer(network: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """The reverse of `whole_optimizer`; weights that never had a gradient, such as a mask token, have no state."""
    set_optimizer_state_dict(network, optimizer, state, options=replace(SPREAD, strict=False))
