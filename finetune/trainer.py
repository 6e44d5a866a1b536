"""``transformers.Trainer``, extended where survey work needs it: losses of our heads, groups of learning rates, a mean
of the weights, and the best state kept in memory.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from finetune.predict import Network, accepted, stack, to_tensor
from finetune.task import Example, Prepared, Task
from finetune.training_options import TrainingOptions

Targets = Mapping[str, np.ndarray]
State = dict[str, torch.Tensor]
_STATE = "nightcat.safetensors"


class TrainingError(RuntimeError):
    """The training cannot go on; the message says at which step and why."""


class StepSampler(torch.utils.data.Sampler[int]):
    """Indices of a whole training, fixed by the seed: shuffled rounds, or weighted draws.

    Parameters
    ----------
    count : int
        Examples.
    total : int
        Indices to give.
    seed : int
        Of the order.
    weights : ndarray or None
        Chance of each example, in proportion.
    """

    def __init__(self, count: int, total: int, seed: int, weights: np.ndarray | None = None) -> None:
        rng = np.random.default_rng(seed)
        if weights is None:
            rounds = [rng.permutation(count) for _ in range(math.ceil(total / count))]
            self.indices = np.concatenate(rounds)[:total] if rounds else np.zeros(0, int)
        else:
            self.indices = rng.choice(count, total, p=weights / weights.sum())

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices.tolist())


class Collator:
    """Prepared records and targets to one augmented batch of tensors.

    Parameters
    ----------
    task : Task
        Gives ``augment``.
    names : sequence of str
        Arrays that the model takes.
    seed : int
        Batch n is augmented under the seed ``(seed, n)``, so that a training that goes on sees what it would have seen.
    """

    def __init__(self, task: Task, names: Sequence[str], seed: int) -> None:
        self.task, self.names, self.seed = task, tuple(names), seed
        self.count = 0

    def __call__(self, rows: Sequence[tuple[Prepared, Targets]]) -> dict[str, dict[str, torch.Tensor]]:
        """Stack, augment and convert one batch.

        Parameters
        ----------
        rows : sequence of (Prepared, Targets)
            The batch.

        Returns
        -------
        dict of dict of Tensor
            ``inputs`` and ``targets``.
        """
        prepared, targets = stack([p for p, _ in rows]), stack([t for _, t in rows])
        if self.task.augment is not None:
            prepared, targets = self.task.augment(prepared, targets, np.random.default_rng([self.seed, self.count]))
        self.count += 1
        return {
            "inputs": {name: to_tensor(np.asarray(prepared[name])) for name in self.names},
            "targets": {name: to_tensor(np.asarray(value)) for name, value in targets.items()},
        }


@dataclass(slots=True)
class Watch:
    """What is remembered of a training beside the weights themselves.

    Parameters
    ----------
    decay : float
        Of the running mean of the weights; 0 for none.
    mean : dict of str to Tensor
        The running mean.
    best : dict of str to Tensor
        Weights with the smallest validation loss.
    loss : float
        That loss.
    waited : int
        Evaluations since then.
    history : list of dict
        Step, training loss since the last entry, and validation loss.
    """

    decay: float
    mean: State
    best: State
    loss: float
    waited: int
    history: list[dict[str, float]]

    @classmethod
    def start(cls, decay: float) -> Watch:
        """Begin with nothing.

        Parameters
        ----------
        decay : float
            Of the running mean.

        Returns
        -------
        Watch
            Empty.
        """
        return cls(decay, {}, {}, math.inf, 0, [])

    def update(self, model: nn.Module, step: int) -> None:
        """Take the weights after one step into the mean; early steps count less long.

        Parameters
        ----------
        model : Module
            After the step.
        step : int
            Its number, from 1.
        """
        if not self.decay:
            return
        if not self.mean:
            self.mean = copy_state(model)
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.mean[name].lerp_(value.detach(), 1 - decay)
            else:
                self.mean[name].copy_(value)

    def save(self, folder: Path) -> None:
        """Write it into a checkpoint.

        Parameters
        ----------
        folder : Path
            Of the checkpoint.
        """
        tensors = {f"mean|{k}": v for k, v in self.mean.items()} | {f"best|{k}": v for k, v in self.best.items()}
        notes = {"loss": repr(self.loss), "waited": str(self.waited), "history": json.dumps(self.history)}
        save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, folder / _STATE, metadata=notes)

    def restore(self, folder: Path, device: torch.device) -> None:
        """Read it back from a checkpoint.

        Parameters
        ----------
        folder : Path
            Of the checkpoint.
        device : torch.device
            Of the model.
        """
        from safetensors import safe_open

        for name, value in load_file(folder / _STATE, device=str(device)).items():
            kind, _, key = name.partition("|")
            getattr(self, kind)[key] = value
        with safe_open(folder / _STATE, "pt") as stream:
            notes = stream.metadata()
        self.loss, self.waited = float(notes["loss"]), int(notes["waited"])
        self.history = json.loads(notes["history"])


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
    ) -> None:
        self.task, self.options, self.weights = task, options, weights
        self.validation, self.watch = list(validation), Watch.start(options.ema)
        self.collator = Collator(task, accepted(model, sorted(train[0][0])), seed)
        self.frozen = freeze(model, options.freeze)
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
        """AdamW with a group for each learning rate, and no decay on vectors.

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
            groups = parameter_groups(model or self.model, self.options)
            self.optimizer = torch.optim.AdamW(groups, lr=self.options.learning_rate)
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
        metrics = {"eval_loss": loss}
        self.log({**metrics, "train_loss": entry["loss"]})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


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
    from finetune.predict import resolve_device

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


def parameter_groups(model: nn.Module, options: TrainingOptions) -> list[dict[str, Any]]:
    """Group the parameters by learning rate and decay.

    Parameters
    ----------
    model : Module
        With frozen parameters marked.
    options : TrainingOptions
        Gives ``lr_factors`` and ``weight_decay``.

    Returns
    -------
    list of dict
        For the optimiser, in a fixed order.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        factor = next((f for pattern, f in options.lr_factors.items() if re.search(pattern, name)), 1.0)
        decay = options.weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": options.learning_rate * factor, "weight_decay": decay}
        for (factor, decay), parameters in sorted(groups.items(), key=lambda pair: pair[0])
    ]


def balance_weights(examples: Sequence[Example], keys: Sequence[str]) -> np.ndarray | None:
    """Chances that make each combination of values equally frequent.

    Parameters
    ----------
    examples : sequence of Example
        Training objects.
    keys : sequence of str
        ``"origin"`` or names of labels.

    Returns
    -------
    ndarray of float64 or None
        One for each example; None without keys.
    """
    if not keys:
        return None
    values = [tuple(e.origin if key == "origin" else e.labels.get(key) for key in keys) for e in examples]
    counts = Counter(values)
    return np.array([1.0 / counts[value] for value in values])


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


def run_network(network: Network, prepared: Sequence[Prepared], size: int) -> dict[str, np.ndarray]:
    """Raw outputs for many records, batch by batch.

    Parameters
    ----------
    network : Network
        The model.
    prepared : sequence of Prepared
        At least one record.
    size : int
        Fixed batch.

    Returns
    -------
    dict of str to ndarray
        First axis: the records.
    """
    parts = [network(prepared[i : i + size], size) for i in range(0, len(prepared), size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def copy_state(model: nn.Module) -> State:
    """Copy the weights of a model.

    Parameters
    ----------
    model : Module
        Left as it is.

    Returns
    -------
    dict of str to Tensor
        On the same device.
    """
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
