"""What a training remembers: the mean of the weights, the best state, the losses."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

State = dict[str, torch.Tensor]
_STATE = "nightcat.safetensors"


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
        for name, value in load_file(folder / _STATE, device=str(device)).items():
            kind, _, key = name.partition("|")
            getattr(self, kind)[key] = value
        with safe_open(folder / _STATE, "pt") as stream:
            notes = stream.metadata()
        self.loss, self.waited = float(notes["loss"]), int(notes["waited"])
        self.history = json.loads(notes["history"])


def is_whole(folder: Path) -> bool:
    """Tell whether a checkpoint was written to its end; what ``Watch`` remembers is written last.

    Parameters
    ----------
    folder : Path
        Of the checkpoint.

    Returns
    -------
    bool
        False for one that was broken off.
    """
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, "pt"):
                pass
        with safe_open(folder / _STATE, "pt") as stream:
            remembered = "history" in (stream.metadata() or {})
    except (OSError, ValueError, SafetensorError):
        return False
    return remembered and (folder / "optimizer.pt").is_file()


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
