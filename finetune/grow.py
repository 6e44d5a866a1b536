"""A model with more outputs than the one that it comes from: all that was learnt stays."""

from __future__ import annotations

from typing import Any

import torch


def grow_model(model: Any, larger: Any) -> Any:
    """Give a model with more classes the weights of one with fewer.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With fewer classes.
    larger : transformers.PreTrainedModel
        The same architecture with more; changed in place.

    Returns
    -------
    transformers.PreTrainedModel
        ``larger``. Where an array has more rows, the first are those of ``model``, so that its answers for the old
        classes keep their order; each new one is their mean: an output that says neither yes nor no yet.

    Raises
    ------
    ValueError
        Where the two differ in more than in the number of rows.
    """
    old = model.state_dict()
    with torch.no_grad():
        for name, tensor in larger.state_dict().items():
            before = old.get(name)
            if before is None or before.shape[1:] != tensor.shape[1:] or len(before.shape) != len(tensor.shape):
                raise ValueError(f"weight {name!r} has no counterpart in the model that is to grow")
            if before.shape == tensor.shape:
                tensor.copy_(before)
                continue
            if len(before) > len(tensor) or not before.is_floating_point():
                raise ValueError(f"weight {name!r} cannot grow from {tuple(before.shape)} to {tuple(tensor.shape)}")
            tensor[: len(before)] = before
            tensor[len(before) :] = before.mean(0)
    return larger.eval()
