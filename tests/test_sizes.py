"""The size model against a direct maximum of SciPy's own likelihood, and against what sizes must not depend on."""

import numpy as np
import pytest
from scipy import optimize, stats

from chromolib import sizes


def drawn(seed=0, n=300):
    rng = np.random.default_rng(seed)
    labels = rng.integers(24, size=n * 4)
    values = np.array([[-0.05, -0.03]]) * labels[:, None] + 0.1 * rng.standard_t(4, size=(len(labels), 2))
    return values, labels


def test_the_fit_is_the_maximum_of_scipys_likelihood():
    values, labels = drawn()
    model = sizes.fit(values, labels)
    part = values[labels == 7]

    def loss(numbers):
        root = np.array([[numbers[2], 0], [numbers[3], numbers[4]]])
        return -stats.multivariate_t(numbers[:2], root @ root.T, 4).logpdf(part).sum()

    best = optimize.minimize(loss, [*part.mean(axis=0), 0.1, 0, 0.1], method="BFGS")
    found = -stats.multivariate_t(model.location[7], model.scatter[7], 4).logpdf(part).sum()
    assert found == pytest.approx(best.fun, abs=1e-6)
    assert model.location[7] == pytest.approx(best.x[:2], abs=1e-4)


def test_the_likelihood_is_scipys():
    values, labels = drawn()
    model = sizes.fit(values, labels)
    table = sizes.log_likelihood(model, values[:5])
    assert table.shape == (5, 24)
    expected = stats.multivariate_t(model.location[3], model.scatter[3], df=4).logpdf(values[:5])
    assert table[:, 3] == pytest.approx(expected)


def test_magnification_of_a_cell_does_not_matter():
    rng = np.random.default_rng(1)
    area_and_length = np.exp(rng.normal(6, 0.5, size=(92, 2)))
    cells = np.repeat(["a", "b"], 46)
    larger = area_and_length * np.where(cells == "b", 3.0, 1.0)[:, None]
    assert sizes.features(larger, cells) == pytest.approx(sizes.features(area_and_length, cells))
    assert np.median(sizes.features(larger, cells)[:46], axis=0) == pytest.approx([0, 0])


def test_without_cells_the_median_is_that_of_the_set():
    values = sizes.features([[1, 1], [np.e, np.e**2], [np.e**4, np.e**3]])
    assert values == pytest.approx(np.array([[-1, -2], [0, 0], [3, 1]]))


def test_a_class_without_images_has_the_size_of_any_chromosome():
    values, labels = drawn()
    kept = labels != 23
    model = sizes.fit(values[kept], labels[kept])
    assert np.isfinite(sizes.log_likelihood(model, values)).all()
    assert model.location[23] == pytest.approx(values[kept].mean(axis=0), abs=0.2)


def test_one_pixel_has_a_size():
    assert np.isfinite(sizes.features([[1, 0], [100, 20]])).all()
