"""Losses for every kind of label; what is missing (NaN, no votes, no likelihood but ones) teaches nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

FORMS = "cross_entropy, focal, focal:GAMMA"
GAMMA = 2.0


def class_loss(
    logits: torch.Tensor,
    likelihood: torch.Tensor,
    smoothing: float = 0.0,
    gamma: float = 0.0,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross entropy of labels that name one class or several, focal (Lin et al. 2017, arXiv:1708.02002) where asked.

    Parameters
    ----------
    logits : Tensor, shape (n, classes)
        Unnormalised log-probabilities.
    likelihood : Tensor, shape (n, classes)
        Of the label under each class; one-hot for an ordinary one, ones for a missing one.
    smoothing : float
        Share of a uniform distribution mixed into the prediction, so that a wrong label costs a bounded amount.
    gamma : float
        Power of what is left to one, by which easy objects count less.
    weights : Tensor, shape (classes,), optional
        Of each class; of a label that names several, the mean over what the model thinks that it means.

    Returns
    -------
    Tensor
        Scalar, the weighted mean.
    """
    joint = logits.log_softmax(dim=1).exp() * likelihood
    probability = joint.sum(dim=1)
    mixed = (1 - smoothing) * probability + smoothing * likelihood.mean(dim=1)
    each = -torch.log(mixed.clamp_min(1e-9)) * (1 - probability).clamp_min(0) ** gamma
    if weights is None:
        return each.mean()
    share = (joint / probability[:, None].clamp_min(1e-9)).detach()
    count = (share * weights).sum(dim=1)
    return (each * count).sum() / count.sum().clamp_min(1e-9)


def binary_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross entropy of yes and no, each answer by itself.

    Parameters
    ----------
    logits, target : Tensor of the same shape
        Unnormalised log-odds; 0, 1, a share between them, or NaN.

    Returns
    -------
    Tensor
        Scalar; 0 where no target is known.
    """
    known = ~target.isnan()
    each = nn.functional.binary_cross_entropy_with_logits(logits, target.nan_to_num(), reduction="none")
    return _mean(each, known)


def squared_loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error.

    Parameters
    ----------
    prediction, target : Tensor of the same shape
        NaN in the target where it is not known.

    Returns
    -------
    Tensor
        Scalar; 0 where no target is known.
    """
    return _mean((prediction - target.nan_to_num()) ** 2, ~target.isnan())


def gaussian_loss(
    mean: torch.Tensor, log_variance: torch.Tensor, target: torch.Tensor, error: torch.Tensor | None = None
) -> torch.Tensor:
    """Negative log-likelihood of a normal distribution, without its constant.

    Parameters
    ----------
    mean, log_variance, target : Tensor of the same shape
        Prediction and label; NaN where it is not known.
    error : Tensor, optional
        Standard error of the label, which the prediction is not blamed for.

    Returns
    -------
    Tensor
        Scalar; 0 where no target is known.
    """
    variance = log_variance.clamp(-20, 20).exp()
    if error is not None:
        variance = variance + error.nan_to_num() ** 2
    each = 0.5 * ((mean - target.nan_to_num()) ** 2 / variance + variance.log())
    return _mean(each, ~target.isnan())


def quantile_loss(quantiles: torch.Tensor, target: torch.Tensor, levels: Sequence[float]) -> torch.Tensor:
    """Pinball loss (Koenker & Bassett 1978, Econometrica 46, 33): least at the quantiles of the label.

    Parameters
    ----------
    quantiles : Tensor, shape (..., q)
        Predicted quantiles.
    target : Tensor, shape (...)
        NaN where it is not known.
    levels : sequence of float, length q
        Between 0 and 1.

    Returns
    -------
    Tensor
        Scalar; 0 where no target is known.
    """
    level = quantiles.new_tensor(list(levels))
    apart = target.nan_to_num()[..., None] - quantiles
    each = torch.maximum(level * apart, (level - 1) * apart)
    return _mean(each, ~target.isnan()[..., None].expand_as(each))


def votes_loss(log_concentration: torch.Tensor, votes: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of vote counts under a Dirichlet-multinomial (Walmsley et al. 2022, MNRAS 509, 3966).

    Parameters
    ----------
    log_concentration : Tensor, shape (n, answers)
        Logarithms of the concentrations of one question.
    votes : Tensor, shape (n, answers)
        Counts; an object without a vote, or with NaN, teaches nothing.

    Returns
    -------
    Tensor
        Scalar, a mean over the objects with votes.
    """
    known = ~votes.isnan().any(dim=1)
    votes = votes.nan_to_num()
    total = votes.sum(dim=1)
    alpha = log_concentration.clamp(-12, 12).exp()
    whole = alpha.sum(dim=1)
    each = (votes + alpha).lgamma() - alpha.lgamma() - (votes + 1).lgamma()
    likelihood = each.sum(dim=1) + (total + 1).lgamma() + whole.lgamma() - (total + whole).lgamma()
    return _mean(-likelihood, known & (total > 0))


def matching_loss(one: torch.Tensor, two: torch.Tensor, temperature: float = 0.07) -> torch.Tensor:
    """Contrastive matching of two records of the same objects, both ways (Radford et al. 2021, arXiv:2103.00020).

    Parameters
    ----------
    one, two : Tensor, shape (n, width)
        Embeddings; row i of both is object i, all other rows are other objects.
    temperature : float
        Of the similarities.

    Returns
    -------
    Tensor
        Scalar.
    """
    unit = [nn.functional.normalize(each, dim=1) for each in (one, two)]
    similarity = unit[0] @ unit[1].T / temperature
    right = torch.arange(len(one), device=one.device)
    return 0.5 * (nn.functional.cross_entropy(similarity, right) + nn.functional.cross_entropy(similarity.T, right))


def masked_loss(
    prediction: torch.Tensor, value: torch.Tensor, hidden: torch.Tensor, ivar: torch.Tensor | None = None
) -> torch.Tensor:
    """Squared error of what was hidden from the model, and of nothing else.

    Parameters
    ----------
    prediction, value : Tensor of the same shape
        Reconstruction and data; NaN where there is none.
    hidden : Tensor of bool
        What the model did not see.
    ivar : Tensor, optional
        Inverse variances: weights, so that noise is not learnt.

    Returns
    -------
    Tensor
        Scalar; 0 where nothing was hidden.
    """
    known = hidden & ~value.isnan()
    each = (prediction - value.nan_to_num()) ** 2
    if ivar is None:
        return _mean(each, known)
    weight = ivar.nan_to_num().clamp_min(0) * known
    return (each * weight).sum() / weight.sum().clamp_min(1e-12)


def next_loss(
    mean: torch.Tensor, log_variance: torch.Tensor, value: torch.Tensor, there: torch.Tensor, error: torch.Tensor | None
) -> torch.Tensor:
    """Likelihood of each observation of a sequence, given those before it.

    Parameters
    ----------
    mean, log_variance : Tensor, shape (n, length)
        What the model says at each place of the observation that follows.
    value : Tensor, shape (n, length)
        Observations.
    there : Tensor of bool, shape (n, length)
        Places that hold one.
    error : Tensor, shape (n, length), or None
        Their standard errors.

    Returns
    -------
    Tensor
        Scalar, from ``gaussian_loss``.
    """
    target = value[:, 1:].masked_fill(~(there[:, 1:] & there[:, :-1]), torch.nan)
    return gaussian_loss(mean[:, :-1], log_variance[:, :-1], target, None if error is None else error[:, 1:])


def parse_loss(text: str) -> float:
    """Read the name of a classifier's loss.

    Parameters
    ----------
    text : str
        One of ``FORMS``.

    Returns
    -------
    float
        Its gamma; 0 for the cross entropy.

    Raises
    ------
    ValueError
        For anything else.
    """
    kind, colon, number = text.partition(":")
    if kind == "cross_entropy" and not colon:
        return 0.0
    if kind == "focal" and (not colon or re.fullmatch(r"[0-9]+(\.[0-9]+)?", number)):
        return float(number) if colon else GAMMA
    raise ValueError(f"loss {text!r} is not one of {FORMS}")


def make_class_loss(
    text: str, smoothing: float, balanced: bool, targets: Sequence[Mapping[str, Any]], classes: int
) -> Callable[[Mapping[str, Any], Mapping[str, Any]], torch.Tensor]:
    """The loss of a classifier, by name, in the place of the task's own.

    Parameters
    ----------
    text : str
        One of ``FORMS``.
    smoothing : float
        As in ``class_loss``.
    balanced : bool
        Weight each class by one over its number of objects.
    targets : sequence of mapping
        ``Task.encode`` of the training objects: one array, an index (negative where missing) or a likelihood by class.
    classes : int
        How many.

    Returns
    -------
    callable
        ``loss(outputs, targets) -> Tensor``, as ``Task.loss``.

    Raises
    ------
    ValueError
        For a name that is no loss, and targets of another form.
    """
    gamma = parse_loss(text)
    if not targets or any(len(one) != 1 for one in targets):
        names = ", ".join(sorted(targets[0])) if targets else "none"
        raise ValueError(f"loss {text!r} needs targets of one array by class, and those of the task are {names}")
    weights: torch.Tensor | None = None
    if balanced:
        columns = [torch.as_tensor(next(iter(one.values())))[None] for one in targets]
        known = _likelihood(torch.cat(columns), classes)
        share = known / known.sum(dim=1, keepdim=True)
        count = share[(known > 0).sum(dim=1) == 1].sum(dim=0)
        weights = torch.where(count > 0, count.sum() / count.clamp_min(1) / max(int((count > 0).sum()), 1), 1.0)

    def loss(outputs: Mapping[str, Any], truth: Mapping[str, Any]) -> torch.Tensor:
        logits = outputs["logits"]
        likelihood = _likelihood(next(iter(truth.values())).to(logits.device), classes).to(logits.dtype)
        own = None if weights is None else weights.to(logits)
        return class_loss(logits, likelihood, smoothing, gamma, own)

    return loss


def _likelihood(target: torch.Tensor, classes: int) -> torch.Tensor:
    if target.is_floating_point():
        if target.ndim != 2 or target.shape[1] != classes:
            raise ValueError(
                f"targets have shape {tuple(target.shape)}, which is not one likelihood for {classes} classes"
            )
        return target
    known = (target >= 0)[:, None]
    return torch.where(known, nn.functional.one_hot(target.clamp_min(0).long(), classes), 1).float()


def _mean(each: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    return each.masked_fill(~known, 0).sum() / known.sum().clamp_min(1)
