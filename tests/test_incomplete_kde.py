"""GaussianKDE fitted to rows with missing values."""

import numpy as np
import pytest
from estimators import rows
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import DataDimensionalityWarning, UndefinedMetricWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from skgen import GaussianKDE
from skgen.kde._incomplete import (
    Completed,
    _distinct,
    _drawn_again,
    _others,
    completed_rows,
    normal_density,
    prior_weight,
)
from skgen.kde._kernel import Kernel
from skgen.mixture import EMGaussianMixture


@parametrize_with_checks([GaussianKDE(0.5), GaussianKDE("likelihood")])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
def test_scikit_learn_checks(estimator, check):
    if "pickle" in str(check) or "nan" in str(check):  # which fit rows with NaN
        check(estimator)


def with_holes(X, fraction, seed=0):
    """Return rows without a fraction of their values; every row keeps one value."""
    rng = np.random.RandomState(seed)
    missing = rng.uniform(size=X.shape) < fraction
    missing[missing.all(axis=1), 0] = False
    return np.where(missing, np.nan, X)


def correlated(n, seed=0):
    """Return rows of a normal density with strong correlations."""
    rng = np.random.RandomState(seed)
    root = np.array([[1.0, 0, 0], [0.9, 0.3, 0], [-0.7, 0.5, 0.2]])
    return rng.standard_normal((n, 3)) @ root.T * [1.0, 10.0, 0.1] + [5.0, 0.0, -1.0]


KDES = [
    GaussianKDE(),
    GaussianKDE("silverman", covariance_type="diag"),
    GaussianKDE([0.3, 3.0, 0.03]),
    GaussianKDE("likelihood"),
]
every_kernel = pytest.mark.parametrize("kde", KDES, ids=str)


# -- the fit ---------------------------------------------------------------------------


@every_kernel
def test_observed_values_are_kept(kde):
    X = with_holes(correlated(60), 0.3)
    kde = clone(kde).fit(X)
    complete = X[~np.isnan(X).any(axis=1)]
    assert np.isfinite(kde.X_train_).all()
    left = list(range(len(kde.X_train_)))
    for x in X:
        seen = ~np.isnan(x)
        alike = [i for i in left if (kde.X_train_[i, seen] == x[seen]).all()]
        assert len(alike) == (1 if seen.all() else 5)
        share = kde.weights_[alike].sum()
        np.testing.assert_allclose(share, 1 / 60)
        left = [i for i in left if i not in alike]
    assert not left
    assert len(complete) < 40


@every_kernel
def test_completed_rows_follow_the_truth(kde):
    X = correlated(600)
    kde = clone(kde).fit(with_holes(X, 0.3))
    complete = clone(kde).fit(X)
    w = kde.weights_
    mean = w @ kde.X_train_
    centred = kde.X_train_ - mean
    S, expected = (centred * w[:, None]).T @ centred, np.cov(X.T)
    scale = np.sqrt(np.diagonal(expected))
    # Four standard errors of 400 rows.
    np.testing.assert_allclose(mean / scale, X.mean(axis=0) / scale, atol=0.2)
    np.testing.assert_allclose(
        S / np.outer(scale, scale), expected / np.outer(scale, scale), atol=0.2
    )
    np.testing.assert_allclose(kde.bandwidth_, complete.bandwidth_, rtol=0.15)
    test = correlated(500, seed=1)
    rest = ~np.isnan(with_holes(X, 0.3)).any(axis=1)
    cases = clone(kde).fit(X[rest])
    assert complete.score(test) - kde.score(test) < 0.15
    assert kde.score(test) > cases.score(test) - 0.01


def test_missing_at_random_is_no_bias():
    # The second feature is missing where the first is large: complete rows are others.
    X = correlated(800)
    hidden = X.copy()
    hidden[X[:, 0] > 5, 1:] = np.nan
    hidden[::4] = X[::4]
    kde, test = GaussianKDE().fit(hidden), correlated(500, seed=1)
    cases = GaussianKDE().fit(hidden[~np.isnan(hidden).any(axis=1)])
    scale = X.std(axis=0)
    found = kde.weights_ @ kde.X_train_
    np.testing.assert_allclose(found / scale, X.mean(axis=0) / scale, atol=0.1)
    assert np.abs((cases.X_train_.mean(axis=0) - X.mean(axis=0)) / scale).max() > 0.3
    best = GaussianKDE().fit(X).score(test)
    assert best - kde.score(test) < 0.1
    assert best - cases.score(test) > 0.12


@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_few_or_no_complete_rows(fraction):
    X = load_breast_cancer().data[:, :10]
    test, X = X[200:], X[:200]
    complete = GaussianKDE().fit(X).score(test)
    holes = with_holes(X, fraction)
    kde = GaussianKDE().fit(holes)
    # Three times the loss when the limits were set: the complete rows alone lose 4.
    assert complete - kde.score(test) < {0.2: 1.0, 0.5: 5.0}[fraction]
    assert np.isfinite(kde.score_samples(holes)).all()


@every_kernel
def test_the_order_of_rows_and_their_copies_change_nothing(kde, rng):
    X = with_holes(correlated(40), 0.3)
    weights = rng.randint(0, 4, size=40)
    weights[:3] = 1, 2, 3
    test = correlated(30, seed=1)
    once = clone(kde).fit(X, sample_weight=weights)
    again = clone(kde).fit(np.repeat(X, weights, axis=0)[::-1])
    expected = once.score_samples(test)
    np.testing.assert_allclose(again.score_samples(test), expected, rtol=1e-8)
    np.testing.assert_array_equal(
        clone(kde).fit(X, None, weights).X_train_, once.X_train_
    )


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@every_kernel
def test_rescaled_rows_have_the_same_density(kde, scale):
    X, test = with_holes(correlated(60), 0.3), correlated(20, seed=1)
    small = clone(kde)
    if not isinstance(kde.bandwidth, str):
        small.set_params(bandwidth=scale * np.array(kde.bandwidth))
    expected = clone(kde).fit(X).score_samples(test) - 3 * np.log(scale)
    found = small.fit(scale * X).score_samples(scale * test)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rows_without_values_are_left_out():
    X = with_holes(correlated(50), 0.3)
    empty = np.vstack([X[:20], np.full((3, 3), np.nan), X[20:]])
    expected = GaussianKDE().fit(X)
    kde = GaussianKDE().fit(empty)
    np.testing.assert_array_equal(kde.X_train_, expected.X_train_)
    np.testing.assert_array_equal(kde.weights_, expected.weights_)
    one = GaussianKDE().fit(empty[:, :1])
    known = X[~np.isnan(X[:, 0]), :1]
    np.testing.assert_allclose(one.bandwidth_, GaussianKDE().fit(known).bandwidth_)


def test_columns_without_values_are_named():
    X = correlated(20)
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match=r"GaussianKDE.fit must .* only NaN in \[1\]"):
        GaussianKDE().fit(X)


def test_draws_lie_within_the_bounds():
    X = np.abs(correlated(200, seed=2))
    kde = GaussianKDE(bounds=(0, None)).fit(with_holes(X, 0.4))
    assert kde.X_train_.min() >= 0
    assert kde.sample(500, random_state=0).min() >= 0


@pytest.mark.filterwarnings("ignore", category=UndefinedMetricWarning)
def test_constant_and_collinear_features_keep_their_relation():
    X = correlated(100)
    X = np.column_stack([X, np.full(100, 7.0), X[:, 0]])
    with pytest.warns(DataDimensionalityWarning):
        kde = GaussianKDE().fit(with_holes(X, 0.2))
    np.testing.assert_array_equal(kde.X_train_[:, 3], 7.0)
    # Copies of a feature, of which one is missing, stay copies but for the floor of
    # collinear features and what the first draws left: a scale of 1 otherwise.
    error = np.abs(kde.X_train_[:, 4] - kde.X_train_[:, 0])
    one = np.isin(kde.X_train_[:, 0], X[:, 0]) ^ np.isin(kde.X_train_[:, 4], X[:, 0])
    assert one.sum() > 50
    assert np.median(error[one]) < 0.02


def test_float32_rows_keep_their_values():
    X = with_holes(correlated(60), 0.3).astype(np.float32)
    kde = GaussianKDE().fit(X)
    assert kde.X_train_.dtype == np.float32
    complete = X[~np.isnan(X).any(axis=1)]
    assert np.isin(complete[:, 0], kde.X_train_[:, 0]).all()
    assert kde.sample(2).dtype == np.float32


@pytest.mark.parametrize("X", [[[1.0, np.nan], [np.nan, 2.0], [1.5, 2.5]]])
@pytest.mark.parametrize("kde", [GaussianKDE(0.5), GaussianKDE()], ids=str)
def test_hardly_any_rows(X, kde):
    kde = clone(kde).fit(X)
    assert np.isfinite(kde.score_samples([[1.0, 2.0], [1.0, np.nan]])).all()


def test_a_bandwidth_counts_the_observed_values():
    X = correlated(400)
    half = X.copy()
    half[::2, 1:] = np.nan
    kde = GaussianKDE().fit(half)
    S = np.cov(kde.X_train_.T, aweights=kde.weights_, ddof=0) * 400 / 399
    n = 400 * (0.5 + 0.5 / 3)
    np.testing.assert_allclose(kde.covariance_, n ** (-2 / 7) * S, rtol=1e-9)


def test_a_likelihood_is_not_fooled_by_completed_rows():
    # A quarter of the values of half of the rows: completions are nearly copies.
    X = rows(300, 4)
    hidden = X.copy()
    hidden[::2, 1:] = np.nan
    kde = GaussianKDE("likelihood", covariance_type="full").fit(hidden)
    complete = GaussianKDE("likelihood", covariance_type="full").fit(X)
    ratio = kde.bandwidth_ / complete.bandwidth_
    assert ratio.min() > 0.8
    assert ratio.max() < 1.7


def test_nearly_collinear_features_keep_their_density():
    # The smallest eigenvalue of the correlation is 1e-4: a normal density that has not
    # converged, or has a strong prior, loses more than half a nat.
    root = np.random.RandomState(0).standard_normal((10, 10))
    X, test = (
        np.random.RandomState(seed).standard_normal((n, 10)) @ root
        for seed, n in ((1, 1200), (2, 500))
    )
    complete = GaussianKDE().fit(X).score(test)
    assert complete - GaussianKDE().fit(with_holes(X, 0.2)).score(test) < 0.3


# -- pieces ----------------------------------------------------------------------------


def test_the_normal_density_has_the_highest_likelihood():
    Z = with_holes(rows(100, 3), 0.3)
    Z = (Z - np.nanmean(Z, axis=0)) / np.nanstd(Z, axis=0)
    weights = np.ones(100)
    mean, S = normal_density(Z, weights)

    prior = 0.3 * (3 / 0.7) ** 2 / 100
    np.testing.assert_allclose(prior_weight(Z, weights), prior, rtol=0.3)
    prior = prior_weight(Z, weights)

    def loss(mean, S):
        total = (
            prior / 2 * (np.trace(np.linalg.inv(S)) + np.linalg.slogdet(S)[1])
        )  # prior
        for z in Z:
            o = ~np.isnan(z)
            total -= multivariate_normal(mean[o], S[np.ix_(o, o)]).logpdf(z[o])
        return total

    least, rng = loss(mean, S), np.random.RandomState(0)
    for factor in (0.93, 1.07):
        assert loss(mean, factor * S) > least
    for _ in range(4):
        step = 0.05 * rng.standard_normal((3, 3))
        assert loss(mean, S + step + step.T) > least
        assert loss(mean + 0.1 * rng.standard_normal(3), S) > least


def test_the_normal_density_of_complete_rows_is_closed():
    Z = rows(50, 3)
    weights = np.random.RandomState(0).uniform(1, 2, size=50)
    mean, S = normal_density(Z, weights)
    np.testing.assert_allclose(mean, np.average(Z, axis=0, weights=weights))
    S_of_rows = np.cov(Z.T, aweights=weights, ddof=0)  # the prior has its least weight
    np.testing.assert_allclose(S, (S_of_rows + 1e-6 * np.eye(3)) / (1 + 1e-6))


def test_draws_are_of_other_rows_in_proportion_to_their_kernels():
    points = np.array([[0.0], [0.5], [1.0], [8.0], [0.1]])
    owner, log_weights = np.array([0, 1, 2, 3, 0]), np.log([1.0, 2.0, 1.0, 1.0, 5.0])
    rng = np.random.RandomState(0)
    queries, k = np.array([[0.2], [100.0]]), 4000
    chosen = _others(queries, points, log_weights, np.array([0, 3]), owner, k, rng)
    assert chosen.shape == (k, 2)
    p = np.exp(log_weights - 0.5 * (0.2 - points[:, 0]) ** 2) * (owner != 0)
    # Systematic draws: counts are within one of their expectation.
    counts = np.bincount(chosen[:, 0], minlength=5)
    np.testing.assert_allclose(counts, k * p / p.sum(), atol=1.0)
    assert (chosen[:, 1] == 2).all()  # the nearest one of the other rows
    alone = _others(
        queries[:1], points[:1], log_weights[:1], owner[:1], owner[:1], 2, rng
    )
    assert (alone == -1).all()


def test_completed_rows_are_means_of_conditional_kernels():
    # One donor: the completed value is on the regression line through it.
    observed = np.array([[True, True], [True, False]])
    X = np.array([[1.0, 2.0], [4.0, -5.0]])
    draws = np.tile(X, (3, 1, 1))
    completed = Completed(draws, np.ones(2), observed)
    found = _drawn_again(completed, np.random.RandomState(0))
    centres, weights, row = completed.kernels
    np.testing.assert_array_equal(row, [0, 1, 1, 1])
    np.testing.assert_allclose(weights, [1, 1 / 3, 1 / 3, 1 / 3])
    S = np.cov(centres.T, aweights=weights, ddof=0)
    np.testing.assert_allclose(found[:, 1, 1], 2 + 3 * S[0, 1] / S[0, 0], rtol=1e-5)
    np.testing.assert_array_equal(found[:, 0], draws[:, 0])


def test_scattered_rows_have_the_noise_of_the_conditional_kernel():
    n = 4000
    observed = np.tile([True, False], (n, 1))
    completed = Completed(np.zeros((5, n, 2)), np.ones(n), observed)
    kde = GaussianKDE().fit(rows(50, 2))
    X = completed.scattered(kde._kernel)
    H = kde.covariance_
    expected = H[1, 1] - H[0, 1] ** 2 / H[0, 0]
    np.testing.assert_array_equal(X[:, 0], 0)
    # Five standard errors of a variance.
    np.testing.assert_allclose(X[:, 1].var(), expected, rtol=5 * (2 / n) ** 0.5)
    assert isinstance(kde._kernel, Kernel)


def test_equal_rows_are_merged():
    X = np.array([[1, np.nan], [0, 2], [1, np.nan], [np.nan, 1], [1, 0.0], [0, 2]])
    distinct, weights = _distinct(X, np.arange(1.0, 7.0))
    expected = {(1.0, None): 4.0, (0.0, 2.0): 8.0, (None, 1.0): 4.0, (1.0, 0.0): 5.0}
    found = {
        tuple(None if np.isnan(t) else t for t in x): w
        for x, w in zip(distinct, weights, strict=True)
    }
    assert found == expected


def test_completed_rows_fit_the_working_memory(monkeypatch):
    X = with_holes(correlated(80), 0.3)
    arguments = X, np.ones(80), None, "fit", None
    expected = completed_rows(*arguments)
    monkeypatch.setattr("skgen.kde._incomplete._DONORS", 50)
    monkeypatch.setattr("skgen.kde._incomplete.working_memory", lambda: 2**12)
    few = completed_rows(*arguments)
    assert few.draws.shape == expected.draws.shape
    np.testing.assert_array_equal(
        few.draws[:, few.observed], np.tile(expected.draws[0][few.observed], (5, 1))
    )
    scale = X[~np.isnan(X).any(axis=1)].std(axis=0)
    apart = (few.draws.mean(axis=0) - expected.draws.mean(axis=0)) / scale
    assert np.abs(apart).mean() < 0.2


def test_an_incomplete_kde_and_a_mixture_agree_on_normal_rows():
    X, test = with_holes(correlated(500), 0.3), correlated(300, seed=1)
    truth = EMGaussianMixture().fit(correlated(5000, seed=2)).score(test)
    assert truth - GaussianKDE().fit(X).score(test) < 0.25
