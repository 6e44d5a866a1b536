"""Which inputs decided an answer: integrated gradients and attention rollout, and a model with shuffled weights.

Integrated gradients (Sundararajan, Taly & Yan 2017, arXiv:1703.01365) add up to the difference between the answer and
the answer where nothing is seen; how well they do is measured. Attention rollout (Abnar & Zuidema 2020,
arXiv:2005.00928) is a share, without a sign and the same for every answer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from finetune.explanation import Explanation
from finetune.network import mean_answer

METHODS = ("integrated_gradients", "rollout")
#: Inputs of a batch to all targets, shape (batch, targets).
Function = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]


def make_function(models: Sequence[torch.nn.Module], explanation: Explanation) -> Function:
    """The mean of the member models as a differentiable function of their inputs.

    Parameters
    ----------
    models : sequence of Module
        In evaluation mode.
    explanation : Explanation
        Of the task.

    Returns
    -------
    callable
        ``function(inputs) -> Tensor``, shape (batch, targets).
    """

    def entered(model: torch.nn.Module) -> Callable[..., Any]:
        enter = explanation.enter
        return model if enter is None else lambda **inputs: model(**enter(model, inputs))

    members: Any = [entered(model) for model in models]

    def function(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        read: torch.Tensor = explanation.read(mean_answer(members, inputs))
        return read

    return function


def answers_at(function: Function, inputs: Mapping[str, torch.Tensor], chunk: int) -> np.ndarray:
    """Targets of many inputs, without gradients.

    Parameters
    ----------
    function : callable
        From ``make_function``.
    inputs : mapping of str to Tensor
        Batch first.
    chunk : int
        Inputs that run at a time.

    Returns
    -------
    ndarray of float64, shape (batch, targets)
        Answers.
    """
    size = len(next(iter(inputs.values())))
    with torch.no_grad():
        parts = [function({k: v[i : i + chunk] for k, v in inputs.items()}) for i in range(0, size, chunk)]
    return torch.cat(parts).double().cpu().numpy()


def integrated_gradients(
    function: Function,
    inputs: Mapping[str, torch.Tensor],
    neutral: Mapping[str, torch.Tensor],
    targets: Sequence[int],
    *,
    steps: int = 32,
    chunk: int = 32,
    bend: float = 1.0,
) -> dict[str, np.ndarray]:
    """Attributions of one object: gradients along the straight way from the neutral input, times the difference.

    Parameters
    ----------
    function : callable
        From ``make_function``.
    inputs : mapping of str to Tensor
        All inputs of one object, first axis 1.
    neutral : mapping of str to Tensor
        Those that are explained, floats, where nothing is seen; same shapes.
    targets : sequence of int
        Which of the function's answers.
    steps : int
        Points of the Gauss-Legendre quadrature.
    chunk : int
        Points that run at a time.
    bend : float
        Above 1 the points lie closer together near the neutral input, at powers of even steps.

    Returns
    -------
    dict of str to ndarray of float64, shape (targets, *shape of the array)
        For each explained array.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    even = (nodes + 1) / 2
    at = torch.tensor(even**bend, dtype=torch.float32)
    weight = torch.tensor(weights / 2 * bend * even ** (bend - 1), dtype=torch.float32)
    found = {name: np.zeros((len(targets), *value.shape[1:])) for name, value in neutral.items()}
    for start in range(0, steps, chunk):
        share, each = at[start : start + chunk], weight[start : start + chunk]
        points = {name: value.expand(len(share), *value.shape[1:]) for name, value in inputs.items()}
        ways = {}
        for name, base in neutral.items():
            place = share.to(base.device).view(-1, *[1] * (base.ndim - 1))
            ways[name] = (base + place * (inputs[name].float() - base)).detach().requires_grad_(True)
        answer = function({**points, **ways})
        for number, target in enumerate(targets):
            total = (answer[:, target] * each.to(answer.device)).sum()
            slopes = torch.autograd.grad(total, list(ways.values()), retain_graph=number + 1 < len(targets))
            for (name, base), slope in zip(neutral.items(), slopes, strict=True):
                gone = (slope.sum(0) * (inputs[name].float() - base)[0]).double()
                found[name][number] += gone.cpu().numpy()
    return found


def rollout(models: Sequence[Any], explanation: Explanation, inputs: Mapping[str, torch.Tensor]) -> np.ndarray:
    """Share of each token of the encoder in what its first token holds after the last layer.

    Parameters
    ----------
    models : sequence of transformers.PreTrainedModel
        Members; their attention is set to the form that gives its weights.
    explanation : Explanation
        Of the task.
    inputs : mapping of str to Tensor
        Of one object, first axis 1.

    Returns
    -------
    ndarray of float64, shape (tokens,)
        Mean over heads, members and copies of the object; adds up to 1.

    Raises
    ------
    ValueError
        Where no layer gives attentions.
    """
    shares = []
    for model in models:
        entered = explanation.enter(model, inputs) if explanation.enter is not None else inputs
        with attentions(model) as layers, torch.no_grad():
            model(**entered)
        if not layers:
            raise ValueError(f"{type(model).__name__} gives no attentions: use --method integrated_gradients")
        flow: Any = None
        for layer in layers:
            mixed = 0.5 * layer.double().mean(1) + 0.5 * torch.eye(layer.shape[-1], dtype=torch.double)
            flow = mixed if flow is None else mixed @ flow
        shares.append(flow[:, 0].mean(0).numpy())
    return np.asarray(np.mean(shares, axis=0))


@contextmanager
def attentions(model: Any) -> Iterator[list[torch.Tensor]]:
    """Collect what a model's layers attend to, while it runs.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Or one that holds others.

    Yields
    ------
    list of Tensor, shape (batch, heads, tokens, tokens)
        One for each layer, in order, on the CPU; filled while the model runs.
    """
    found: list[torch.Tensor] = []

    def keep(module: Any, given: Any, output: Any) -> None:
        weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if isinstance(weights, torch.Tensor) and weights.ndim == 4 and weights.shape[-1] == weights.shape[-2]:
            found.append(weights.detach().cpu())

    inner = [module for module in model.modules() if hasattr(module, "set_attn_implementation")]
    before = [(module, module.config._attn_implementation) for module in inner]
    hooks = [m.register_forward_hook(keep) for m in model.modules() if hasattr(m, "query") and hasattr(m, "key")]
    try:
        for module in inner:
            module.set_attn_implementation("eager")  # the fused kernels never form the weights
        yield found
    finally:
        for hook in hooks:
            hook.remove()
        for module, name in before:
            module.set_attn_implementation(name)


def shuffled(models: Sequence[torch.nn.Module], seed: int) -> list[torch.nn.Module]:
    """Copies of models that have learnt nothing: every weight lies in another place of its tensor.

    The scale of every layer stays as it is, so that the outputs do not explode. Of the tables that are no trained
    weights (of two or more axes, such as a kernel ridge) whole rows change places.

    Parameters
    ----------
    models : sequence of Module
        Left as they are.
    seed : int
        Of the shuffle.

    Returns
    -------
    list of Module
        Copies.
    """
    generator = torch.Generator().manual_seed(seed)
    copies = [copy.deepcopy(model) for model in models]
    with torch.no_grad():
        for model in copies:
            for weight in model.parameters():
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.copy_(weight.reshape(-1)[order].view_as(weight))
            for tensor in model.buffers():
                if tensor.is_floating_point() and tensor.ndim > 1:
                    tensor.copy_(tensor[torch.randperm(len(tensor), generator=generator).to(tensor.device)])
    return copies
