"""The loop of a fine-tuning: losses of our heads, judged on the validation objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from finetune.network import Network, accepted, run_network, stack, to_tensor
from finetune.optimise import arguments
from finetune.sampling import Collator, StepSampler, Targets
from finetune.task import Prepared, Task
from finetune.training_options import TrainingOptions
from finetune.watched_trainer import WatchedTrainer

Tell = Callable[[int, float], None]  #: Told the step and the validation loss.


class SurveyTrainer(WatchedTrainer):
    """The loop for one member model.

    Parameters
    ----------
    task : Task
        Gives loss and augmentation.
    model : transformers.PreTrainedModel
        Trained in place; ``fit`` leaves the best state in it.
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
        self.task, self.weights, self.told = task, weights, tell
        self.validation = list(validation)
        self.collator = Collator(task, accepted(model, sorted(train[0][0])), seed)
        super().__init__(
            model,
            options,
            f"task {task.name}",
            task.options.get("head", ()),
            args=arguments(options, seed, folder, bool(validation)),
            train_dataset=list(train),
            eval_dataset=self.validation or None,
        )

    def judges(self) -> bool:
        """Tell whether there is anything to judge by.

        Returns
        -------
        bool
            Whether there are validation objects.
        """
        return bool(self.validation)

    def _get_train_sampler(self, train_dataset: Any = None) -> StepSampler:
        total = self.options.steps * self.options.batch_size * self.options.accumulation
        return StepSampler(len(self.train_dataset), total, self.args.seed, self.weights)  # type: ignore[arg-type]

    def outputs_and_loss(self, model: Any, inputs: dict[str, Any]) -> tuple[Any, torch.Tensor]:
        """What the model says of a batch, and the task's loss.

        Parameters
        ----------
        model : Module
            In training mode.
        inputs : dict
            From the collator.

        Returns
        -------
        outputs, loss : mapping, Tensor
            Of the batch.
        """
        outputs = model(**inputs["inputs"])
        return outputs, self.task.loss(outputs, inputs["targets"])

    def judge(self) -> dict[str, float]:
        """Judge the model on the validation objects.

        Returns
        -------
        dict of str to float
            ``validation``, the loss.
        """
        return {"validation": validation_loss(self.task, self.model, self.validation, self.args.device)}

    def tell(self, entry: dict[str, float]) -> None:
        """Tell who asked for it.

        Parameters
        ----------
        entry : dict of str to float
            Of the history.
        """
        if self.told is not None:
            self.told(int(entry["step"]), entry["validation"])


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
