"""``transformers.Trainer`` with what all our trainings need: groups of learning rates, a mean of the weights, the best
state kept in memory, and a way on from the last checkpoint that is whole.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback

from finetune.optimise import freeze, make_optimizer, parameter_groups, set_dropout
from finetune.training_options import TrainingOptions
from finetune.watch import Watch, copy_state, is_whole


class TrainingError(RuntimeError):
    """The training cannot go on; the message says at which step and why."""


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


class WatchCallback(TrainerCallback):
    """Ties ``Watch`` and the collator's count to the loop.

    Parameters
    ----------
    trainer : WatchedTrainer
        Whose loop it is.
    """

    def __init__(self, trainer: WatchedTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # numpydoc ignore=PR01
        """Begin with the batch, and with what was remembered, of the checkpoint."""
        self.trainer.collator.count = state.global_step * args.gradient_accumulation_steps
        if state.global_step:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self.trainer.watch.restore(folder, args.device)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # numpydoc ignore=PR01
        """Take the weights into the mean."""
        self.trainer.watch.update(self.trainer.model, state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # numpydoc ignore=PR01
        """Stop where nothing got better for long enough."""
        patience = self.trainer.options.patience
        control.should_training_stop |= bool(patience) and self.trainer.watch.waited >= patience

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # numpydoc ignore=PR01
        """Write what is remembered, last of all, into the checkpoint."""
        self.trainer.watch.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class WatchedTrainer(Trainer):
    """A loop that keeps its best state.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Trained in place; ``fit`` leaves the best state in it.
    options : TrainingOptions
        Checked.
    what : str
        Of what, for the messages.
    head : sequence of str
        Regular expressions on the names of the head's parameters.
    **given : Any
        Of ``Trainer``.
    """

    model: Any
    collator: Any  #: Has ``count``, the number of the next batch.
    callback: type[WatchCallback] = WatchCallback  #: Made for each trainer.

    def __init__(self, model: Any, options: TrainingOptions, what: str, head: Any = (), **given: Any) -> None:
        self.options, self.what, self.head = options, what, head
        self.watch = Watch.start(options.ema)
        self.frozen = freeze(model, options.freeze)
        set_dropout(model, options.dropout)
        self._sum, self._seen, self._judged = 0.0, 0, -1
        super().__init__(model=model, data_collator=self.collator, **given)
        self.model_accepts_loss_kwargs = False  # our loss is a mean over the batch; accumulation divides it
        self.remove_callback(PrinterCallback)
        self.add_callback(self.callback(self))

    def fit(self) -> list[dict[str, float]]:
        """Train, and leave the best state in the model.

        Returns
        -------
        list of dict
            The history.
        """
        last = last_state(Path(str(self.args.output_dir))) if self.options.resume else None
        if last is not None and self.over(last):
            self.watch.restore(last, self.args.device)
        elif self.options.steps:
            self.train(resume_from_checkpoint=None if last is None else str(last))
            if self.judges() and self._judged != self.state.global_step:
                self.evaluate()
        best = self.watch.best or self.watch.mean
        if best:
            self.model.load_state_dict(best)
        self.model.eval()
        return self.watch.history

    def over(self, folder: Path) -> bool:
        """Tell whether a training was over at a checkpoint.

        Parameters
        ----------
        folder : Path
            Of the checkpoint.

        Returns
        -------
        bool
            Its last step was judged, or it had waited long enough.
        """
        watch = Watch.start(self.options.ema)
        watch.restore(folder, self.args.device)
        done = watch.history[-1]["step"] >= self.options.steps if watch.history else False
        return done or bool(self.options.patience and watch.waited >= self.options.patience)

    def judges(self) -> bool:
        """Tell whether there is anything to judge by.

        Returns
        -------
        bool
            True unless there are no objects for it.
        """
        return True

    def outputs_and_loss(self, model: Any, inputs: dict[str, Any]) -> tuple[Any, torch.Tensor]:
        """What the model says of a batch, and its loss.

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
        raise NotImplementedError

    def judge(self) -> dict[str, float]:
        """Judge the model as it is.

        Returns
        -------
        dict of str to float
            Entries of the history; the first is the loss by which the best state is chosen.
        """
        raise NotImplementedError

    def tell(self, entry: dict[str, float]) -> None:
        """Tell of a new entry of the history.

        Parameters
        ----------
        entry : dict of str to float
            The entry.
        """

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
        outputs, loss = self.outputs_and_loss(model, inputs)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"loss is {value} at step {self.state.global_step + 1} of {self.what}")
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
            groups = parameter_groups(model or self.model, self.options, self.head)
            self.optimizer = make_optimizer(groups, self.options)
        return self.optimizer

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:  # type: ignore[override]
        """Judge the model, with the mean weights where there are any; keeps the best state.

        Parameters
        ----------
        *_, **__
            Not used.

        Returns
        -------
        dict of str to float
            ``eval_loss``, and what else was judged.
        """
        step = self._judged = self.state.global_step
        own = copy_state(self.model) if self.watch.mean else {}
        if own:
            self.model.load_state_dict(self.watch.mean)
        found = self.judge()
        name, loss = next(iter(found.items()))
        if not math.isfinite(loss):
            raise TrainingError(f"{name.replace('_', '-')} loss is {loss} at step {step} of {self.what}")
        if loss < self.watch.loss:
            self.watch.loss, self.watch.waited, self.watch.best = loss, 0, copy_state(self.model)
        else:
            self.watch.waited += 1
        if own:
            self.model.load_state_dict(own)
        entry = {"step": step, "loss": self._sum / max(self._seen, 1), **found}
        self._sum, self._seen = 0.0, 0
        self.watch.history.append(entry)
        self.tell(entry)
        others = {f"eval_{key}": value for key, value in found.items() if key != name}
        metrics = {"eval_loss": loss, **others}
        self.log({**metrics, "train_loss": entry["loss"]})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
