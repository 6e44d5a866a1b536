"""``transformers.Trainer`` on a stream of unlabelled records: batches are degraded, masked, and judged against answers
that need no learning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from finetune.masked import Mean, Objective
from finetune.network import accepted, stack, to_tensor
from finetune.optimise import arguments
from finetune.task import Prepared, Task
from finetune.training_options import TrainingOptions
from finetune.unlabelled import Stream, Unlabelled
from finetune.watched_trainer import TrainingError, WatchCallback, WatchedTrainer

HELD = 1024  #: Held-out records that are judged at most.
SAMPLE = 2048  #: Training records whose mean is the answer of who looks at no object.


class MaskingCollator:
    """Prepared records to one degraded, masked batch of tensors.

    Parameters
    ----------
    task : Task
        Gives ``augment``.
    objective : Objective
        Gives ``hide``.
    names : sequence of str
        Arrays that the model takes.
    share : float
        What is hidden.
    seed : int
        Batch n is made under the seed ``(seed, n)``, so that a training that goes on sees what it would have seen.
    """

    def __init__(self, task: Task, objective: Objective, names: Sequence[str], share: float, seed: int) -> None:
        self.task, self.objective, self.names, self.share, self.seed = task, objective, tuple(names), share, seed
        self.count = 0

    def __call__(self, rows: Sequence[Prepared]) -> dict[str, torch.Tensor]:
        """Make a batch.

        Parameters
        ----------
        rows : sequence of Prepared
            Training records.

        Returns
        -------
        dict of str to Tensor
            What the model takes.
        """
        rng = np.random.default_rng([self.seed, self.count])
        self.count += 1
        batch = stack(rows)
        if self.task.augment is not None and self.objective.degrade:
            nothing = self.task.encode({})
            targets = {name: np.repeat(value[None], len(rows), 0) for name, value in nothing.items()}
            batch = self.task.augment(batch, targets, rng)[0]
        return self.tensors(self.objective.hide(batch, rng, self.share))

    def judged(self, rows: Sequence[Prepared], number: int) -> dict[str, np.ndarray]:
        """Mask a batch as it is, always in the same way.

        Parameters
        ----------
        rows : sequence of Prepared
            Records.
        number : int
            Of the batch.

        Returns
        -------
        dict of str to ndarray
            From ``hide``.
        """
        return self.objective.hide(stack(rows), np.random.default_rng([1, number]), self.share)

    def tensors(self, batch: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """What the model takes of a batch.

        Parameters
        ----------
        batch : mapping of str to ndarray
            From ``hide``.

        Returns
        -------
        dict of str to Tensor
            By name.
        """
        return {name: to_tensor(np.asarray(batch[name])) for name in self.names if name in batch}


class _Callback(WatchCallback):
    """Begins the stream where it has to."""

    trainer: MaskedTrainer

    def __init__(self, trainer: WatchedTrainer) -> None:
        super().__init__(trainer)
        self.state = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        super().on_train_begin(args, state, control)
        self.trainer.train_dataset.start = self.trainer.collator.count * args.per_device_train_batch_size
        if state.global_step:
            self.state = str(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.state:  # the trainer does it too, but then draws a number to begin the stream
            self.trainer._load_rng_state(self.state)
            self.state = ""


class MaskedTrainer(WatchedTrainer):
    """The loop of a pretraining.

    Parameters
    ----------
    task : Task
        Gives ``augment``.
    objective : Objective
        Of the modality.
    model : transformers.PreTrainedModel
        Trained in place; ``fit`` leaves the best state in it.
    data : Unlabelled
        With records of both sides.
    options : TrainingOptions
        Checked.
    share : float
        What is hidden.
    folder : str
        Of the states.
    say : callable
        Told how it goes on.
    """

    train_dataset: Any
    objective: Objective
    callback = _Callback

    def __init__(
        self, task: Task, objective: Objective, model: Any, data: Unlabelled, options: TrainingOptions, share: float,
        folder: str, say: Any,
    ) -> None:  # fmt: skip
        self.objective, self.data, self.say = objective, data, say
        self.collator = MaskingCollator(task, objective, accepted(model, objective.arrays), share, options.seed)
        given = arguments(options, options.seed, folder, judged=True)
        given.ignore_data_skip = True  # the stream begins where it has to
        given.save_total_limit = 2  # the last one may have been broken off while it was written
        super().__init__(
            model, options, objective.modality, args=given, train_dataset=Stream(data, options.seed), eval_dataset=[]
        )

    def _save_checkpoint(self, *args: Any, **keywords: Any) -> None:
        try:
            super()._save_checkpoint(*args, **keywords)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch tells of a full disk as a RuntimeError
            raise TrainingError(
                f"the state at step {self.state.global_step} cannot be written to {self.args.output_dir}: {error}; "
                "what was saved before is intact, and --resume goes on from there"
            ) from error

    def outputs_and_loss(self, model: Any, inputs: dict[str, Any]) -> tuple[Any, torch.Tensor]:
        """What the model says of a batch, and its own loss.

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
        outputs = model(**inputs)
        return outputs, outputs["loss"]

    def judge(self) -> dict[str, float]:
        """Judge the model on the held-out records.

        Returns
        -------
        dict of str to float
            ``held_out``, the masked loss; ``error``, the weighted mean squared error.
        """
        loss, error = self._held_out()
        return {"held_out": loss, "error": error}

    def tell(self, entry: dict[str, float]) -> None:
        """Say how it goes on.

        Parameters
        ----------
        entry : dict of str to float
            Of the history.
        """
        self.say(
            f"step {int(entry['step'])}: loss {entry['loss']:.4f}, held out {entry['held_out']:.4f}, "
            f"masked error {entry['error']:.4f}"
        )

    def _held_out(self) -> tuple[float, float]:
        total, number, scores = 0.0, 0, _Squares()
        for batch, outputs in self._answers("held", HELD):
            size = len(next(iter(batch.values())))
            total, number = total + float(outputs["loss"]) * size, number + size
            scores.add("model", outputs["prediction"], outputs)
        return total / max(number, 1), scores.mean("model")

    def figures(self) -> dict[str, float]:
        """Weighted mean squared error of what was hidden, of the model and of answers that need no learning.

        Returns
        -------
        dict of str to float
            ``model``; what ``Objective.trivial`` gives; ``mean_object``, the mean over training records at each place.
        """
        mean: Mean | None = None
        for _, outputs in self._answers("train", SAMPLE if self.objective.aligned else 0):
            mean = mean or Mean(outputs["target"].shape[1:])
            mean.add(outputs["target"], outputs["weight"])
        scores = _Squares()
        for batch, outputs in self._answers("held", HELD):
            scores.add("model", outputs["prediction"], outputs)
            for name, answer in self.objective.trivial(batch).items():
                scores.add(name, answer, outputs)
            if mean is not None:
                scores.add("mean_object", mean.value()[None], outputs)
        return {name: scores.mean(name) for name in scores.total}

    @torch.no_grad()
    def _answers(self, side: str, most: int) -> Any:
        self.model.eval()
        device = self.args.device
        for number, rows in enumerate(self.data.batches(side, self.options.batch_size, most)):
            batch = self.collator.judged(rows, number)
            inputs = {name: tensor.to(device) for name, tensor in self.collator.tensors(batch).items()}
            yield batch, {name: value.float().cpu().numpy() for name, value in self.model(**inputs).items()}


class _Squares:
    """Sums of weighted squared errors, by whose they are."""

    def __init__(self) -> None:
        self.total: dict[str, float] = {}
        self.weight: dict[str, float] = {}

    def add(self, name: str, answer: np.ndarray, outputs: Mapping[str, np.ndarray]) -> None:
        weight = outputs["weight"].astype(np.float64)
        squares = weight * (answer - outputs["target"]) ** 2
        self.total[name] = self.total.get(name, 0.0) + float(squares[weight > 0].sum())
        self.weight[name] = self.weight.get(name, 0.0) + float(weight.sum())

    def mean(self, name: str) -> float:
        return self.total[name] / max(self.weight[name], 1e-12)
