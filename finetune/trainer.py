"""``transformers.Trainer``, extended where survey work needs it: losses of our heads, groups of learning rates, a mean
of the weights, and the best state kept in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback

from finetune.network import Network, accepted, run_network, stack, to_tensor
from finetune.optimise import arguments, freeze, make_optimizer, parameter_groups, set_dropout
from finetune.sampling import Collator, StepSampler, Targets
from finetune.task import Prepared, Task
from finetune.training_options import TrainingOptions
from finetune.watch import Watch, copy_state

Tell = Callable[[int, float], None]  #: Told the step and the validation loss.


class TrainingError(RuntimeError):
    """The training cannot go on; the message says at which step and why."""


class _Callback(TrainerCallback):
    """Ties ``Watch`` and the collator's count to the loop."""

    def __init__(self, trainer: SurveyTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.collator.count = state.global_step * args.gradient_accumulation_steps
        if state.global_step:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self.trainer.watch.restore(folder, args.device)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.watch.update(self.trainer.model, state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        patience = self.trainer.options.patience
        control.should_training_stop |= bool(patience) and self.trainer.watch.waited >= patience

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.watch.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class SurveyTrainer(Trainer):
    """The loop for one member model.

    Parameters
    ----------
    task : Task
        Gives loss and augmentation.
    model : transformers.PreTrainedModel
        Trained in place; ``train`` leaves the best state in it.
    train, validation : sequence of (Prepared, Targets)
        Training and validation objects.
    options : TrainingOptions
        Checked.
    seed : int
        Of this member.
    folder : str
        Working folder.
    weights : ndarray or None
        Chance of each training object.
    tell : callable or None
        ``tell(step, loss)`` after each evaluation; what it raises ends the training.
    """

    model: Any

    def __init__(
        self,
        task: Task,
        model: Any,
        train: Sequence[tuple[Prepared, Targets]],
        validation: Sequence[tuple[Prepared, Targets]],
        options: TrainingOptions,
        seed: int,
        folder: str,
        weights: np.ndarray | None = None,
        tell: Tell | None = None,
    ) -> None:
        self.task, self.options, self.weights, self.tell = task, options, weights, tell
        self.validation, self.watch = list(validation), Watch.start(options.ema)
        self.collator = Collator(task, accepted(model, sorted(train[0][0])), seed)
        self.frozen = freeze(model, options.freeze)
        set_dropout(model, options.dropout)
        self._sum, self._seen, self._judged = 0.0, 0, -1
        super().__init__(
            model=model,
            args=arguments(options, seed, folder, bool(validation)),
            data_collator=self.collator,
            train_dataset=list(train),  # type: ignore[arg-type]
            eval_dataset=self.validation or None,  # type: ignore[arg-type]
        )
        self.model_accepts_loss_kwargs = False  # our loss is a mean over the batch; accumulation divides it
        self.remove_callback(PrinterCallback)
        self.add_callback(_Callback(self))

    def fit(self) -> list[dict[str, float]]:
        """Train, and leave the best state in the model.

        Returns
        -------
        list of dict
            The history.
        """
        if self.options.steps:
            self.train(resume_from_checkpoint=self.options.resume or None)
            if self.validation and self._judged != self.state.global_step:
                self.evaluate()
        best = self.watch.best or self.watch.mean
        if best:
            self.model.load_state_dict(best)
        self.model.eval()
        return self.watch.history

    def _get_train_sampler(self, train_dataset: Any = None) -> StepSampler:
        total = self.options.steps * self.options.batch_size * self.options.accumulation
        return StepSampler(len(self.train_dataset), total, self.args.seed, self.weights)  # type: ignore[arg-type]

    def compute_loss(  # numpydoc ignore=PR01
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Loss of the task on one batch; parameters as in ``Trainer``.

        Parameters
        ----------
        model : Module
            In training mode.
        inputs : dict
            From the collator.
        return_outputs : bool
            Give the outputs too.
        num_items_in_batch : object
            Not used.

        Returns
        -------
        Tensor or (Tensor, mapping)
            The loss.
        """
        for module in self.frozen:
            module.eval()
        outputs = model(**inputs["inputs"])
        loss = self.task.loss(outputs, inputs["targets"])
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"loss is {value} at step {self.state.global_step + 1} of task {self.task.name}")
        self._sum, self._seen = self._sum + value, self._seen + 1
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """A group for each learning rate, and no decay on vectors.

        Parameters
        ----------
        model : Module, optional
            Ours where None.

        Returns
        -------
        Optimizer
            The same at each call.
        """
        if self.optimizer is None:
            groups = parameter_groups(model or self.model, self.options, self.task.options.get("head", ()))
            self.optimizer = make_optimizer(groups, self.options)
        return self.optimizer

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:  # type: ignore[override]
        """Loss on the validation objects, with the mean weights where there are any; keeps the best state.

        Parameters
        ----------
        *_, **__
            Not used.

        Returns
        -------
        dict of str to float
            ``eval_loss``.
        """
        step = self._judged = self.state.global_step
        own = copy_state(self.model) if self.watch.mean else {}
        if own:
            self.model.load_state_dict(self.watch.mean)
        loss = validation_loss(self.task, self.model, self.validation, self.args.device)
        if not math.isfinite(loss):
            raise TrainingError(f"validation loss is {loss} at step {step} of task {self.task.name}")
        if loss < self.watch.loss:
            self.watch.loss, self.watch.waited, self.watch.best = loss, 0, copy_state(self.model)
        else:
            self.watch.waited += 1
        if own:
            self.model.load_state_dict(own)
        entry = {"step": step, "loss": self._sum / max(self._seen, 1), "validation": loss}
        self._sum, self._seen = 0.0, 0
        self.watch.history.append(entry)
        if self.tell is not None:
            self.tell(step, loss)
        metrics = {"eval_loss": loss}
        self.log({**metrics, "train_loss": entry["loss"]})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def validation_loss(
    task: Task, model: nn.Module, rows: Sequence[tuple[Prepared, Targets]], device: torch.device
) -> float:
    """Loss of the task on all validation objects at once.

    Parameters
    ----------
    task : Task
        Gives the loss.
    model : Module
        Left in evaluation mode.
    rows : sequence of (Prepared, Targets)
        Validation objects.
    device : torch.device
        Where it runs.

    Returns
    -------
    float
        The loss.
    """
    outputs = run_network(Network([model], device), [p for p, _ in rows], task.batch_size)
    targets = {name: to_tensor(value) for name, value in stack([t for _, t in rows]).items()}
    return float(task.loss({name: torch.from_numpy(value) for name, value in outputs.items()}, targets))
