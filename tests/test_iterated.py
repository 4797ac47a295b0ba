"""Fits of blocks that a function yields, against fits of all rows in memory."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from estimators import rows
from mixtures import TYPES
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from tables import RACED, assert_same, given_start, table

from skgen import EMGaussianMixture
from skgen.mixture import _restarts

N = 12_000


def in_blocks(*tables, size=1_700):
    """Return a function that yields blocks of tables, side by side, in a new order."""
    n = len(tables[0])

    def blocks():
        for start in reversed(range(0, n, size)):
            parts = tuple(t[start : start + size] for t in tables)
            yield parts if len(parts) > 1 else parts[0]

    return blocks


@pytest.mark.parametrize("covariance_type", TYPES)
def test_blocks_are_fitted_as_rows_in_memory(covariance_type):
    X, options = table(N), {"covariance_type": covariance_type, "random_state": 0}
    blockwise = EMGaussianMixture(3, **options).fit(in_blocks(X))
    assert_same(blockwise, EMGaussianMixture(3, **options).fit(X), **RACED)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_given_start(covariance_type):
    X = table(N)
    options = given_start(X, covariance_type)
    blockwise = EMGaussianMixture(2, **options).fit(in_blocks(X))
    assert_same(blockwise, EMGaussianMixture(2, **options).fit(X))


def test_weights_come_with_the_blocks():
    X, weights = table(N), np.random.RandomState(0).randint(0, 3, N)
    weights[2_000:5_000] = 0  # whole blocks
    blockwise = EMGaussianMixture(3, random_state=0).fit(in_blocks(X, weights))
    in_memory = EMGaussianMixture(3, random_state=0).fit(X, sample_weight=weights)
    assert_same(blockwise, in_memory, **RACED)


@pytest.mark.parametrize(
    "w", [0.3, 1e30, [1e-200, 2e-200, 3e-200], [1, 2, 3], [1, 2.5]]
)
def test_blocks_are_worth_as_many_rows_as_an_array(w):
    """Kish's effective number of rows, or the sum of whole weights."""
    X = table(2_000)
    w = np.resize(np.array(w, float), 2_000)
    expected = w.sum() if 1 < w[-1] < 9 and (w % 1 == 0).all() else None
    shares = w / w.max()
    expected = expected or shares.sum() ** 2 / (shares**2).sum()
    fitted = EMGaussianMixture(max_iter=1, tol=1e9).fit(in_blocks(X, w))
    assert fitted._spread.weight == pytest.approx(expected, rel=1e-12)
    squares = (X - np.average(X, axis=0, weights=shares)) ** 2
    variances = np.average(squares, axis=0, weights=shares)
    assert_allclose(fitted._spread.variances, variances, rtol=1e-9)
    again = fitted.partial_fit(X[:100], sample_weight=w[:100])
    expected *= 1 + w[:100].sum() / w.sum()
    assert again._spread.weight == pytest.approx(expected, rel=1e-12)


def test_blocks_may_be_frames_and_float32_and_empty():
    X = pd.DataFrame(table(N).astype(np.float32), columns=["a", "b", "c"])

    def blocks():
        yield X[:0]
        yield from in_blocks(X)()
        yield X[:0], np.ones(0)

    model = EMGaussianMixture(3, random_state=0).fit(blocks)
    assert_same(model, EMGaussianMixture(3, random_state=0).fit(X), **RACED)
    assert_array_equal(model.feature_names_in_, X.columns)
    assert model.sample().dtype == np.float32


@pytest.mark.thorough
def test_the_rows_are_never_all_in_memory(monkeypatch):
    monkeypatch.setattr(_restarts, "_MOST_NUMBERS", 4_000)
    n, d = 200_000, 4

    def blocks():
        rng = np.random.RandomState(0)
        for _ in range(n // 2_000):
            yield rng.standard_normal((2_000, d)) + 4 * rng.randint(3, size=(2_000, 1))

    tracemalloc.start()
    try:
        EMGaussianMixture(3, tol=9.0, random_state=0).fit(blocks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * n * d / 4


def test_a_fit_can_be_gone_on_with_and_predicts():
    X = table(N)
    model = EMGaussianMixture(3, random_state=0)
    labels = model.fit(in_blocks(X)).predict(X)
    assert_array_equal(labels, EMGaussianMixture(3, random_state=0).fit(X).predict(X))
    before = model.weights_.copy()
    assert model.partial_fit(X[:1_000]).n_features_in_ == 3
    assert (model.weights_ != before).all()


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (iter([rows(50, 2)]), r"an iterator, .* read only once \(use partial_fit"),
        ((X for X in [rows(50, 2)]), "an iterator, which can be read only once"),
        (lambda: 3, "Got one that returns int instead"),
        (lambda: iter([]), "Got one that returns no rows instead"),
        (
            lambda: iter([(rows(50, 2), np.zeros(50))]),
            "Got one that returns a weight of zero for every row",
        ),
    ],
)
def test_what_is_no_function_of_blocks_is_named(blocks, message):
    with pytest.raises(ValueError, match=r"The 'X' argument of EMGauss.*" + message):
        EMGaussianMixture(2).fit(blocks)


def test_what_is_wrong_with_a_block_is_named():
    X = table(N)
    with pytest.raises(ValueError, match=r"'sample_weight' argument.*can return pairs"):
        EMGaussianMixture(2).fit(in_blocks(X), sample_weight=np.ones(N))
    with pytest.raises(ValueError, match="nowhere negative"):
        EMGaussianMixture(2).fit(in_blocks(X, -np.ones(N)))
    with pytest.raises(ValueError, match=r"shape \(1700,\)|shape \(100,\)"):
        EMGaussianMixture(2).fit(lambda: iter([(X[:100], np.ones(1_700))]))
    with pytest.raises(ValueError, match=r"2 features.*3 features"):
        EMGaussianMixture(2).fit(lambda: iter([X, X[:, :2]]))
    X[-1, 0] = np.inf
    model = EMGaussianMixture(2, random_state=0).fit(X[:100])
    before = dict(vars(model))
    with pytest.raises(ValueError, match="infinity"):
        model.fit(in_blocks(X))
    assert vars(model) == before


def test_blocks_that_change_are_named():
    X, sizes = table(N), iter(range(5_000, 0, -100))
    with pytest.raises(ValueError, match="returned 4900 rows, then 4800"):
        EMGaussianMixture(2).fit(lambda: iter([X[: next(sizes)]]))


# -- whole numbers are answered a few at a time ------------------------------------


def test_whole_numbers_become_floats_a_few_at_a_time():
    X = np.round(table(200_000, 4)).astype(np.int16)
    model = EMGaussianMixture(3, random_state=0).fit(X + rows(200_000, 4))
    expected = model.score_samples(X.astype(float)), model.transform(X.astype(float))
    labels = model.predict(X.astype(float))
    for method, answer in (
        (model.score_samples, expected[0]),
        (model.transform, expected[1]),
        (model.predict, labels),
    ):
        tracemalloc.start()
        try:
            with config_context(working_memory=1):
                found = method(X)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert found.dtype == answer.dtype
        assert_allclose(found, answer, rtol=1e-13, atol=1e-13)
        assert peak < answer.nbytes + 8 * X.size / 2
    with pytest.raises(ValueError, match=r"3 features.*4 features"):
        model.score_samples(X[:, :3])
    assert model.score(X) == pytest.approx(expected[0].mean())
