"""``transformers.Trainer`` on a stream of unlabelled records: batches are degraded, masked, and judged against answers
that need no learning.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import PrinterCallback, Trainer, TrainerCallback

from finetune.masked import Mean, Objective
from finetune.network import accepted, stack, to_tensor
from finetune.optimise import arguments, freeze, make_optimizer, parameter_groups, set_dropout
from finetune.task import Prepared, Task
from finetune.trainer import TrainingError
from finetune.training_options import TrainingOptions
from finetune.unlabelled import Stream, Unlabelled
from finetune.watch import Watch, copy_state, is_whole

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


def last_state(folder: Path) -> Path | None:
    """The last state that is whole; later ones, which were broken off while they were written, are removed.

    Parameters
    ----------
    folder : Path
        Of the states.

    Returns
    -------
    Path or None
        None where there is none.
    """
    for path in sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True):
        if is_whole(path):
            return path
        shutil.rmtree(path)
    return None


class _Callback(TrainerCallback):
    """Ties ``Watch``, the stream's start and the collator's count to the loop."""

    def __init__(self, trainer: MaskedTrainer) -> None:
        self.trainer = trainer
        self.state = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        batches = state.global_step * args.gradient_accumulation_steps
        self.trainer.collator.count = batches
        self.trainer.train_dataset.start = batches * args.per_device_train_batch_size
        if state.global_step:
            self.state = str(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            self.trainer.watch.restore(Path(self.state), args.device)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.state:  # the trainer does it too, but then draws a number to begin the stream
            self.trainer._load_rng_state(self.state)
            self.state = ""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.watch.update(self.trainer.model, state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        patience = self.trainer.options.patience
        control.should_training_stop |= bool(patience) and self.trainer.watch.waited >= patience

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.watch.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class MaskedTrainer(Trainer):
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

    model: Any
    train_dataset: Any
    objective: Objective

    def __init__(
        self, task: Task, objective: Objective, model: Any, data: Unlabelled, options: TrainingOptions, share: float,
        folder: str, say: Any,
    ) -> None:  # fmt: skip
        self.objective, self.data, self.options, self.say = objective, data, options, say
        self.watch = Watch.start(options.ema)
        self.collator = MaskingCollator(task, objective, accepted(model, objective.arrays), share, options.seed)
        self.frozen = freeze(model, options.freeze)
        set_dropout(model, options.dropout)
        self._sum, self._seen, self._judged = 0.0, 0, -1
        given = arguments(options, options.seed, folder, judged=True)
        given.ignore_data_skip = True  # the stream begins where it has to
        given.save_total_limit = 2  # the last one may have been broken off while it was written
        super().__init__(
            model=model,
            args=given,
            data_collator=self.collator,
            train_dataset=Stream(data, options.seed),
            eval_dataset=[],  # type: ignore[arg-type]
        )
        self.model_accepts_loss_kwargs = False
        self.remove_callback(PrinterCallback)
        self.add_callback(_Callback(self))

    def fit(self) -> list[dict[str, float]]:
        """Train, and leave the best state in the model.

        Returns
        -------
        list of dict
            The history.
        """
        last = last_state(Path(str(self.args.output_dir))) if self.options.resume else None
        if last is not None and self._finished(last):
            self.watch.restore(last, self.args.device)
        elif self.options.steps:
            self.train(resume_from_checkpoint=None if last is None else str(last))
            if self._judged != self.state.global_step:
                self.evaluate()
        best = self.watch.best or self.watch.mean
        if best:
            self.model.load_state_dict(best)
        self.model.eval()
        return self.watch.history

    def _finished(self, folder: Path) -> bool:
        """Tell whether a training was over, and only its model was not written yet."""
        watch = Watch.start(self.options.ema)
        watch.restore(folder, self.args.device)
        over = watch.history[-1]["step"] >= self.options.steps if watch.history else False
        return over or bool(self.options.patience and watch.waited >= self.options.patience)

    def _save_checkpoint(self, *args: Any, **keywords: Any) -> None:
        try:
            super()._save_checkpoint(*args, **keywords)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch tells of a full disk as a RuntimeError
            raise TrainingError(
                f"the state at step {self.state.global_step} cannot be written to {self.args.output_dir}: {error}; "
                "what was saved before is intact, and --resume goes on from there"
            ) from error

    def compute_loss(  # numpydoc ignore=PR01
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Loss of one batch; parameters as in ``Trainer``.

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
        outputs = model(**inputs)
        value = float(outputs["loss"].detach())
        if not math.isfinite(value):
            raise TrainingError(f"loss is {value} at step {self.state.global_step + 1} of {self.objective.modality}")
        self._sum, self._seen = self._sum + value, self._seen + 1
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

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
            self.optimizer = make_optimizer(parameter_groups(model or self.model, self.options), self.options)
        return self.optimizer

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:  # type: ignore[override]
        """Masked loss on the held-out records, with the mean weights where there are any; keeps the best state.

        Parameters
        ----------
        *_, **__
            Not used.

        Returns
        -------
        dict of str to float
            ``eval_loss`` and ``eval_error``.
        """
        step = self._judged = self.state.global_step
        own = copy_state(self.model) if self.watch.mean else {}
        if own:
            self.model.load_state_dict(self.watch.mean)
        loss, error = self._held_out()
        if not math.isfinite(loss):
            raise TrainingError(f"held-out loss is {loss} at step {step} of {self.objective.modality}")
        if loss < self.watch.loss:
            self.watch.loss, self.watch.waited, self.watch.best = loss, 0, copy_state(self.model)
        else:
            self.watch.waited += 1
        if own:
            self.model.load_state_dict(own)
        entry = {"step": step, "loss": self._sum / max(self._seen, 1), "held_out": loss, "error": error}
        self._sum, self._seen = 0.0, 0
        self.watch.history.append(entry)
        self.say(f"step {step}: loss {entry['loss']:.4f}, held out {loss:.4f}, masked error {error:.4f}")
        metrics = {"eval_loss": loss, "eval_error": error}
        self.log({**metrics, "train_loss": entry["loss"]})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

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
