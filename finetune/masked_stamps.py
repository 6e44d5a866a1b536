"""Masked pretraining on stamps: a masked autoencoder (ViTMAE) on the views that the morphology model is shown.

Pixels are the asinh display values of ``stamps.views``, on one scale for all stamps; they are not normalised patch by
patch, or empty sky would count as much as a galaxy: a patch without data does not count at all, and one that holds
noise alone counts little. The decoder starts at zero and corrects what the visible neighbours of a patch say: a network
that had to learn the brightness of each place first stayed at a constant for as long as it was watched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from finetune.backbones import dihedral
from finetune.losses import masked_loss
from finetune.masked import Objective
from finetune.stamps import SIDE
from finetune.task import Prepared
from transforms.numerics.stretch import SKY_LEVEL

PATCH = 16  #: Pixels of a patch's side.
SCALE = 50.0  #: Display levels of one unit of the network's input.
PLAIN = 1.0  #: Display levels: a patch whose pixels differ by no more than that holds no data.


class MaskedStamps(ViTMAEForPreTraining):
    """The masked autoencoder with a loss that empty patches do not enter.

    Parameters
    ----------
    config : ViTMAEConfig
        Sizes.
    """

    main_input_name = "pixels"

    def __init__(self, config: ViTMAEConfig) -> None:
        super().__init__(config)
        nn.init.zeros_(self.decoder.decoder_pred.weight)
        nn.init.zeros_(self.decoder.decoder_pred.bias)

    def forward(self, pixels: torch.Tensor, noise: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """Say what was hidden.

        Parameters
        ----------
        pixels : Tensor, shape (batch, 3, side, side)
            Display values, 0 to 255.
        noise : Tensor, shape (batch, patches)
            Patches with the largest values are hidden, as many as ``config.mask_ratio`` says.

        Returns
        -------
        dict of str to Tensor
            ``loss``; ``prediction``, ``target``, ``weight`` (batch, patches, pixels of a patch).
        """
        scaled = (pixels.float() - SKY_LEVEL) / SCALE
        seen = self.vit(scaled, noise=noise)
        target = self.patchify(scaled)
        correction = self.decoder(seen.last_hidden_state, seen.ids_restore).logits
        prediction = neighbours(target, seen.mask == 0) + correction
        weight = (patch_weights(target) * seen.mask)[..., None].expand_as(target)
        loss = masked_loss(prediction, target, weight > 0, weight)
        return {"loss": loss, "prediction": prediction, "target": target, "weight": weight}


def patch_weights(target: torch.Tensor) -> torch.Tensor:
    """How much each patch counts.

    Parameters
    ----------
    target : Tensor, shape (batch, patches, pixels of a patch)
        In units of the network's input.

    Returns
    -------
    Tensor, shape (batch, patches)
        0 for a patch without data; for the others its variance over itself and that of the stamp's quiet patches.
    """
    spread = target.amax(-1) - target.amin(-1)
    there = spread > PLAIN / SCALE
    variance = target.var(-1)
    quiet = torch.nanquantile(variance.masked_fill(~there, torch.nan), 0.25, dim=1, keepdim=True).nan_to_num()
    return variance / (variance + quiet + 1e-6) * there


def neighbours(target: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """The mean of the visible patches about each place.

    Parameters
    ----------
    target : Tensor, shape (batch, patches, pixels of a patch)
        From ``patchify``, colours last.
    visible : Tensor of bool, shape (batch, patches)
        Patches that may be looked at.

    Returns
    -------
    Tensor, shape (batch, patches, pixels of a patch)
        One colour a patch, weighted by a Gaussian of one patch.
    """
    n, patches, pixels = target.shape
    across = round(patches**0.5)
    place = torch.arange(patches, device=target.device)
    y, x = place // across, place % across
    near = torch.exp(-0.5 * ((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2)) + 1e-9
    share = near * visible[:, None]
    colour = target.masked_fill(~visible[..., None], 0).view(n, patches, -1, 3).mean(2)
    mean = (share / share.sum(-1, keepdim=True)) @ colour
    return mean[:, :, None].expand(-1, -1, pixels // 3, -1).flatten(2)


def hide(batch: dict[str, np.ndarray], rng: np.random.Generator, share: float) -> dict[str, np.ndarray]:
    """Draw a view, how it is turned, and the order in which patches are hidden.

    Parameters
    ----------
    batch : dict of str to ndarray
        ``views``, shape (batch, 2, 3, side, side).
    rng : Generator
        Source of randomness.
    share : float
        Of the patches; the ``mask_ratio`` of the model.

    Returns
    -------
    dict of str to ndarray
        ``pixels``, ``noise``, and what follows from it, ``hidden``, shape (batch, patches).
    """
    views = batch["views"]
    chosen = views[np.arange(len(views)), rng.integers(0, views.shape[1], len(views))]
    turns = rng.integers(0, 8, len(views))
    pixels = np.stack([dihedral(torch.from_numpy(v), int(t)).numpy() for v, t in zip(chosen, turns, strict=True)])
    patches = (views.shape[-1] // PATCH) ** 2
    noise = rng.random((len(views), patches), np.float32)
    hidden = noise.argsort(1).argsort(1) >= int(patches * (1 - share))
    return {"pixels": pixels, "noise": noise, "hidden": hidden}


def usable(prepared: Prepared) -> bool:
    """Tell whether a stamp shows anything.

    Parameters
    ----------
    prepared : Prepared
        One stamp.

    Returns
    -------
    bool
        As the morphology model sees it.
    """
    return bool(prepared["usable"] > 0)


def trivial(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The mean of the visible patches about each hidden one.

    Parameters
    ----------
    batch : mapping of str to ndarray
        From ``hide``.

    Returns
    -------
    dict of str to ndarray
        ``neighbours``, shape (batch, patches, pixels of a patch), from the function of that name.
    """
    scaled = (torch.as_tensor(batch["pixels"]).float() - SKY_LEVEL) / SCALE
    n, channels, side, _ = scaled.shape
    cut = scaled.view(n, channels, side // PATCH, PATCH, side // PATCH, PATCH).permute(0, 2, 4, 3, 5, 1)
    target = cut.reshape(n, (side // PATCH) ** 2, -1)
    return {"neighbours": neighbours(target, ~torch.as_tensor(batch["hidden"])).numpy()}


def build(mask: float, **options: Any) -> MaskedStamps:
    """Make an untrained model.

    Parameters
    ----------
    mask : float
        Share that is hidden: the network cuts its input by it.
    **options : Any
        Of ``ViTMAEConfig``.

    Returns
    -------
    MaskedStamps
        Random weights.
    """
    fixed = {"image_size": SIDE, "patch_size": PATCH, "num_channels": 3, "mask_ratio": mask, "norm_pix_loss": False}
    return MaskedStamps(ViTMAEConfig(**{**options, **fixed}))


OBJECTIVE = Objective(
    modality="stamps",
    task="galaxy_morphology",
    build=build,
    hide=hide,
    trivial=trivial,
    holes={"patches": hide},
    usable=usable,
    little="no data, or all pixels alike",
    arrays=("pixels", "noise", "hidden"),
    degrade=False,
    aligned=True,
    whole_files=True,
    shared=("vit.",),
    sizes=("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    mask=0.75,
    build_defaults={
        "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512,
        "decoder_hidden_size": 96, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 4,
        "decoder_intermediate_size": 192,
    },
    processor={
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True, "size": {"height": SIDE, "width": SIDE},
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [SKY_LEVEL / 255] * 3, "image_std": [SCALE / 255] * 3,
    },
    training={
        "steps": 8000, "batch_size": 64, "learning_rate": 1e-3, "weight_decay": 0.05, "warmup": 0.05, "ema": 0.998,
    },
)  # fmt: skip
