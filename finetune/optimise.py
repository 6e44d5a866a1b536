"""Our training options in the words of ``transformers`` and of the optimiser."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments

from finetune.devices import resolve_device
from finetune.methods import depth_factors, parameter_names
from finetune.training_options import TrainingOptions


def arguments(options: TrainingOptions, seed: int, folder: str, judged: bool) -> TrainingArguments:
    """Say it in the words of ``transformers``.

    Parameters
    ----------
    options : TrainingOptions
        Ours.
    seed : int
        Of this member.
    folder : str
        Working folder.
    judged : bool
        Whether there are validation objects.

    Returns
    -------
    TrainingArguments
        Quiet, and without reports that nobody asked for.
    """
    every = max(1, options.steps // max(options.evaluations, 1))
    judged = judged and options.evaluations > 0 and options.steps > 0
    return TrainingArguments(
        output_dir=folder,
        max_steps=max(options.steps, 1),
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulation,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        warmup_steps=round(options.warmup * options.steps),
        lr_scheduler_type=options.schedule,
        max_grad_norm=options.clip,
        eval_strategy="steps" if judged else "no",
        eval_steps=every if judged else None,
        save_strategy="steps" if options.checkpoints else "no",
        save_steps=every,
        save_total_limit=1,
        logging_strategy="no",
        report_to=["tensorboard"] if options.tensorboard else [],
        use_cpu=resolve_device(options.device).type == "cpu",
        bf16=options.bf16,
        seed=seed,
        data_seed=seed,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Stop the training of parameters by name.

    Parameters
    ----------
    model : Module
        Changed in place.
    patterns : sequence of str
        Regular expressions, searched in the names.

    Returns
    -------
    list of Module
        Normalisations whose parameters are all frozen: their running statistics must stand still too.
    """
    if not patterns:
        return []
    for name, parameter in model.named_parameters():
        if any(re.search(pattern, name) for pattern in patterns):
            parameter.requires_grad_(False)
    return [
        module
        for module in model.modules()
        if hasattr(module, "running_mean")
        and (own := list(module.parameters(recurse=False)))
        and not any(parameter.requires_grad for parameter in own)
    ]


def parameter_groups(model: nn.Module, options: TrainingOptions, head: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Group the parameters by learning rate and decay.

    Parameters
    ----------
    model : Module
        With frozen parameters marked.
    options : TrainingOptions
        Gives ``lr_factors``, ``lr_decay`` and ``weight_decay``; where a name matches both, the factors multiply.
    head : sequence of str
        Regular expressions on the names of the head's parameters, for ``lr_decay``.

    Returns
    -------
    list of dict
        For the optimiser, in a fixed order.
    """
    depths = depth_factors(model, options.lr_decay, head) if options.lr_decay != 1 else {}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameter_names(model).items():
        if not parameter.requires_grad:
            continue
        factor = _first(options.lr_factors, name) * _first(depths, name)
        decay = options.weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": options.learning_rate * factor, "weight_decay": decay}
        for (factor, decay), parameters in sorted(groups.items(), key=lambda pair: pair[0])
    ]


def make_optimizer(groups: Sequence[dict[str, Any]], options: TrainingOptions) -> torch.optim.Optimizer:
    """Make the optimiser.

    Parameters
    ----------
    groups : sequence of dict
        From ``parameter_groups``.
    options : TrainingOptions
        Gives kind, rate and momentum.

    Returns
    -------
    torch.optim.Optimizer
        New.
    """
    if options.optimizer == "sgd":
        nesterov = options.momentum > 0
        return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=options.learning_rate)


def set_dropout(model: nn.Module, share: float | None) -> None:
    """Set every dropout of a model.

    Parameters
    ----------
    model : Module
        Changed in place.
    share : float or None
        What is set to zero; None changes nothing.
    """
    if share is None:
        return
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = share


def _first(factors: Mapping[str, float], name: str) -> float:
    return next((factor for pattern, factor in factors.items() if re.search(pattern, name)), 1.0)
