"""Folds against counting by hand, and every way to ask for impossible ones."""

import numpy as np
import pytest

from chromolib import folds
from chromolib.errors import StudyError


def karyotypes(n_cells):
    """Labels and cells of whole cells of 46, alternately XX and XY."""
    autosomes = np.repeat(np.arange(22), 2)
    labels = [[*autosomes, 22, 22 + cell % 2] for cell in range(n_cells)]
    return np.concatenate(labels), np.repeat([f"cell{cell:03d}" for cell in range(n_cells)], 46)


@pytest.mark.parametrize("by", ["image", "cell"])
@pytest.mark.parametrize("n_folds", [2, 5, 7])
def test_every_image_is_validated_once(by, n_folds):
    labels, cells = karyotypes(20)
    parts = folds.split(labels, cells, n_folds, by)
    assert len(parts) == n_folds
    np.testing.assert_array_equal(np.sort(np.concatenate([held for _, held in parts])), np.arange(920))
    for train, held in parts:
        assert train.dtype == held.dtype == np.int64
        np.testing.assert_array_equal(np.union1d(train, held), np.arange(920))
        assert len(train) + len(held) == 920


def test_by_image_is_stratified_to_one_image():
    labels, _ = karyotypes(20)
    counts = np.array([np.bincount(labels[held], minlength=24) for _, held in folds.split(labels)])
    assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()


def test_by_image_mixes_cells_and_by_cell_does_not():
    labels, cells = karyotypes(20)
    shared = {
        by: [np.intersect1d(cells[train], cells[held]) for train, held in folds.split(labels, cells, by=by)]
        for by in ("image", "cell")
    }
    assert all(len(both) == 20 for both in shared["image"])
    assert all(len(both) == 0 for both in shared["cell"])


def test_by_cell_balances_sexes_and_sizes():
    labels, cells = karyotypes(100)
    parts = folds.split(labels, cells, by="cell")
    assert [len(held) for _, held in parts] == [920] * 5
    y = [np.sum(labels[held] == 23) for _, held in parts]
    assert max(y) - min(y) <= 2 and sum(y) == 50


@pytest.mark.parametrize("by", ["image", "cell"])
def test_the_seed_decides(by):
    labels, cells = karyotypes(20)
    first, again, other = (folds.split(labels, cells, by=by, seed=seed)[0][1] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_unknown_cells_are_refused_with_the_reason():
    with pytest.raises(StudyError, match=r"unknown.*CIR.*image"):
        folds.split(karyotypes(20)[0], by="cell")


@pytest.mark.parametrize("n_folds", [0, 1, -5, 2.0, "5"])
def test_fewer_than_two_folds(n_folds):
    with pytest.raises(StudyError, match="n_folds"):
        folds.split(karyotypes(20)[0], n_folds=n_folds)


@pytest.mark.fault(21)
def test_a_class_with_fewer_images_than_folds():
    labels = np.array([0] * 10 + [22] * 4 + [23] * 3)
    with pytest.raises(StudyError, match=r"X \(4\), Y \(3\)"):
        folds.split(labels, n_folds=5)
    assert len(folds.split(labels, n_folds=3)) == 3


def test_fewer_cells_than_folds():
    labels, cells = karyotypes(4)
    with pytest.raises(StudyError, match="by cell, but only 4 to keep apart"):
        folds.split(np.zeros_like(labels), cells, by="cell")


@pytest.mark.parametrize("labels", [[-1] * 9, [0, 24] * 9, [0.5] * 9, [], [[0] * 9]])
def test_labels_outside_the_classes(labels):
    with pytest.raises(StudyError, match="labels"):
        folds.split(labels)


def test_other_bad_requests():
    labels, cells = karyotypes(10)
    with pytest.raises(StudyError, match="'copy': take one of image, cell, patient"):
        folds.split(labels, cells, by="copy")
    with pytest.raises(StudyError, match="45 names for 460 labels"):
        folds.split(labels, cells[:45], by="cell")


@pytest.mark.parametrize("by", ["image", "cell"])
def test_inner_stays_inside_the_training_part(by):
    labels, cells = karyotypes(40)
    train, held = folds.split(labels, cells, by=by)[2]
    kept, monitor = folds.inner(labels, train, cells, by, seed=1)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, monitor])), train)
    assert not np.isin(held, monitor).any()
    assert len(monitor) / len(train) == pytest.approx(0.2, abs=0.03)
    assert set(labels[monitor]) == set(range(24))
    if by == "cell":
        assert not np.isin(cells[monitor], cells[kept]).any()


def test_inner_takes_more_where_a_class_is_rare():
    labels = np.array([0] * 40 + [23] * 2)
    kept, monitor = folds.inner(labels, np.arange(42))
    assert len(kept) == len(monitor) == 21 and np.sum(labels[monitor] == 23) == 1


def test_inner_needs_two_images_of_each_class():
    labels = np.array([0] * 6 + [2] * 2)
    with pytest.raises(StudyError, match=r"select_on: inner needs two .* one only of: 3\. Add images") as caught:
        folds.inner(labels, np.arange(7))
    assert "n_folds" not in str(caught.value)


def test_inner_takes_more_where_cells_are_few():
    labels, cells = np.tile(np.repeat(np.arange(22), 2), 3), np.repeat(["a", "b", "c"], 44)
    kept, monitor = folds.inner(labels, np.arange(len(labels)), cells, "cell", parts=10)
    assert (len(kept), len(monitor)) == (2 * 44, 44) and not np.isin(cells[monitor], cells[kept]).any()


@pytest.mark.fault(22)
def test_duplicates_across_folds():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 4, 4), dtype=np.uint8)
    images[4], images[3] = images[0], images[2]
    parts = [(np.array([0, 1, 5]), np.array([2, 3, 4])), (np.array([2, 3, 4]), np.array([0, 1, 5]))]
    assert folds.duplicates_across(parts, images) == [(0, 0, 4), (1, 4, 0)]
    assert folds.duplicates_across(parts, rng.integers(0, 256, (6, 4, 4), dtype=np.uint8)) == []


def test_patients_keep_all_their_cells_on_one_side():
    labels, cells = karyotypes(40)
    patients = np.array([f"p{int(number) // 2}" for number in np.unique(cells, return_inverse=True)[1]])
    for train, held in folds.split(labels, patients, by="patient"):
        assert not set(patients[train]) & set(patients[held])
        assert not set(cells[train]) & set(cells[held])


def test_the_monitor_may_be_a_tenth():
    labels, cells = karyotypes(40)
    train, _ = folds.split(labels, cells, by="cell")[0]
    kept, monitor = folds.inner(labels, train, cells, "cell", parts=10)
    assert len(monitor) / len(train) == pytest.approx(0.1, abs=0.03)
    assert not set(cells[kept]) & set(cells[monitor])
