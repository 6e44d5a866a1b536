"""Novelty and taught classes, on objects whose place in the embedding is known."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.embedding_space import COLUMNS, FEWEST, EmbeddingSpace, fit_space, space_rows
from transforms.flags import bits

WIDTH = 12


def known(n: int, seed: int) -> np.ndarray:
    """Two kinds of objects in five of twelve dimensions, with different scales and a little noise in the others."""
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 1, (n, WIDTH)) * np.array([5, 3, 2, 1, 0.5] + [0.01] * (WIDTH - 5))
    points[::2, 0] += 20
    return points + 7


@pytest.fixture(scope="module")
def space() -> EmbeddingSpace:
    found = fit_space(known(600, 0), known(400, 1))
    assert found is not None
    return found


def test_known_objects_are_below_one_and_strangers_above(space: EmbeddingSpace) -> None:
    unseen = space.novelty(known(2000, 2))
    assert 0.003 < (unseen > 1).mean() < 0.03, "99 percent are meant to be below"
    rng = np.random.default_rng(3)
    assert (space.novelty(known(50, 4) + rng.normal(0, 1, (50, WIDTH)) * 8) > 1).all()


def test_what_lies_outside_of_the_axes_counts(space: EmbeddingSpace) -> None:
    few = fit_space(known(24, 0), known(24, 1))  # twelve axes are too many for 24 objects
    assert few is not None
    assert few.axes.shape[1] < WIDTH
    stranger = few.mean + 5 * np.linalg.svd(few.axes)[0][:, -1]
    assert np.abs((stranger - few.mean) @ few.axes).max() < 1e-9
    assert few.novelty(stranger[None])[0] > 10


def test_an_answer_does_not_depend_on_its_batch_mates(space: EmbeddingSpace) -> None:
    points = known(40, 5)
    order = np.random.default_rng(6).permutation(40)
    np.testing.assert_allclose(space.novelty(points)[order], space.novelty(points[order]), rtol=1e-12)
    np.testing.assert_allclose(space.novelty(points[:1]), space.novelty(points)[:1], rtol=1e-12)


def test_a_saved_space_says_the_same(space: EmbeddingSpace) -> None:
    taught = space.teach("odd", known(5, 7) * 0 + np.arange(WIDTH) + np.eye(5, WIDTH) * 0.1, list("abcde"))
    again = EmbeddingSpace.restore(*taught.state())
    points = known(30, 8)
    np.testing.assert_allclose(again.novelty(points), taught.novelty(points), rtol=1e-6)
    np.testing.assert_allclose(again.nearest_taught(points)[1], taught.nearest_taught(points)[1], rtol=1e-5)
    assert again.taught[0].examples == tuple("abcde")


FEW, BROKEN, SAME = (lambda a: a[: FEWEST - 1]), (lambda a: np.full_like(a, np.nan)), (lambda a: a * 0)


@pytest.mark.parametrize("spoil", [FEW, BROKEN, SAME])
def test_too_few_training_objects_or_all_the_same_give_no_space(spoil) -> None:
    assert fit_space(spoil(known(100, 0)), known(100, 1)) is None


@pytest.mark.parametrize("spoil", [FEW, BROKEN])
def test_too_few_validation_objects_give_no_space(spoil) -> None:
    assert fit_space(known(100, 0), spoil(known(100, 1))) is None


def test_a_class_is_taught_by_a_handful(space: EmbeddingSpace) -> None:
    rng = np.random.default_rng(9)
    middle = known(1, 10)[0] + np.array([0, 30, 0, 8] + [0] * (WIDTH - 4))

    def members(n: int) -> np.ndarray:
        return middle + rng.normal(0, 0.3, (n, WIDTH)) * np.array([5, 3, 2, 1, 0.5] + [0.01] * (WIDTH - 5))

    taught = space.teach("odd", members(8), [str(i) for i in range(8)])
    rows = space_rows(taught, members(200), keep=False)
    inside = np.mean([row["taught_class"] == "odd" for row in rows])
    assert inside > 0.9
    assert all(row["flags"] & bits("TAUGHT") for row in rows if row["taught_class"])
    assert all(row["taught_distance"] > 0 for row in rows)
    others = space_rows(taught, known(1000, 11), keep=False)
    assert np.mean([row["taught_class"] is not None for row in others]) <= 0.01


def test_a_second_lesson_replaces_the_first(space: EmbeddingSpace) -> None:
    lesson = known(1, 12) + np.array([0, 50] + [0] * 10) + np.eye(4, WIDTH) * 0.1
    once = space.teach("a", lesson, list("wxyz"))
    assert [one.name for one in once.teach("b", lesson + 1, list("wxyz")).taught] == ["a", "b"]
    assert [one.examples for one in once.teach("a", lesson + 1, list("1234")).taught] == [tuple("1234")]


def test_examples_that_are_few_or_have_nothing_in_common_are_refused(space: EmbeddingSpace) -> None:
    with pytest.raises(ValueError, match="'odd': 2 examples are too few"):
        space.teach("odd", known(2, 13), ["a", "b"])
    with pytest.raises(ValueError, match="too little in common"):
        space.teach("odd", known(12, 14), [str(i) for i in range(12)])


def test_rows_without_a_space_or_with_a_broken_embedding_are_null(space: EmbeddingSpace) -> None:
    points = known(3, 15).astype(np.float32)
    points[1, 4] = np.nan
    names = {column.name for column in COLUMNS}
    for row in space_rows(None, points, keep=False):
        assert {name for name in names if row[name] is not None} == set()
    rows = space_rows(space, points, keep=True)
    assert [row["novelty"] is None for row in rows] == [False, True, False]
    assert rows[1]["embedding"] is None
    np.testing.assert_array_equal(rows[2]["embedding"], points[2])
