"""Weights, gradients and optimizer state cut across processes by PyTorch's `fully_shard`, on GPUs and on CPUs alike.

transformers' own `fsdp: full_shard` is ignored on a CPU, where every process silently keeps the whole network; so the
trainer shards by itself, and asserts that it did. Checkpoints hold whole tensors, as without sharding.
"""

import logging
from dataclasses import replace
from typing import cast

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
    # Inner lists first: fully_shard leaves out of a module what was sharded inside it before.
    for blocks in reversed([module for module in network.modules() if isinstance(module, nn.ModuleList)]):
        for block in blocks:
            if not isinstance(block, nn.ModuleList) and any(True for _ in block.parameters()):
                fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    held, total = count_held(network)
    if held > total // dist.get_world_size() + total // 10:
        raise RuntimeError(f"This process holds {held} of {total} weights after sharding: expected about its share.")
    log.info("sharded: this process holds %d of %d weights", held, total)


def count_held(network: nn.Module) -> tuple[int, int]:
    """(weights this process holds, weights there are)."""
    parameters = list(network.parameters())
    return sum(take_local(value.detach()).numel() for value in parameters), sum(value.numel() for value in parameters)


def take_local(value: Tensor, like: Tensor | None = None) -> Tensor:
    """This process's part of a tensor; with `like`, its part if the tensor were cut as that one is."""
    if isinstance(like, DTensor) and not isinstance(value, DTensor):
        value = distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value.to_local() if isinstance(value, DTensor) else value


def gather_whole(value: Tensor) -> Tensor:
    """The tensor of all processes' parts; every process must call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def gather_weights(network: nn.Module) -> dict[str, Tensor]:
    """The state of the whole network, on the main process; empty on the others. Every process must call it."""
    return cast(dict[str, Tensor], get_model_state_dict(network, options=WHOLE))


def gather_optimizer(network: nn.Module, optimizer: Optimizer) -> dict[str, object]:
    """The state of the whole optimizer, on the main process; empty on the others. Every process must call it."""
    return cast(dict[str, object], get_optimizer_state_dict(network, optimizer, options=WHOLE))


def spread_weights(network: nn.Module, state: dict[str, Tensor]) -> None:
    """The reverse of `gather_weights`."""
    set_model_state_dict(network, state, options=SPREAD)  # pyright: ignore[reportArgumentType]


def spread_optimizer(network: nn.Module, optimizer: Optimizer, state: dict[str, object]) -> None:
    """The reverse of `gather_optimizer`."""
    # Not strict: weights that never had a gradient, such as a mask token, have no state.
    set_optimizer_state_dict(network, optimizer, state, options=replace(SPREAD, strict=False))  # pyright: ignore[reportArgumentType]
