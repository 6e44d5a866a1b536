from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from finetune import losses
from finetune.train import train_task
from finetune.training_options import OptionsError, make_options
from finetune.watched_trainer import TrainingError
from tests.finetune.test_breakdown import TASK as STARS
from tests.finetune.toy_task import TASK

RNG = torch.Generator().manual_seed(0)
LOGITS = torch.randn(7, 4, generator=RNG)
TARGET = torch.tensor([0, 1, 2, 3, 1, 1, 0])
ONE_HOT = functional.one_hot(TARGET, 4).float()
NAN = float("nan")


def test_ordinary_labels_give_the_ordinary_cross_entropy() -> None:
    assert torch.allclose(losses.class_loss(LOGITS, ONE_HOT), functional.cross_entropy(LOGITS, TARGET))
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    expected = functional.cross_entropy(LOGITS, TARGET, weight=weights)
    assert torch.allclose(losses.class_loss(LOGITS, ONE_HOT, weights=weights), expected)


def test_labels_of_several_classes_and_missing_ones() -> None:
    likelihood = torch.rand(7, 4, generator=RNG)
    for smoothing in (0.0, 0.1):
        mixed = (1 - smoothing) * LOGITS.softmax(1) + smoothing / 4
        expected = -(mixed * likelihood).sum(1).log().mean()
        assert torch.allclose(losses.class_loss(LOGITS, likelihood, smoothing), expected)
    missing = LOGITS.clone().requires_grad_()
    losses.class_loss(missing, torch.ones(7, 4), gamma=2.0).backward()
    assert missing.grad is not None
    assert missing.grad.abs().max() < 1e-6, "a missing label teaches nothing"


def test_focal_counts_easy_objects_less() -> None:
    p = LOGITS.softmax(1)[torch.arange(7), TARGET]
    expected = (-((1 - p) ** 2) * p.log()).mean()
    assert torch.allclose(losses.class_loss(LOGITS, ONE_HOT, gamma=2.0), expected)


def test_binary_and_squared_skip_what_is_missing() -> None:
    x, y = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([1.0, NAN, 0.0])
    keep = torch.tensor([0, 2])
    expected = functional.binary_cross_entropy_with_logits(x[keep], y[keep])
    assert torch.allclose(losses.binary_loss(x, y), expected)
    assert torch.allclose(losses.squared_loss(x, y), functional.mse_loss(x[keep], y[keep]))
    assert losses.squared_loss(x, torch.full((3,), NAN)) == 0


@pytest.mark.parametrize("name", ["binary", "squared", "gaussian", "quantile", "votes", "masked"])
def test_no_label_no_gradient(name: str) -> None:
    x = torch.randn(5, 3, generator=RNG, requires_grad=True)
    empty = torch.full((5, 3), NAN)
    made = {
        "binary": lambda: losses.binary_loss(x, empty),
        "squared": lambda: losses.squared_loss(x, empty),
        "gaussian": lambda: losses.gaussian_loss(x, x, empty),
        "quantile": lambda: losses.quantile_loss(x, empty[:, 0], (0.16, 0.5, 0.84)),
        "votes": lambda: losses.votes_loss(x, torch.zeros(5, 3)),
        "masked": lambda: losses.masked_loss(x, empty, torch.ones(5, 3, dtype=torch.bool)),
    }[name]()
    made.backward()
    assert made == 0
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros(5, 3))


def test_gaussian_is_the_density_and_does_not_blame_the_label() -> None:
    mean, scale, value = np.array([1.0, 2.0]), np.array([0.5, 3.0]), np.array([1.2, -4.0])
    pair = torch.tensor(mean), torch.tensor(2 * np.log(scale))
    expected = -stats.norm(mean, scale).logpdf(value).mean() - 0.5 * np.log(2 * np.pi)
    assert losses.gaussian_loss(*pair, torch.tensor(value)) == pytest.approx(expected)
    error = np.array([2.0, 1.0])
    wide = -stats.norm(mean, np.hypot(scale, error)).logpdf(value).mean() - 0.5 * np.log(2 * np.pi)
    assert losses.gaussian_loss(*pair, torch.tensor(value), torch.tensor(error)) == pytest.approx(wide)


def test_pinball_is_least_at_the_quantiles() -> None:
    value = torch.tensor(np.random.default_rng(1).gamma(2.0, 1.0, 4001))
    levels = (0.1, 0.5, 0.9)
    found = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([found], lr=0.5, max_iter=200, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        loss = losses.quantile_loss(found.expand(4001, 3), value, levels)
        loss.backward()
        return loss

    optimiser.step(step)
    assert found.tolist() == pytest.approx(np.quantile(value.numpy(), levels).tolist(), abs=0.03)


def test_votes_follow_the_dirichlet_multinomial() -> None:
    votes, alpha = np.array([[3, 0, 7], [1, 1, 0]]), np.array([[0.5, 1.0, 4.0], [2.0, 2.0, 2.0]])
    expected = -np.mean([stats.dirichlet_multinomial(a, v.sum()).logpmf(v) for a, v in zip(alpha, votes, strict=True)])
    log = torch.tensor(np.log(alpha))
    assert losses.votes_loss(log, torch.tensor(votes, dtype=torch.float64)) == pytest.approx(expected)
    one = losses.votes_loss(log, torch.tensor([[3.0, 0, 7], [NAN, 1, 0]]))
    assert one == pytest.approx(-stats.dirichlet_multinomial(alpha[0], 10).logpmf(votes[0]))


def test_matching_knows_which_belong_together() -> None:
    one = functional.normalize(torch.randn(16, 8, generator=RNG), dim=1)
    assert losses.matching_loss(one, 3 * one) < 0.02
    assert losses.matching_loss(one, one.roll(1, 0)) > 5
    assert torch.allclose(losses.matching_loss(one, one.flip(1)), losses.matching_loss(one.flip(1), one))


def test_only_what_was_hidden_is_judged_with_its_weight() -> None:
    value, prediction = torch.tensor([1.0, 2.0, NAN, 4.0]), torch.tensor([0.0, 0.0, 0.0, 0.0])
    hidden = torch.tensor([True, False, True, True])
    assert losses.masked_loss(prediction, value, hidden) == pytest.approx((1 + 16) / 2)
    ivar = torch.tensor([3.0, 9.0, NAN, 1.0])
    assert losses.masked_loss(prediction, value, hidden, ivar) == pytest.approx((3 * 1 + 16) / 4)


def test_the_next_observation_is_judged_only_where_both_are_there() -> None:
    mean = torch.tensor([[2.0, 5.0, 9.0, 0.0]])
    value = torch.tensor([[1.0, 2.5, 7.0, 8.0]])
    there = torch.tensor([[True, True, True, False]])
    expected = 0.5 * ((2 - 2.5) ** 2 + (5 - 7) ** 2) / 2
    assert losses.next_loss(mean, torch.zeros(1, 4), value, there, None) == pytest.approx(expected)


def test_balanced_weights_make_rare_classes_count_as_much() -> None:
    targets = [{"target": np.array(t)} for t in [0] * 9 + [1, -100]]
    loss = losses.make_class_loss("cross_entropy", 0.0, True, targets, 2)
    logits = torch.tensor([[2.0, 0.0]] * 9 + [[2.0, 0.0]])
    truth = {"target": torch.tensor([0] * 9 + [1])}
    each = -logits.log_softmax(1)[0]
    assert loss({"logits": logits}, truth) == pytest.approx(float(each.mean()))


def test_names_are_checked_with_all_other_options() -> None:
    with pytest.raises(OptionsError) as caught:
        make_options(TASK, {"loss": "hinge", "label_smoothing": 2.0, "class_weights": "some"})
    assert len(caught.value.faults) == 3
    assert "loss 'hinge' is not one of cross_entropy, focal, focal:GAMMA" in str(caught.value)
    with pytest.raises(OptionsError, match="label_smoothing needs a loss"):
        make_options(TASK, {"label_smoothing": 0.1})
    with pytest.raises(OptionsError, match="task stellar_parameters has no classes"):
        make_options(STARS, {"loss": "focal"})
    for text in ("focal:", "focal:-1", "cross_entropy:2", ""):
        with pytest.raises(ValueError, match="is not one of"):
            losses.parse_loss(text)
    with pytest.raises(ValueError, match="needs targets of one array by class, and those of the task are a, b"):
        losses.make_class_loss("focal", 0.0, False, [{"a": np.array(1), "b": np.array(1)}], 2)


def test_a_task_learns_with_another_loss() -> None:
    examples = TASK.simulate(40, 0)
    given = {"steps": 40, "loss": "focal:1.5", "label_smoothing": 0.02, "class_weights": "balanced"}
    trained = train_task(TASK, examples[:30], examples[30:], make_options(TASK, given))
    history = trained.history[0]
    assert history[-1]["validation"] < 0.5 * history[0]["validation"]
    assert trained.options.loss == "focal:1.5"
    double = replace(TASK, encode=lambda labels: {**TASK.encode(labels), "more": np.array(1)})
    with pytest.raises(TrainingError, match="needs targets of one array"):
        train_task(double, examples[:30], examples[30:], make_options(double, given))
