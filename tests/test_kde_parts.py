"""Marginals, conditionals and imputation by a KDE, against naive sums over all rows."""

import pickle

import numpy as np
import pytest
from estimators import rows
from scipy.special import logsumexp
from scipy.stats import kstest, multivariate_normal, norm
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import DataDimensionalityWarning
from test_bounds import BOUNDS, KERNELS, bounded_rows

from skgen import GaussianKDE
from skgen.kde import _together
from skgen.kde._bounds import fold, moved_between

KDES = [
    GaussianKDE(),
    GaussianKDE(covariance_type="diag"),
    GaussianKDE("silverman", covariance_type="spherical"),
    GaussianKDE(0.7),
    GaussianKDE([0.4, 2.0, 0.9, 1.3], rtol=0),
    GaussianKDE("likelihood"),
]
every_kernel = pytest.mark.parametrize("kde", KDES, ids=str)


def naive(kde, x):
    """Return log p(x_o), p(i | x_o), the centres and the covariance of x_m given x_o.

    `x` (d,) is NaN where it is not observed. All pairs, in float64.
    """
    H, X = kde.covariance_, kde.X_train_.astype(np.float64)
    o, m = np.flatnonzero(~np.isnan(x)), np.flatnonzero(np.isnan(x))
    within = H[np.ix_(o, o)]
    kernel = multivariate_normal(np.zeros(o.size), within)
    logs = np.log(kde.weights_) + np.atleast_1d(kernel.logpdf(x[o] - X[:, o]))
    slopes = np.linalg.solve(within, H[np.ix_(o, m)]).T
    centres = X[:, m] + (x[o] - X[:, o]) @ slopes.T
    rest = H[np.ix_(m, m)] - slopes @ H[np.ix_(o, m)]
    total = logsumexp(logs)
    return total, np.exp(logs - total), centres, rest


def incomplete(n, d, seed=1):
    """Return rows with NaN in about half of the entries, and in every row."""
    X = rows(n, d, seed=seed)
    rng = np.random.RandomState(seed)
    missing = rng.uniform(size=X.shape) < 0.5
    missing[np.arange(n), rng.randint(d, size=n)] = True
    missing[missing.all(axis=1), 0] = False
    X[missing] = np.nan
    return X


def weighted(kde, n=150, d=4):
    """Return the KDE fitted to rows with importance weights."""
    weights = np.random.RandomState(3).uniform(0.1, 3, size=n)
    return clone(kde).fit(rows(n, d), sample_weight=weights)


# -- naive sums ------------------------------------------------------------------------


@every_kernel
def test_answers_are_naive_sums(kde):
    kde, X = weighted(kde), incomplete(30, 4)
    scores, codes, filled = kde.score_samples(X), kde.transform(X), kde.impute(X)
    for i, x in enumerate(X):
        score, p, centres, _ = naive(kde, x)
        np.testing.assert_allclose(scores[i], score, rtol=1e-10)
        np.testing.assert_allclose(codes[i], p @ kde.X_train_, rtol=1e-9, atol=1e-9)
        missing = np.isnan(x)
        mean = p @ centres
        np.testing.assert_allclose(filled[i, missing], mean, rtol=1e-9, atol=1e-9)


@every_kernel
def test_answers_do_not_depend_on_the_rows_of_a_pattern(kde, monkeypatch):
    kde, X = weighted(kde), incomplete(40, 4)
    X[-1] = np.nan
    _, together, _ = _together.divided(kde, X)
    # All but the empty row; sums without any error keep to differences.
    assert together.size == (39 if kde.rtol else 0)
    answers = kde.score_samples(X), kde.transform(X), kde.impute(X)
    monkeypatch.setattr(_together, "_FEW_ROWS", 0)
    assert not _together.divided(kde, X)[1].size
    alone = kde.score_samples(X), kde.transform(X), kde.impute(X)
    for one, other in zip(answers, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_products_that_would_lose_digits_are_left_out():
    # The squared distance of the last row in bandwidths, times the rounding error.
    kde = GaussianKDE(0.5).fit(rows(50, 3))
    X = np.array([[0.0, np.nan, 1.0], [np.nan, 9.0, 1.0], [np.nan, 1e6, 1.0]])
    _, together, alone = _together.divided(kde, X)
    np.testing.assert_array_equal(alone, [2])
    np.testing.assert_array_equal(together, [0, 1])
    assert kde.score_samples(X)[2] == pytest.approx(
        GaussianKDE(0.5).fit(kde.X_train_[:, 1:]).score_samples(X[2:, 1:])[0]
    )


@every_kernel
def test_conditional_kernels_are_those_of_the_naive_sum(kde):
    kde = weighted(kde)
    for x in incomplete(6, 4):
        _, p, centres, covariance = naive(kde, x)
        part = kde.condition(x)
        np.testing.assert_allclose(part.weights_, p, rtol=1e-8, atol=1e-15)
        np.testing.assert_allclose(part.X_train_, centres, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(
            part.covariance_, covariance, rtol=1e-8, atol=1e-12 * covariance.max()
        )
        np.testing.assert_allclose(
            part.bandwidth_, np.sqrt(np.diagonal(covariance)), rtol=1e-8
        )


@every_kernel
def test_marginal_kernels_are_parts_of_the_kernel(kde):
    kde, features = weighted(kde), [3, 0]
    part = kde.marginal(features)
    expected = kde.covariance_[np.ix_(features, features)]
    np.testing.assert_allclose(part.covariance_, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(part.bandwidth_, kde.bandwidth_[features], rtol=1e-12)
    np.testing.assert_array_equal(part.weights_, kde.weights_)
    np.testing.assert_array_equal(part.X_train_, kde.X_train_[:, features])
    refitted = clone(part).fit(rows(50, 2))
    if not isinstance(kde.bandwidth, str):
        np.testing.assert_array_equal(refitted.bandwidth_, part.bandwidth_)


@every_kernel
@pytest.mark.parametrize("reach", [30.0, 1e4])
def test_conditionals_far_from_all_rows(kde, reach):
    # All weights but one or two underflow in the units of a probability.
    kde = weighted(kde)
    x = np.array([reach, np.nan, -reach, np.nan])
    score, p, centres, _ = naive(kde, x)
    np.testing.assert_allclose(kde.score_samples(x[None])[0], score, rtol=1e-10)
    missing = np.isnan(x)
    found = kde.impute(x[None])[0, missing]
    np.testing.assert_allclose(found, p @ centres, rtol=1e-7)
    part, y = kde.condition(x), np.array([0.3, -reach])
    x[missing] = y
    whole = kde.score_samples(x[None])[0]
    np.testing.assert_allclose(part.score_samples([y])[0], whole - score, rtol=1e-9)
    draws = kde.sample_conditional(np.where(missing, np.nan, x)[None], 200)
    assert np.isfinite(draws).all()


def test_copies_of_a_feature_keep_the_digits_of_a_conditional():
    # The third feature is the sum of the others up to 1e-7: a covariance alone would
    # leave no digit of the conditional variance.
    rng = np.random.RandomState(0)
    X = rng.standard_normal((400, 2))
    X = np.column_stack([X, X.sum(axis=1) + 1e-7 * rng.standard_normal(400)])
    kde = GaussianKDE().fit(X)
    residual = X[:, 2] - X[:, :2].sum(axis=1)
    design = np.column_stack([X[:, :2], np.ones(400)])
    residual -= design @ np.linalg.lstsq(design, residual)[0]
    factor = 400 ** (-1 / 7)
    expected = factor * np.sqrt(residual @ residual / 399)
    part = kde.condition({0: 0.3, 1: -1.2})
    np.testing.assert_allclose(part.bandwidth_[0], expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore", category=DataDimensionalityWarning)
def test_parts_of_a_constant_feature():
    X = np.column_stack([rows(60, 2), np.full(60, 3.0)])
    kde = GaussianKDE().fit(X)
    x = np.array([[0.5, np.nan, 3.0], [0.5, np.nan, np.nan]])
    filled = kde.impute(x)
    np.testing.assert_allclose(filled[1, 2], 3.0)
    np.testing.assert_allclose(filled[0, 1], filled[1, 1])
    height = norm(scale=kde.bandwidth_[2]).logpdf(0)
    np.testing.assert_allclose(np.diff(kde.score_samples(x)), -height)


# -- methods of summing ----------------------------------------------------------------


@pytest.mark.parametrize("bounds", [None, (-30, None)])
@pytest.mark.parametrize("covariance_type", ["full", "diag"])
@pytest.mark.parametrize("observed", [[2], [0, 3], [4, 1, 2]])
def test_marginals_of_few_features_are_transformed(observed, covariance_type, bounds):
    pytest.importorskip("finufft")
    kde = GaussianKDE(covariance_type=covariance_type, bounds=bounds)
    kde.fit(rows(20_000 if len(observed) == 3 else 9000, 5))
    assert kde.algorithm_ == "exact"
    assert kde.marginal(observed).algorithm_ == "fourier"
    X = rows(5, 5, seed=1)
    X[0] += 20  # beyond the resolution of a transform
    hidden = np.full_like(X, np.nan)
    hidden[:, observed] = X[:, observed]
    scores, filled = kde.score_samples(hidden), kde.impute(hidden)
    for i, x in enumerate(hidden):
        score, p, centres, _ = naive(kde, x)
        np.testing.assert_allclose(scores[i], score, rtol=0, atol=kde.rtol)
        np.testing.assert_allclose(filled[i, np.isnan(x)], p @ centres, rtol=1e-6)


def test_a_forced_transform_leaves_parts_to_exact_sums_where_it_is_impossible():
    pytest.importorskip("finufft")
    rng = np.random.RandomState(0)
    X = np.column_stack([rng.standard_normal(300), rng.standard_normal(300) * 1e9])
    kde = GaussianKDE([0.5, 1e8], algorithm="fourier").fit(X)
    assert kde.algorithm_ == "fourier"
    kde.bandwidth = [0.5, 1e-4]
    kde._kernel.whitening.scale[1] = 1e-4  # the grid of this feature is too fine
    part = kde.marginal(1)
    assert part.algorithm_ == "exact"
    expected, *_ = naive(part, X[0, [1]])
    np.testing.assert_allclose(part.score_samples(X[:1, [1]])[0], expected, rtol=1e-9)


def test_values_of_rows_are_averaged_like_the_rows():
    kde, X = weighted(KDES[0], n=3000), rows(40, 4, seed=1)
    points = kde._kernel.coordinates(X)
    expected = kde._sum(points, with_mean=True)
    values = kde._kernel.coordinates(kde.X_train_)
    found = kde._sum(points, with_mean=True, values=values)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    exponents = kde._sum.exponents(points)
    np.testing.assert_allclose(logsumexp(exponents, axis=1), expected[0], rtol=1e-12)
    p = np.exp(exponents - expected[0][:, None])
    np.testing.assert_allclose(p @ values, expected[1], rtol=1e-9, atol=1e-12)


def test_answers_fit_the_working_memory(monkeypatch):
    kde = GaussianKDE(bounds=(-50, None)).fit(rows(300, 3))
    X = rows(40, 3, seed=1)
    X[:, 1] = np.nan
    expected = kde.impute(X)
    with config_context(working_memory=0.05):
        np.testing.assert_allclose(kde.impute(X), expected, rtol=1e-12)
        draws = kde.sample_conditional(X, 200, random_state=0)
    error = 5 * draws[:, :, 1].std(axis=0) / np.sqrt(200)
    assert (np.abs(draws[:, :, 1].mean(axis=0) - expected[:, 1]) < error).all()


# -- draws -----------------------------------------------------------------------------


@pytest.mark.parametrize("few", [0, 32])
@pytest.mark.parametrize("kde", [KDES[0], KDES[1], KDES[3]], ids=str)
def test_conditional_draws_follow_the_conditional_density(kde, few, monkeypatch):
    monkeypatch.setattr(_together, "_FEW_ROWS", few)
    kde, x = weighted(kde), np.array([[0.5, np.nan, np.nan, 1.0]])
    draws = kde.sample_conditional(x, 4000, random_state=0)[:, 0, 1:3]
    part = kde.condition(x[0])
    for direction in ([1, 0], [0, 1], [0.6, -0.8], [0.3, 0.9]):
        weights, means, covariance = part._normal_components()
        means = means @ direction
        h = np.sqrt(np.array(direction) @ covariance[0] @ direction)

        def cdf(t, weights=weights, means=means, h=h):
            return norm.cdf((t[:, None] - means) / h) @ weights

        assert kstest(draws @ direction, cdf).pvalue > 1e-3


def test_rows_of_one_pattern_have_independent_draws():
    kde, X = weighted(KDES[0]), incomplete(1, 4)
    X = np.repeat(X, 500, axis=0)
    draws = kde.sample_conditional(X, 2, random_state=0)
    missing = np.flatnonzero(np.isnan(X[0]))
    assert np.unique(draws[:, :, missing[0]]).size == 1000
    again = kde.sample_conditional(X, 2, random_state=0)
    np.testing.assert_array_equal(draws, again)


# -- bounds ----------------------------------------------------------------------------


@pytest.mark.parametrize("kde", KERNELS, ids=str)
@pytest.mark.parametrize("hidden", [0, 1])
def test_parts_of_bounded_kernels_agree_with_integrals(kde, hidden):
    kde = clone(kde).set_params(bounds=BOUNDS).fit(bounded_rows(40))
    # The midpoint rule: folded kernels have no slope at their bounds.
    n, length = (1000, 16) if hidden == 0 else (100, 1)
    t = (np.arange(n) + 0.5) / n * length
    queries = np.vstack([bounded_rows(1, 1), [[4.0, 0.02], [0.01, 1.0]]])
    for x in queries:
        table = np.tile(x, (n, 1))
        table[:, hidden] = t
        joint = np.exp(kde.score_samples(table))
        mass = joint.sum() * length / n
        q = x.copy()[None]
        q[:, hidden] = np.nan
        np.testing.assert_allclose(kde.score_samples(q)[0], np.log(mass), atol=1e-9)
        mean = joint @ t / joint.sum()
        # The midpoint rule loses the slope of t at the bounds, h^2 / 24.
        np.testing.assert_allclose(kde.impute(q)[0, hidden], mean, atol=2e-4)
        codes = joint @ kde.transform(table) / joint.sum()
        np.testing.assert_allclose(kde.transform(q)[0], codes, rtol=1e-8)
        part = kde.condition({1 - hidden: x[1 - hidden]})
        given = kde.score_samples(x[None])[0] - np.log(mass)
        score = part.score_samples(x[None, [hidden]])[0]
        np.testing.assert_allclose(score, given, atol=1e-9)
        below = np.cumsum(joint[:-1]) / joint.sum()
        edges = (np.arange(n - 1) + 1) / n * length
        np.testing.assert_allclose(part.cdf(edges[:, None]), below, atol=1e-4)


@pytest.mark.parametrize("kde", KERNELS[:2], ids=str)
def test_draws_of_bounded_conditionals_follow_their_density(kde):
    kde = clone(kde).set_params(bounds=BOUNDS).fit(bounded_rows(40))
    for x in ([0.05, np.nan], [np.nan, 0.97]):
        draws = kde.sample_conditional([x], 4000, random_state=0)[:, 0]
        draws = draws[:, np.isnan(x)]
        part = kde.condition(x)
        assert kstest(draws[:, 0], lambda t, p=part: p.cdf(t[:, None])).pvalue > 1e-3
        own = part.sample(4000, random_state=1)
        assert kstest(own[:, 0], lambda t, p=part: p.cdf(t[:, None])).pvalue > 1e-3


def test_draws_come_from_all_images_of_the_observed_values():
    # The image at -0.3 has the same weight, and the regression moves it by 2.4.
    rng = np.random.RandomState(0)
    x = rng.uniform(0, 2, size=(15, 1))
    X = np.hstack([x, 4 * x + 0.5 * rng.standard_normal((15, 1))])
    kde = GaussianKDE(bounds=[(0, None), None]).fit(X)
    draws = kde.sample_conditional([[0.3, np.nan]], 4000, random_state=0)[:, 0, 1]
    part = kde.condition({0: 0.3})
    assert kstest(draws, lambda t: part.cdf(t[:, None])).pvalue > 1e-3
    assert len(part.weights_) == 30
    assert part.bandwidth_ < 0.5


def test_a_conditional_far_from_all_rows_is_folded():
    # The regression moves the kernels far beyond the bounds of the other features.
    rng = np.random.RandomState(0)
    X = rng.standard_normal((60, 3))
    X[:, 1] = fold(X[:, :1] + 0.4 * X[:, 1:2], [-2.0], [2.0])[:, 0]
    X[:, 2] = np.abs(X[:, 0] - X[:, 1] + X[:, 2])
    kde = GaussianKDE(bounds=[None, (-2, 2), (0, None)]).fit(X)
    for far, end in ((-60.0, 90), (3.0, 15), (60.0, 90)):
        part = kde.condition({0: far})
        if abs(far) < 10:
            x = np.array([[far, 0.7, 1.5]])
            given = kde.score_samples([[far, np.nan, np.nan]])[0]
            expected = kde.score_samples(x)[0] - given
            found = part.score_samples(x[:, 1:])[0]
            np.testing.assert_allclose(found, expected, atol=1e-8)
        y, z = (np.arange(20) + 0.5) / 5 - 2, (np.arange(400) + 0.5) / 400 * end
        table = np.stack(np.meshgrid(y, z), axis=-1).reshape(-1, 2)
        density = np.exp(part.score_samples(table))
        np.testing.assert_allclose(density.sum() * 4 * end / len(table), 1, rtol=1e-6)
        mean = density @ table / density.sum()
        found = kde.impute([[far, np.nan, np.nan]])[0, 1:]
        # The midpoint rule loses h^2 / 24 times the density at a bound, up to 5.
        np.testing.assert_allclose(found, mean, atol=0.01)


@pytest.mark.parametrize("bounds", [(0, None), (None, 3), (0, 3), None])
@pytest.mark.parametrize("h", [0.05, 5.0])
def test_distribution_functions_of_bounded_features(bounds, h):
    X = np.array([[0.0], [0.1], [0.7], [2.5], [3.0]])
    weights = np.array([0.1, 1, 1, 0.5, 0.5])
    kde = GaussianKDE(h, bounds=bounds).fit(X, sample_weight=weights)
    low, high = bounds or (None, None)
    a = -12 * h if low is None else low
    b = 3 + 12 * h if high is None else high
    t = a + (np.arange(2000) + 0.5) / 2000 * (b - a)
    density = np.exp(kde.score_samples(t[:, None])) * (b - a) / 2000
    edges = a + (np.arange(2000) + 1) / 2000 * (b - a)
    np.testing.assert_allclose(kde.cdf(edges[:, None]), np.cumsum(density), atol=1e-4)
    q = np.array([0, 1e-9, 0.2, 0.5, 0.99, 1])
    x = kde.quantile(q)
    assert x[0] == (-np.inf if low is None else low)
    assert x[-1] == (np.inf if high is None else high)
    np.testing.assert_allclose(kde.cdf(x[1:-1, None]), q[1:-1], rtol=1e-6)
    outside = kde.cdf([[a - 100 * h], [b + 100 * h]])
    np.testing.assert_allclose(outside, [0, 1], atol=1e-15)


def test_low_tails_of_an_upper_bound_keep_their_digits():
    kde = GaussianKDE(1.0, bounds=(None, 5)).fit([[0.0]])
    expected = norm.cdf(-20.0) + norm.sf(30.0)
    np.testing.assert_allclose(kde.cdf([[-20.0]])[0], expected, rtol=1e-12)


def test_kernels_moved_between_their_bounds_are_folded_onto_the_same_density():
    rng = np.random.RandomState(0)
    X = 100 * rng.standard_normal((200, 3))
    ends = np.array([-1.0, 0.0, -np.inf]), np.array([2.0, np.inf, np.inf])
    moved = moved_between(X, *ends)
    np.testing.assert_array_equal(moved[:, 1:], X[:, 1:])
    assert np.abs(moved[:, 0] - 0.5).max() <= 3
    np.testing.assert_allclose(fold(moved, *ends), fold(X, *ends), atol=1e-12)


def test_rows_outside_the_bounds_have_no_density_in_any_part():
    kde = GaussianKDE(bounds=[(0, None), None]).fit(np.abs(rows(50, 2)))
    x = np.array([[-1.0, np.nan]])
    assert kde.score_samples(x)[0] == -np.inf
    nearest = np.array([[0.0, np.nan]])
    np.testing.assert_array_equal(kde.transform(x), kde.transform(nearest))
    np.testing.assert_array_equal(kde.impute(x)[0, 1], kde.impute(nearest)[0, 1])
    with pytest.raises(ValueError, match=r"'given' .* within the bounds"):
        kde.condition({0: -1.0})


# -- the rest --------------------------------------------------------------------------


def test_rows_in_single_precision():
    X = rows(200, 3).astype(np.float32)
    kde, double = GaussianKDE().fit(X), GaussianKDE().fit(X.astype(np.float64))
    hidden = X[:9].copy()
    hidden[:, 1] = np.nan
    scores = kde.score_samples(hidden)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, double.score_samples(hidden), rtol=1e-5)
    np.testing.assert_allclose(kde.impute(hidden), double.impute(hidden), rtol=1e-4)
    part = kde.condition(hidden[0])
    assert part.sample(3).dtype == np.float32
    given = kde.score_samples(X[:1])[0] - scores[0]
    np.testing.assert_allclose(part.score_samples(X[:1, [1]])[0], given, atol=1e-5)


def test_a_conditional_is_pickled():
    kde = GaussianKDE(bounds=(-40, 40)).fit(rows(100, 3))
    part, X = kde.condition({1: 0.5}), rows(9, 2)
    copy = pickle.loads(pickle.dumps(part))
    np.testing.assert_allclose(copy.score_samples(X), part.score_samples(X), rtol=1e-12)
    np.testing.assert_array_equal(copy.X_train_, part.X_train_)
