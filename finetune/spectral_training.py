"""Train the members of the spectral ensemble one by one, so that each can be repeated, resumed and compared alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from finetune.spectral_augment import degrade
from finetune.spectral_model import SpectralConfig, SpectralEnsemble, member_loss
from finetune.spectral_ridge import KernelRidge

RECIPE: dict[str, Any] = {
    "learning_rate": 1e-3,
    "batch_size": 64,
    "warmup_steps": 100,
    "weight_decay": 0.05,
    "ema": 0.997,
}


class Stars(Dataset):
    """Training stars as rows of arrays.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        ``flux``, ``ivar``, ``labels``, ``fold``; first axis the star.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays["flux"])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {name: array[index] for name, array in self.arrays.items()}


class DegradingCollator:
    """Stack stars into a batch and degrade it.

    Parameters
    ----------
    seed : int
        Of the degradation.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        """Make a batch.

        Parameters
        ----------
        rows : sequence of mapping
            From ``Stars``.

        Returns
        -------
        dict of str to Tensor
            ``flux``, ``ivar``, ``labels``, ``fold``.
        """
        batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        prepared, targets = degrade(batch, {"labels": batch.pop("labels")}, self.rng)
        return {name: torch.as_tensor(array) for name, array in (prepared | targets).items()}


class Average(TrainerCallback):
    """Exponential moving average of the weights, which is what is kept in the end.

    Parameters
    ----------
    decay : float
        Weight of the past in each step.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.state: dict[str, torch.Tensor] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Take one step's weights into the average.

        Parameters
        ----------
        args, state, control : Any
            Of the trainer; the step number keeps early averages from remembering the start.
        model : PreTrainedModel
            In training.
        **kwargs : Any
            Not used.
        """
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name in self.state:
                    self.state[name].lerp_(value, 1 - decay)
                else:
                    self.state[name] = value.detach().clone()

    def copy_to(self, model: torch.nn.Module) -> None:
        """Write the average into a model.

        Parameters
        ----------
        model : Module
            Whose parameters are replaced.
        """
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.copy_(self.state[name])


class MemberTrainer(Trainer):
    """The trainer with the loss of the task."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Loss of a batch.

        Parameters
        ----------
        model : PreTrainedModel
            In training.
        inputs : dict of str to Tensor
            From the collator.
        return_outputs : bool
            Whether the outputs are wanted too.
        num_items_in_batch : Any
            Not used.

        Returns
        -------
        Tensor or tuple
            Loss, with the outputs where asked for.
        """
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = member_loss(outputs, {"labels": labels})
        return (loss, outputs) if return_outputs else loss


def train_member(
    kind: str, arrays: Mapping[str, np.ndarray], ridge: KernelRidge | None, *, steps: int, seed: int, folder: Path
) -> SpectralEnsemble:
    """Train one member, or take it from ``folder`` where it is finished; an interrupted training is resumed.

    Parameters
    ----------
    kind : str
        ``"direct"`` or ``"residual"``.
    arrays : mapping of str to ndarray
        ``flux``, ``ivar``, ``labels``, ``fold`` of the training stars.
    ridge : KernelRidge or None
        Base of a residual member, fitted on the same stars and folds.
    steps : int
        Optimiser steps.
    seed : int
        Of the weights, the batches and the degradation.
    folder : Path
        Where checkpoints and the finished member lie.

    Returns
    -------
    SpectralEnsemble
        With one member, averaged weights, in evaluation mode.
    """
    finished = folder / "member"
    if (finished / "model.safetensors").exists():
        return SpectralEnsemble.from_pretrained(finished).eval()
    torch.manual_seed(seed)
    stars = 0 if ridge is None else ridge.arrays["scores"].shape[0]
    model = SpectralEnsemble(SpectralConfig(members=(kind,), ridge_stars=stars))
    if ridge is not None:
        model.set_ridge(ridge)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=RECIPE["batch_size"],
        learning_rate=RECIPE["learning_rate"] * (0.5 if kind == "residual" else 1.0),
        lr_scheduler_type="cosine",
        warmup_steps=RECIPE["warmup_steps"],
        weight_decay=RECIPE["weight_decay"],
        adam_beta1=0.9,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        seed=seed,
        data_seed=seed,
        logging_steps=50,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_drop_last=True,
        use_cpu=not torch.cuda.is_available(),
    )
    average = Average(RECIPE["ema"])
    trainer = MemberTrainer(
        model=model,
        args=arguments,
        train_dataset=Stars(arrays),
        data_collator=DegradingCollator(seed),
        callbacks=[average],
    )
    trainer.train()
    average.copy_to(model)
    model.eval()
    partial = folder / "member.part"
    model.save_pretrained(partial)
    (partial / "history.json").write_text(json.dumps(trainer.state.log_history, indent=1))
    os.replace(partial, finished)
    return model


def assemble(members: Sequence[SpectralEnsemble], ridge: KernelRidge | None) -> SpectralEnsemble:
    """Put single members into one ensemble.

    Parameters
    ----------
    members : sequence of SpectralEnsemble
        With one member each.
    ridge : KernelRidge or None
        Base that all residual members share.

    Returns
    -------
    SpectralEnsemble
        In evaluation mode.
    """
    kinds = [kind for model in members for kind in model.config.members]
    stars = 0 if ridge is None else ridge.arrays["scores"].shape[0]
    whole = SpectralEnsemble(SpectralConfig(members=tuple(kinds), ridge_stars=stars))
    if ridge is not None:
        whole.set_ridge(ridge)
    for target, model in zip(whole.members, members, strict=True):
        target.load_state_dict(model.members[0].state_dict())
    return whole.eval()
