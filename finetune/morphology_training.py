"""How the morphology network is fine-tuned: first its head on frozen features, then head and upper stages together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from finetune.losses import class_loss
from finetune.morphology_baseline import MorphologyBaseline, numbers_of
from finetune.partial_labels import parse_label
from finetune.task import Example, Prepared

if TYPE_CHECKING:
    from finetune.morphology_model import MorphologyModel

#: Lower stages learn more slowly: they hold what is common to all images.
LR_FACTORS = {
    r"upper\.(conv_head|bn2)": 0.67,
    r"upper\.blocks\.2": 0.47,
    r"upper\.blocks\.1": 0.33,
    r"upper\.blocks\.0": 0.23,
}
HEAD_RATE = 1e-3
HEAD_PASSES = 90_000  #: Objects that the head sees in the first step, all epochs together.
STEP = 16  #: Stamps whose features are taken at a time.
GREY = 0.25  #: Share of colour stamps that are shown in grey, so that one band is no surprise.


def initialise(
    model: MorphologyModel, examples: Sequence[Example], prepared: Sequence[Prepared], baseline: MorphologyBaseline
) -> None:
    """Set whitening and quantiles from the training set, then train the head alone on the frozen features.

    Parameters
    ----------
    model : MorphologyModel
        Fresh from ``build``; changed in place.
    examples : sequence of Example
        Training objects.
    prepared : sequence of Prepared
        Their inputs.
    baseline : MorphologyBaseline
        Fitted on the same objects: it has computed their frozen features.
    """
    likelihood = np.stack([parse_label(e.labels.get("morphology_class"), baseline.classes) for e in examples])
    if model.image is not None:
        features = foreign_features(model, prepared)
    elif baseline.features is None:
        raise ValueError("the baseline holds no training features; fit it first")
    else:
        features = baseline.features
    train_head(model, features, *numbers_of(prepared), likelihood)


@torch.no_grad()
def foreign_features(model: MorphologyModel, prepared: Sequence[Prepared]) -> np.ndarray:
    """Features of a foreign backbone, as it was pretrained, for each turned copy and view.

    Parameters
    ----------
    model : MorphologyModel
        Set to evaluation mode.
    prepared : sequence of Prepared
        With ``views``.

    Returns
    -------
    ndarray of float32, shape (n, copies, 2, width)
        Features.
    """
    model.eval()
    copies, parts = model.config.dihedrals, []
    for start in range(0, len(prepared), STEP):
        views = torch.from_numpy(np.stack([one["views"] for one in prepared[start : start + STEP]]))
        parts.append(model.features(views, copies).unflatten(0, (-1, copies)).float().numpy())
    return np.concatenate(parts)


def train_head(
    model: MorphologyModel,
    features: np.ndarray,
    numbers: np.ndarray,
    known: np.ndarray,
    likelihood: np.ndarray,
    weights: np.ndarray | None = None,
) -> None:
    """First step: the head on features that do not change.

    Parameters
    ----------
    model : MorphologyModel
        Changed in place; seeded by torch's own generator.
    features : ndarray, shape (n, copies, 2, width)
        Frozen features.
    numbers, known : ndarray, shape (n, numbers)
        Morphology numbers.
    likelihood : ndarray, shape (n, classes)
        Labels.
    weights : ndarray, shape (n,), optional
        Chance of each object.
    """
    pooled = torch.from_numpy(features).float()
    values, there, labels = (torch.from_numpy(np.asarray(a, np.float32)) for a in (numbers, known, likelihood))
    model.fit_statistics(pooled[:, 0], values, there)
    parameters = [p for n, p in model.named_parameters() if not n.startswith(("upper.", "image.")) and p.requires_grad]
    chance = torch.ones(len(pooled)) if weights is None else torch.from_numpy(weights)
    sampler = torch.utils.data.WeightedRandomSampler(chance.tolist(), HEAD_PASSES)
    loader = DataLoader(TensorDataset(torch.arange(len(pooled))), batch_size=64, sampler=sampler)
    optimiser = torch.optim.AdamW(parameters, lr=HEAD_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, HEAD_RATE, total_steps=len(loader), pct_start=0.2)
    model.train()
    for (index,) in loader:
        copy = torch.randint(pooled.shape[1], (len(index), 2))
        seen = pooled[index[:, None], copy, torch.arange(2)]
        loss = class_loss(model.head(seen, values[index], there[index])["logits"], labels[index], 0.05)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
    model.eval()


def augment_stamps(
    prepared: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray], rng: np.random.Generator
) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    """Turn and mirror views at random, and show some in grey.

    Parameters
    ----------
    prepared : mapping of str to ndarray
        A batch of ``prepare_stamp``; or with ``lower`` (n, copies, 2, 80, h, w) in place of views, where the copies
        were made beforehand: then one is drawn for each view.
    targets : mapping of str to ndarray
        Their labels, unchanged.
    rng : numpy.random.Generator
        Source of all that is random.

    Returns
    -------
    prepared, targets : dict, mapping
        New arrays.
    """
    out: dict[str, Any] = dict(prepared)
    if "lower" in out:
        lower = out["lower"]
        copy = rng.integers(lower.shape[1], size=(len(lower), 2))
        out["lower"] = lower[np.arange(len(lower))[:, None], copy, np.arange(2)]
        return out, targets
    views = out["views"].copy()
    for one in views:
        grey = rng.random() < GREY
        for index in range(len(one)):
            turned = np.rot90(one[index], int(rng.integers(4)), (1, 2))
            turned = turned[:, :, ::-1] if rng.random() < 0.5 else turned
            one[index] = turned.mean(axis=0, keepdims=True).round() if grey else turned
    out["views"] = views
    return out, targets
