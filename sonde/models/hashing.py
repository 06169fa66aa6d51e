"""Hashes of a network's weights: a quick fingerprint for adapters, and SHA-256 over every byte for records."""

from hashlib import sha256

import torch
from torch import nn


def fingerprint(network: nn.Module) -> str:
    """A short hash that changes with any tensor: it tells an adapter whether it meets the base it was trained on."""
    digest = sha256()
    for key, value in sorted(network.state_dict().items()):
        flat = value.detach().reshape(-1)
        # About 64 values of each tensor are enough: training changes all of them, and loading stays fast.
        sampled = flat[:: max(1, flat.numel() // 64)].to("cpu", torch.float32)
        digest.update(key.encode() + sampled.numpy().tobytes())
    return digest.hexdigest()[:16]


def hash_weights(network: nn.Module) -> str:
    """SHA-256 over the name, type, shape and bytes of every tensor, in the order of their names."""
    digest = sha256()
    for name, value in sorted(network.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
