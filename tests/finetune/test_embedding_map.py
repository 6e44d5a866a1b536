"""The map of the embedding: the same axes for whatever is laid on it."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.embedding_map import draw_map, flatten, held
from finetune.embedding_space import EmbeddingSpace, fit_space
from tests.finetune.test_embedding_space import WIDTH, known


@pytest.fixture(scope="module")
def space() -> EmbeddingSpace:
    found = fit_space(known(600, 0), known(400, 1))
    assert found is not None
    return found


def test_the_place_of_an_object_does_not_depend_on_the_others(space: EmbeddingSpace) -> None:
    points = flatten(space, known(50, 2))
    assert points.shape == (50, 2)
    np.testing.assert_allclose(flatten(space, known(50, 2)[7:8])[0], points[7], rtol=1e-9)


def test_the_axes_are_the_two_that_hold_most(space: EmbeddingSpace) -> None:
    points = flatten(space, known(4000, 3))
    np.testing.assert_allclose(points.std(0), 1, atol=0.1)
    assert abs(np.corrcoef(points.T)[0, 1]) < 0.05
    variance = known(4000, 3).var(0)
    assert held(space) == pytest.approx(np.sort(variance)[-2:].sum() / variance.sum(), abs=0.02)


def drawn(figure: object) -> list[str]:
    (axis, *_) = figure.axes  # type: ignore[attr-defined]
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_classes_novel_and_taught_objects_are_marked(space: EmbeddingSpace) -> None:
    points = flatten(space, known(30, 4))
    values = ["a"] * 20 + ["b"] * 9 + [None]
    figure = draw_map(space, points, values, [True] * 3 + [False] * 27, ["odd"] * 2 + [None] * 28, "class")
    assert drawn(figure) == [
        "training objects", "a (20)", "b (9)", "no answer (1)", "novel (3)", "taught: odd (2)",
    ]  # fmt: skip
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    np.testing.assert_allclose(lines["a (20)"].get_xydata(), points[:20])
    numbers = draw_map(space, points, list(np.arange(30.0)), [False] * 30, [None] * 30, "teff / K")
    assert numbers.axes[1].get_ylabel() == "teff / K"


def test_the_legend_counts_all_objects_where_only_some_are_drawn(
    space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.embedding_map.SHOWN", 10)
    values = ["a"] * 20 + ["b"] * 9 + [None]
    figure = draw_map(space, flatten(space, known(30, 4)), values, [False] * 30, [None] * 30, "class")
    assert drawn(figure) == ["training objects", "a (20)", "b (9)", "no answer (1)"]
    shown = [line.get_xydata() for line in figure.axes[0].get_lines() if line.get_label() != "training objects"]
    assert sum(len(one) for one in shown) == 10


def test_what_is_far_away_is_drawn_on_the_border(space: EmbeddingSpace) -> None:
    vectors = known(1000, 5)
    vectors[0] += 1e6
    figure = draw_map(space, flatten(space, vectors), ["a"] * 1000, [True] + [False] * 999, [None] * 1000, "class")
    low, high = figure.axes[0].get_xlim()
    assert high - low < 20


def test_a_space_of_one_axis_has_a_map(space: EmbeddingSpace) -> None:
    vectors = np.outer(np.arange(60.0), np.ones(WIDTH))
    noise = np.random.default_rng(0).normal(0, 1e-3, vectors.shape)
    line = fit_space(vectors + noise, vectors - noise)
    assert line is not None
    points = flatten(line, vectors)
    assert points.shape == (60, 2)
    assert (points[:, 1] == 0).all()
