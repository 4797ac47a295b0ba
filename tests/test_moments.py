"""Moments of the few rows that each component holds, against those of all rows."""

import numpy as np
import pytest
from skgen.mixture._joint import Parameters
from skgen.mixture._moments import Collector, Moments
from skgen.mixture._precision import LEAST_LOSS
from skgen.mixture._products import products_of
from skgen.mixture._statistics import Expectation, Family, maximise
from sklearn.mixture import GaussianMixture

from skgen import EMGaussianMixture
from skgen.mixture import _joint, _moments
from skgen.mixture._covariance import COVARIANCES

K, D = 8, 24
FULL = COVARIANCES["full"]


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """Let a few rows count as many, and return how many of them were gathered."""
    monkeypatch.setattr(_moments, "_LEAST_GATHERED", 1)
    monkeypatch.setattr(_moments, "_GATHERED", 200)
    monkeypatch.setattr(_joint, "_BLOCK_BYTES", 0)
    monkeypatch.setattr(_joint, "_LEAST_ROWS", 64)
    gathered, add_few = [], Moments.add_few

    def spy(self, sums, X, r, least):
        gathered.append(X.shape[0])
        add_few(self, sums, X, r, least)

    monkeypatch.setattr(Moments, "add_few", spy)
    return gathered


def clusters(rng, apart, n=3000, widths=(1.0,) * K):
    """Return rows of clusters in turn, and their mixture."""
    means = np.reshape(apart, (-1, 1)) * rng.standard_normal((K, D)) / np.sqrt(D)
    roots = np.eye(D) + 0.3 * rng.standard_normal((K, D, D)) / np.sqrt(D)
    roots *= np.reshape(widths, (K, 1, 1))
    covariances = roots @ roots.transpose(0, 2, 1)
    label = np.arange(n) * K // n
    X = means[label] + np.einsum(
        "nij,nj->ni", roots[label], rng.standard_normal((n, D))
    )
    factors = FULL.factors(covariances)
    return X, Parameters(np.full(K, 1 / K), means, covariances, factors)


def one_iteration(X, weights, parameters):
    family = Family(FULL, products_of(FULL), 0.0, np.zeros(D, dtype=bool))
    expectation = Expectation(parameters, family, LEAST_LOSS)
    found = expectation.statistics(expectation.sums(X, weights))
    return found, maximise(found, parameters, family)[0], expectation


# Narrow components take their moments by differences; near ones share blocks that are
# not few.
@pytest.mark.parametrize("widths", [(1.0,) * K, (1.0, 1e-4, 1.0, 1e-5, *[1.0] * 4)])
@pytest.mark.parametrize("apart", [[30.0] * 4 + [2.0] * 4, 7.0, 30.0])
def test_the_few_make_the_moments_of_all(widths, apart, rng, calls, monkeypatch):
    X, parameters = clusters(rng, apart=apart, widths=widths)
    X[rng.randint(len(X), size=40)] *= 0.1  # between the clusters
    weights = rng.uniform(0.1, 3.0, len(X))
    found, after, expectation = one_iteration(X, weights, parameters)
    assert expectation.moments.apart.size == (2 if min(widths) < 1 else 0)
    gathered = sum(calls)
    assert gathered == len(X) if apart == 30.0 else 0 < gathered
    assert max(calls) > 64  # more than a block at once
    monkeypatch.setattr(_moments, "_LEAST_FEATURES", D + 1)
    whole, expected, _ = one_iteration(X, weights, parameters)
    assert sum(calls) == gathered
    assert found.log_likelihood == whole.log_likelihood
    np.testing.assert_allclose(found.counts, whole.counts, rtol=1e-12)
    for k, width in enumerate(widths):
        scale = width * np.ones(D)
        np.testing.assert_allclose(
            after.means[k] / scale, expected.means[k] / scale, atol=1e-9
        )
        np.testing.assert_allclose(
            after.covariances[k] / width**2,
            expected.covariances[k] / width**2,
            atol=2e-9,
        )


def test_moments_that_are_taken_again_stay_apart(rng):
    _, parameters = clusters(rng, 30.0, widths=(1.0, 1e-4, *[1.0] * 6))
    family = Family(FULL, products_of(FULL), 0.0, np.zeros(D, dtype=bool))
    assert Expectation(parameters, family, LEAST_LOSS).moments.apart.tolist() == [1]
    moved = np.arange(K) == 4, parameters.means + 1
    again = Expectation(parameters, family, LEAST_LOSS, moved).moments
    assert again.apart.tolist() == [1, 4]
    np.testing.assert_array_equal(again.origins[4], parameters.means[4] + 1)
    np.testing.assert_array_equal(again.origins[1], parameters.means[1])


def test_only_what_is_next_to_nothing_is_left_out(rng, calls):
    n = 1000
    X, r = rng.standard_normal((n, D)), 10.0 ** rng.uniform(-300, 0, (K, n))
    r *= rng.uniform(size=(K, n)) < 0.15
    weights = rng.uniform(0.5, 2.0, n)
    r *= weights
    least = np.array([0.0, 1e-290, 1e-200, 1e-100, 1e-20, 1e-3, 1e-2, 0.1])
    moments = Moments(
        np.zeros((K, D)), np.arange(K) == 2, FULL, products_of(FULL), least
    )
    collector = Collector(moments, X, weights, n)
    for start in range(0, n, 90):
        rows = slice(start, min(start + 90, n))
        collector.add(rows, None, r[:, rows])
    counts, first, scatter, _ = moments.total(collector.finish(), np.zeros(D))
    assert calls == [180] * 5 + [100]
    given = (r > 0).sum()
    for start in range(0, n, 180):
        rows = slice(start, start + 180)
        mean = weights[rows].mean()
        r[:, rows][r[:, rows] <= mean * least[:, None]] = 0.0
    assert 0.1 * given < (r > 0).sum() < 0.9 * given
    np.testing.assert_allclose(counts, r.sum(axis=1), rtol=1e-13)
    np.testing.assert_allclose(first, r @ X, rtol=1e-10, atol=1e-12)
    for k in range(K):
        np.testing.assert_allclose(scatter[k], (r[k] * X.T) @ X, rtol=1e-10, atol=1e-12)


def test_blocks_of_many_shares_are_added_at_once(rng, calls):
    n = 256
    X, few = rng.standard_normal((n, D)), np.repeat([True, False, False, True], 64)
    r = np.where(few, np.eye(K)[rng.randint(K, size=n)].T, 1 / K)  # (K, n)
    products = products_of(FULL)
    least, none = np.full(K, 1e-13), np.zeros(K, dtype=bool)
    moments = Moments(np.zeros((K, D)), none, FULL, products, least)
    collector = Collector(moments, X, np.ones(n), n)
    collector._held = collector._held[:, :64]  # so that each block is looked at
    for start in range(0, n, 64):
        rows = slice(start, start + 64)
        F = products.features(X[rows], np.zeros(D), None, products.room(D, 64))
        collector.add(rows, F, r[:, rows])
    expected = np.einsum("kn,ni,nj->kij", r, X, X)
    for _ in range(2):  # the second look finds the same
        counts, first, scatter, _ = moments.total(collector.finish(), np.zeros(D))
        assert calls == [64, 64]
        np.testing.assert_allclose(counts, r.sum(axis=1), rtol=1e-13)
        np.testing.assert_allclose(first, r @ X, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(scatter, expected, rtol=1e-12, atol=1e-12)


def test_a_fit_ends_where_scikit_learn_ends(rng, calls):
    X, parameters = clusters(rng, n=2000, apart=12.0)
    start = {
        "weights_init": parameters.weights,
        "means_init": parameters.means + 0.3,
        "precisions_init": np.tile(np.eye(D), (K, 1, 1)),
        "reg_covar": 0.0,
    }
    ours = EMGaussianMixture(K, tol=1e-12, max_iter=500, **start).fit(X)
    theirs = GaussianMixture(K, tol=1e-12, max_iter=500, **start).fit(X)
    assert sum(calls) >= 4 * len(X)
    np.testing.assert_allclose(ours.means_, theirs.means_, atol=1e-6)
    np.testing.assert_allclose(ours.covariances_, theirs.covariances_, atol=1e-6)
    assert (np.diff(ours.lower_bounds_) >= 0).all()


def test_small_responsibilities_count(rng, calls, monkeypatch):
    # Each row has a responsibility of about 1e-8 in the two clusters beside its own.
    n, n_clusters = 4000, 20
    covariances = np.tile(np.eye(D), (n_clusters, 1, 1))
    means = 6.0 * np.eye(1, D) * np.arange(n_clusters)[:, None]
    factors = FULL.factors(covariances)
    parameters = Parameters(
        np.full(n_clusters, 1 / n_clusters), means, covariances, factors
    )
    X = means[np.arange(n) * n_clusters // n] + rng.standard_normal((n, D))
    found, _, _ = one_iteration(X, np.ones(n), parameters)
    assert calls
    monkeypatch.setattr(_moments, "_LEAST_FEATURES", D + 1)
    whole, _, _ = one_iteration(X, np.ones(n), parameters)
    np.testing.assert_allclose(found.counts, whole.counts, rtol=1e-11)
