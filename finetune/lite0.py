"""EfficientNet-Lite0 in plain torch (Tan & Le 2019, ICML, arXiv:1905.11946; the Lite form without attention blocks).

timm has the same network, and a test holds the two together; its import (with torchvision) takes several seconds of
every start of the survey. Layers are named and ordered as timm's are, so that weights of either fit.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import conv2d, pad

EPSILON = 1e-3  #: Of the batch norms, as TensorFlow has it.
CHANNELS_IN, STEM, HEAD, CLASSES = 3, 32, 1280, 1000
#: Stages: how many blocks, kernel, stride of the first, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip


class NormAct(nn.BatchNorm2d):
    """Batch norm, and what comes after it.

    Parameters
    ----------
    channels : int
        Channels.
    act : bool
        Whether the output is clipped to 0 to 6.
    """

    def __init__(self, channels: int, act: bool = True) -> None:
        super().__init__(channels, EPSILON)
        self.act: nn.Module = nn.ReLU6(inplace=True) if act else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise.

        Parameters
        ----------
        x : Tensor, shape (n, channels, h, w)
            Activations.

        Returns
        -------
        Tensor, same shape
            Normalised, and clipped where ``act`` was asked for.
        """
        out: torch.Tensor = self.act(super().forward(x))
        return out


class SameConv(nn.Conv2d):
    """Convolution of stride 2 with TensorFlow's padding: the odd pixel lies at the far end.

    Parameters
    ----------
    inside, outside, kernel : int
        Channels and size.
    groups : int
        Of channels.
    """

    def __init__(self, inside: int, outside: int, kernel: int, groups: int = 1) -> None:
        super().__init__(inside, outside, kernel, stride=2, groups=groups, bias=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve.

        Parameters
        ----------
        input : Tensor, shape (n, inside, h, w)
            Activations.

        Returns
        -------
        Tensor, shape (n, outside, ceil(h / 2), ceil(w / 2))
            Convolved.
        """
        kernel = self.kernel_size[0]
        down, right = (max((math.ceil(size / 2) - 1) * 2 + kernel - size, 0) for size in input.shape[-2:])
        padded = pad(input, (right // 2, right - right // 2, down // 2, down - down // 2))
        return conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


def _depthwise(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    if stride == 2:
        return SameConv(channels, channels, kernel, groups=channels)
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)


class Separable(nn.Module):
    """Depthwise convolution, then a pointwise one.

    Parameters
    ----------
    inside, outside, kernel, stride : int
        Channels, size and stride.
    """

    def __init__(self, inside: int, outside: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _depthwise(inside, kernel, stride)
        self.bn1 = NormAct(inside)
        self.conv_pw = nn.Conv2d(inside, outside, 1, bias=False)
        self.bn2 = NormAct(outside, act=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block.

        Parameters
        ----------
        x : Tensor, shape (n, inside, h, w)
            Activations.

        Returns
        -------
        Tensor, shape (n, outside, h / stride, w / stride)
            Activations.
        """
        out: torch.Tensor = self.bn2(self.conv_pw(self.bn1(self.conv_dw(x))))
        return out


class Inverted(nn.Module):
    """Expand the channels, convolve each of them, shrink; what goes in is added where the shape allows.

    Parameters
    ----------
    inside, outside, kernel, stride, expansion : int
        Channels, size, stride and how much wider it is within.
    """

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.conv_pw = nn.Conv2d(inside, wide, 1, bias=False)
        self.bn1 = NormAct(wide)
        self.conv_dw = _depthwise(wide, kernel, stride)
        self.bn2 = NormAct(wide)
        self.conv_pwl = nn.Conv2d(wide, outside, 1, bias=False)
        self.bn3 = NormAct(outside, act=False)
        self.skips = stride == 1 and inside == outside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block.

        Parameters
        ----------
        x : Tensor, shape (n, inside, h, w)
            Activations.

        Returns
        -------
        Tensor, shape (n, outside, h / stride, w / stride)
            Activations.
        """
        out: torch.Tensor = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))))
        return out + x if self.skips else out


class EfficientNetLite0(nn.Module):
    """The whole network, random weights: stem, seven stages, a last convolution and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SameConv(CHANNELS_IN, STEM, 3)
        self.bn1 = NormAct(STEM)
        width, stages = STEM, []
        for count, kernel, stride, expansion, channels in STAGES:
            blocks: list[nn.Module] = []
            for index in range(count):
                first = stride if index == 0 else 1
                if expansion == 1:
                    blocks.append(Separable(width, channels, kernel, first))
                else:
                    blocks.append(Inverted(width, channels, kernel, first, expansion))
                width = channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = nn.Conv2d(width, HEAD, 1, bias=False)
        self.bn2 = NormAct(HEAD)
        self.classifier = nn.Linear(HEAD, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify.

        Parameters
        ----------
        x : Tensor, shape (n, 3, h, w)
            Images, (value - 127) / 128.

        Returns
        -------
        Tensor, shape (n, 1000)
            Scores of the ImageNet classes.
        """
        pooled = self.bn2(self.conv_head(self.blocks(self.bn1(self.conv_stem(x))))).mean(dim=(2, 3))
        scores: torch.Tensor = self.classifier(pooled)
        return scores
