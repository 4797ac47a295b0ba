"""Bandwidths by leave-one-out likelihood, and by Botev's rule for one feature."""

import numpy as np
import pytest
from estimators import rows, thorough
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.base import clone
from sklearn.exceptions import DataDimensionalityWarning, UndefinedMetricWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler

from skgen import GaussianKDE
from skgen._whitening import DiagonalWhitening, estimate_whitening
from skgen.kde import _fourier, _kernel_sum, _leave_one_out
from skgen.kde._bandwidth import improved_sheather_jones
from skgen.kde._fourier import ToleratedSum
from skgen.kde._kernel import without_rounding_errors
from skgen.kde._kernel_sum import KernelSum
from skgen.kde._leave_one_out import SHAPES, LeftOut, choose_by_likelihood
from skgen.rows._moments import moments_of
from skgen.rows._source import canonical_rows


def covariance_of(X, weights, shape):
    """Return what a factor of 1 scales."""
    S = np.atleast_2d(np.cov(X.T, fweights=weights))
    if shape == "diag":
        return np.diag(np.diag(S))
    return S if shape == "full" else np.trace(S) / len(S) * np.eye(len(S))


def naive_logs(X, weights, H):
    """Return the leave-one-out log-densities, by differences."""
    lower = np.linalg.cholesky(H)
    Z = np.linalg.solve(lower, X.T).T
    copies = (X[:, None] == X).all(axis=2)
    exponents = np.where(copies, -np.inf, -0.5 * cdist(Z, Z, "sqeuclidean"))
    others = np.where(copies, 0, weights).sum(axis=1)
    log_det = np.log(np.diagonal(lower)).sum()
    log_norm = np.log(others) + log_det + 0.5 * len(H) * np.log(2 * np.pi)
    return logsumexp(exponents, axis=1, b=weights) - log_norm


def naive_score(X, weights, H):
    """Return the mean leave-one-out log-density."""
    return np.average(naive_logs(X, weights, H), weights=weights)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("copies", [False, True])
def test_every_row_is_scored_by_all_others(shape, weighted, copies, monkeypatch):
    monkeypatch.setattr(_kernel_sum, "CELL", 8)  # some cells are out of reach
    X = rows(50, 3)
    if copies:
        X[::7] = X[3]
    weights = (
        np.random.RandomState(0).randint(1, 4, 50) if weighted else np.ones(50, int)
    )
    whitening = estimate_whitening(X, weights.astype(float), shape, ddof=1)
    left_out = LeftOut(*canonical_rows(X, weights.astype(float)), whitening)
    S = covariance_of(X, weights, shape)
    for octave in (0, 1.5, 3, 6):
        H = (4 / 2**octave) ** 2 * S
        score, error = left_out.score(octave)
        assert score == pytest.approx(naive_score(X, weights, H), rel=1e-9)
        distinct, counts = canonical_rows(X, weights.astype(float))
        logs = naive_logs(distinct, counts, H)
        variance = counts**2 @ (logs - score) ** 2 / counts.sum() ** 2
        assert error == pytest.approx(np.sqrt(variance), rel=1e-8)


@pytest.mark.parametrize(("d", "octave"), [(1, 2), (1, 7), (2, 2), (2, 4), (3, 2)])
@pytest.mark.parametrize("heavy", [False, True])
def test_transforms_score_rows_by_all_others(d, heavy, octave, monkeypatch):
    monkeypatch.setattr(_leave_one_out, "_LEAST_ROWS", 100)
    monkeypatch.setattr(_fourier, "_WORTH_IT", 1e-9)
    rng = np.random.RandomState(0)
    X = rng.standard_t(2, (400, d)) if heavy else rng.standard_normal((400, d))
    weights = rng.uniform(0.1, 3, 400)
    whitening = DiagonalWhitening(np.zeros(d), np.ones(d), np.zeros(d, bool))
    left_out = LeftOut(X, weights, whitening)
    factor = 4 / 2**octave
    transformed = left_out._transformed(left_out.kernels.rescaled(factor, 0.0))
    assert isinstance(transformed, ToleratedSum)
    expected = naive_logs(X, weights, factor**2 * np.eye(d))
    logs = left_out.log_densities(factor)
    np.testing.assert_allclose(logs, expected, rtol=0, atol=1e-6)
    assert logs.mean() == pytest.approx(expected.mean(), rel=1e-9)


def test_single_precision_finds_the_same_factor(monkeypatch):
    X = np.vstack([rows(1000, 4), 0.01 * rows(1000, 4, seed=1)])
    found = []
    for single in (_leave_one_out._SINGLE, 0.0):
        monkeypatch.setattr(_leave_one_out, "_SINGLE", single)
        chosen = choose_by_likelihood(X, np.ones(2000), ["diag"])
        found.append((*chosen.whitening.scale, chosen.score))
    np.testing.assert_allclose(*found, rtol=1e-4)
    assert found[0][0] != found[1][0]


@pytest.mark.parametrize("single", [1e-4, 1e-2])
def test_errors_of_single_precision_are_bounded(single):
    X = rows(1500, 3) + 100.0
    exact = KernelSum(X, np.full(1500, -np.log(1500)), np.ones(3))
    every = np.arange(1500)
    for factor in (1.0, 0.1, 1e-3):
        in_double, _ = exact.rescaled(factor, 0.0)(X, without=every)
        in_single, _ = exact.rescaled(factor, single)(X, without=every)
        np.testing.assert_allclose(in_single, in_double, rtol=0, atol=single)
    assert 0 < np.abs(exact.rescaled(1.0, single)(X)[0] - exact(X)[0]).max() < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_factor_is_the_most_likely(shape):
    X, ones = rows(80, 2), np.ones(80, int)
    kde = GaussianKDE("likelihood", covariance_type=shape).fit(X)
    S = covariance_of(X, ones, shape)
    H = kde.covariance_
    np.testing.assert_allclose(H / H[0, 0], S / S[0, 0], atol=1e-12)
    assert kde.loo_score_ == pytest.approx(naive_score(X, ones, H), rel=1e-9)
    factor = np.sqrt(H[0, 0] / S[0, 0])
    best = max(
        naive_score(X, ones, (factor * share) ** 2 * S)
        for share in np.geomspace(0.5, 2, 41)
    )
    assert kde.loo_score_ > best - 1e-3


def two_tight_clusters(n, seed):
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((n, 2)) * 0.05
    X[: n // 2] += 10
    return X


def mixed_scales(n, seed):
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((n, 3)) * [1e-3, 1.0, 1e3]
    X[: n // 3] *= 0.3
    return X


def correlated(n, seed):
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((n, 3))
    X[: n // 3] += 4
    return X @ np.array([[1.0, 0.9, 0.0], [0.0, 0.2, 0.0], [0.5, 0.5, 2.0]])


@pytest.mark.parametrize(
    "make", [mixed_scales, thorough(two_tight_clusters), thorough(correlated)]
)
def test_it_is_as_good_as_a_grid_search_of_scikit_learn(make):
    X, held_out = make(400, 0), make(400, 1)
    ours = GaussianKDE("likelihood").fit(X)
    # Theirs has one bandwidth for all columns: let it see them standardised as well.
    best = -np.inf
    for scaler in (StandardScaler(), StandardScaler(with_std=False)):
        Z = scaler.fit_transform(X)
        grid = {"bandwidth": np.geomspace(1e-3, 3, 20) * Z.std()}
        search = GridSearchCV(KernelDensity(), grid).fit(Z)
        log_scale = 0.0 if scaler.scale_ is None else np.log(scaler.scale_).sum()
        score = search.score_samples(scaler.transform(held_out)).mean() - log_scale
        best = max(best, score)
    assert ours.score(held_out) > best - 0.02
    assert ours.score(held_out) == pytest.approx(ours.loo_score_, abs=0.15)


def test_the_whole_covariance_is_the_wrong_shape_for_tight_clusters():
    X = two_tight_clusters(300, 0)
    chosen = choose_by_likelihood(X, np.ones(300), SHAPES)
    assert isinstance(chosen.whitening, DiagonalWhitening)
    full = GaussianKDE("likelihood", covariance_type="full").fit(X)
    assert GaussianKDE("likelihood").fit(X).score(X) > full.score(X)


def test_copies_do_not_drive_the_bandwidth_to_zero():
    X = rows(200, 2)
    expected = GaussianKDE("likelihood").fit(X)
    with pytest.warns(UndefinedMetricWarning, match="are copies of other rows"):
        twice = GaussianKDE("likelihood").fit(np.concatenate([X, X]))
    # (The covariance is divided by n - 1.)
    np.testing.assert_allclose(twice.bandwidth_, expected.bandwidth_, rtol=0.01)


def test_copies_but_for_rounding_are_told_of():
    X = rows(200, 2)
    X = np.concatenate([X, X * (1 + 1e-14)])
    with pytest.warns(UndefinedMetricWarning, match="except for rounding"):
        kde = GaussianKDE("likelihood").fit(X)
    assert np.all(kde.bandwidth_ > 1e-6)
    assert np.isfinite(kde.score(rows(20, 2, seed=1)))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("rule", ["likelihood", "isj"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
def test_copies_up_to_rounding_are_copies(rule, dtype, scale):
    x = (scale * rows(100, 1)).astype(dtype)
    steps = np.random.RandomState(0).randint(-2, 3, size=x.shape).astype(dtype)
    converted = np.concatenate([x, x + steps * np.spacing(x)])  # to units and back
    assert np.unique(converted).size > 150
    expected = GaussianKDE(rule).fit(np.concatenate([x, x])).bandwidth_
    found = GaussianKDE(rule).fit(converted).bandwidth_
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_dense_rows_are_no_copies():
    # A chain of values, each within rounding errors of the next one.
    x = np.float32(1) + np.arange(3000, dtype=np.float32) * np.spacing(np.float32(1))
    X = np.concatenate([x, 5 * x, -x])[:, None].astype(np.float64)
    moments = moments_of(X, np.ones(X.shape[0]), full=False)
    merged = without_rounding_errors(X, moments, np.float32)
    limit = 8 * np.finfo(np.float32).eps * np.abs(X)
    assert (np.abs(merged - X) <= limit).all()
    assert np.unique(merged).size > X.shape[0] / 20
    distinct = rows(5000, 2)
    moments = moments_of(distinct, np.ones(5000), full=False)
    found = without_rounding_errors(distinct, moments, np.float64)
    np.testing.assert_array_equal(found, distinct)


@pytest.mark.parametrize("seed", [0, thorough(1), thorough(2)])
def test_the_likelihood_of_many_rows_is_that_of_all(seed):
    n = _leave_one_out._LEAST_ROWS  # a transform sums the kernels
    x = np.random.RandomState(seed).standard_normal((n, 1))
    kde = GaussianKDE("likelihood").fit(x)
    squares = (x - x.T) ** 2
    np.fill_diagonal(squares, np.inf)

    def naive(h):
        kernels = np.exp(squares / (-2 * h**2)).sum(axis=1)
        return np.log(kernels / ((n - 1) * h * np.sqrt(2 * np.pi)))

    logs = naive(kde.bandwidth_[0])
    assert kde.loo_score_ == pytest.approx(logs.mean(), abs=1e-8)
    assert kde.loo_score_se_ == pytest.approx(logs.std() / np.sqrt(n), rel=1e-6)
    others = [naive(kde.bandwidth_[0] * f).mean() for f in (0.3, 0.6, 0.9, 1.1, 1.8)]
    assert max(others) < kde.loo_score_


@pytest.mark.thorough
@pytest.mark.parametrize("n", [1_000, 30_000, 100_000])
def test_the_bandwidth_of_many_rows_is_steady(n):
    for seed in range(1, 4):
        x = np.random.RandomState(seed).standard_normal((n, 1))
        kde = GaussianKDE("likelihood").fit(x)
        # The likelihood's own uncertainty for normal rows.
        assert 0.6 < kde.bandwidth_[0] / (1.06 * n**-0.2) < 1.6


@pytest.mark.thorough
def test_many_rows_of_many_features_are_judged_by_some_of_them(monkeypatch):
    X = rows(6000, 4)
    expected = GaussianKDE("likelihood", covariance_type="diag").fit(X)
    monkeypatch.setattr(_leave_one_out, "_PAIRS", 6000 * 2500)
    kde = GaussianKDE("likelihood", covariance_type="diag").fit(X)
    assert 0 < np.abs(kde.bandwidth_ / expected.bandwidth_ - 1).max() < 0.1
    error = kde.loo_score_se_
    assert error == pytest.approx(expected.loo_score_se_ * np.sqrt(2.4), rel=0.1)
    assert kde.loo_score_ == pytest.approx(expected.loo_score_, abs=4 * error)


def test_the_score_of_other_bandwidths_is_not_computed():
    assert GaussianKDE().fit(rows(20, 2)).loo_score_ is None
    kde = GaussianKDE("likelihood").fit(rows(20, 2))
    assert kde.loo_score_se_ > 0
    kde.set_params(bandwidth=1.0).fit(rows(20, 2))
    assert kde.loo_score_ is kde.loo_score_se_ is None


def test_rows_that_are_all_the_same_have_the_floor():
    with pytest.warns(DataDimensionalityWarning):
        kde = GaussianKDE("likelihood").fit(np.full((20, 2), 3.0))
    assert np.isfinite(kde.score([[3.0, 3.0]]))


# -- one feature, by Botev's rule --------------------------------------------------


def mean_integrated_squared_error(h, n, weights, means, deviations):
    """Return the exact error of a kernel estimate of a normal mixture.

    Marron and Wand (1992), theorem 2.1.
    """
    d2 = deviations[:, None] ** 2 + deviations**2

    def omega(q):
        spread = np.sqrt(q * h**2 + d2)
        return weights @ norm.pdf(means[:, None] - means, scale=spread) @ weights

    return 1 / (2 * np.sqrt(np.pi) * n * h) + (
        (1 - 1 / n) * omega(2) - 2 * omega(1) + omega(0)
    )


MIXTURES = {
    "normal": ([1.0], [0.0], [1.0], 1.1),
    "bimodal": ([0.5, 0.5], [-2.0, 2.0], [0.7, 0.7], 1.1),
    "far apart": ([0.5, 0.5], [-30.0, 30.0], [1.0, 1.0], 1.1),
    "spike": ([0.7, 0.3], [0.0, 1.0], [1.0, 0.1], 1.25),
    "claw": ([0.5] + [0.1] * 5, [0, -1, -0.5, 0, 0.5, 1], [1] + [0.1] * 5, 1.25),
}


@pytest.mark.parametrize(
    ("kind", "scale"),
    [
        ("claw", 1.0),
        *(thorough(kind, 1.0) for kind in MIXTURES if kind != "claw"),
        thorough("bimodal", 1e-5),
        thorough("bimodal", 1e6),
    ],
)
def test_the_rule_of_botev_is_near_the_least_error(kind, scale):
    *mixture, excess = MIXTURES[kind]
    weights, means, deviations = (np.array(part, float) for part in mixture)
    n, rng = 5000, np.random.RandomState(0)
    c = rng.choice(weights.size, size=n, p=weights)
    x = means[c] + deviations[c] * rng.standard_normal(n)
    kde = GaussianKDE("isj").fit(scale * x[:, None] + scale)
    errors = [
        mean_integrated_squared_error(h, n, weights, means, deviations)
        for h in np.geomspace(0.005, 3, 400)
    ]
    h = kde.bandwidth_[0] / scale
    error = mean_integrated_squared_error(h, n, weights, means, deviations)
    assert error < excess * min(errors)


def test_the_rule_of_botev_counts_rows_by_weight():
    x, weights = rows(300, 1), np.random.RandomState(0).randint(1, 4, 300)
    weighted = GaussianKDE("isj").fit(x, sample_weight=weights)
    repeated = GaussianKDE("isj").fit(np.repeat(x, weights, axis=0))
    # (But for rows on the border of two bins.)
    np.testing.assert_allclose(weighted.bandwidth_, repeated.bandwidth_, rtol=1e-4)


def test_without_a_fixed_point_silverman_serves():
    x = np.array([0.0, 1.0, 1.1])
    assert improved_sheather_jones(x, np.ones(3), 3) is None
    kde = GaussianKDE("isj").fit(x[:, None])
    expected = GaussianKDE("silverman").fit(x[:, None]).bandwidth_
    np.testing.assert_array_equal(kde.bandwidth_, expected)


def test_the_rule_of_botev_is_for_one_feature():
    with pytest.raises(
        ValueError, match=r"'bandwidth' parameter .* more than one feature"
    ):
        GaussianKDE("isj").fit(rows(20, 2))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("shape", ["auto", *SHAPES])
@pytest.mark.parametrize(
    "values", [(0.3, 0.1 + 0.2), (1929245168.06679, 1929245168.0667902)]
)
def test_a_column_that_varies_by_rounding_alone_is_constant(values, shape):
    X = np.array([[value] for value in values * 20])
    kde = GaussianKDE("likelihood", covariance_type=shape)
    expected = clone(kde).fit(np.full(X.shape, values[0])).score(X)
    assert kde.fit(X).score(X) == pytest.approx(expected, abs=1e-6)
    # Its rounding errors distinguish no rows.
    X = np.column_stack([np.round(rows(40, 1), 1), X])
    jitter = clone(kde).fit(X).loo_score_
    constant = clone(kde).fit(X * [1, 0] + [0, values[0]]).loo_score_
    assert jitter == pytest.approx(constant, abs=1e-6)


@pytest.mark.parametrize("n", [300, thorough(6000)])
def test_the_likelihood_counts_rows_not_lines(n):
    # More rows than are left out: which ones is told by the rows, not by their order.
    X = np.vstack([rows(n // 2, 2), 0.1 * rows(n // 2, 2, seed=1)])
    weights = np.random.RandomState(2).randint(1, 4, size=n)
    weighted = GaussianKDE("likelihood").fit(X, sample_weight=weights)
    order = np.random.RandomState(3).permutation(weights.sum())
    doubled = np.repeat(X, weights, axis=0)[order]
    with pytest.warns(UndefinedMetricWarning, match="copies of other rows"):
        repeated = GaussianKDE("likelihood").fit(doubled)
    np.testing.assert_allclose(repeated.covariance_, weighted.covariance_, rtol=1e-9)
    assert repeated.loo_score_ == pytest.approx(weighted.loo_score_, rel=1e-9)


def test_the_rule_of_botev_is_the_fixed_point_of_the_paper():
    x = np.concatenate([rows(300, 1)[:, 0], 0.3 * rows(200, 1, seed=1)[:, 0]])
    n, h = x.size, improved_sheather_jones(x, np.ones(500), 500)
    # Botev, Grotowski and Kroese (2010), on rows in place of bins, in [0, 1].
    low, span = x.min() - 0.5 * np.ptp(x), 2 * np.ptp(x)
    k = np.pi * np.arange(1, 400)
    a = np.cos(np.multiply.outer(k, (x - low) / span)).mean(axis=1)
    t = (h / span) ** 2

    def norm_of_derivative(order, time):
        """Return the squared norm of a derivative of the estimate at a time."""
        return 2 * (k ** (2 * order) * a**2 * np.exp(-(k**2) * time)).sum()

    time = t
    for j in range(6, 1, -1):
        odd = np.prod(np.arange(1, 2 * j, 2, dtype=float))  # 1 3 5 ... (2 j - 1)
        norm_of_next = norm_of_derivative(j + 1, time)
        time = (
            (1 + 2.0 ** -(j + 0.5)) / 3 * odd / (n * np.sqrt(np.pi / 2) * norm_of_next)
        ) ** (2 / (3 + 2 * j))
    expected = (2 * n * np.sqrt(np.pi) * norm_of_derivative(2, time)) ** (-2 / 5)
    assert t == pytest.approx(expected, rel=1e-3)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_the_rule_of_botev_counts_copies_once():
    x = rows(300, 1)
    once = GaussianKDE("isj").fit(x).bandwidth_
    repeated = GaussianKDE("isj").fit(np.repeat(x, 9, axis=0)).bandwidth_
    np.testing.assert_allclose(repeated, once, rtol=1e-3)


def test_the_shape_is_the_most_likely(rng):
    X = rng.standard_normal((80, 2))  # no shape is far behind
    scores = [
        GaussianKDE("likelihood", covariance_type=shape).fit(X).loo_score_
        for shape in SHAPES
    ]
    assert 1e-3 < max(scores) - min(scores) < 0.1
    assert GaussianKDE("likelihood").fit(X).loo_score_ == max(scores)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e-9])
@pytest.mark.parametrize(("n", "d"), [(2, 2), (3, 3), (4, 3), (5, 9), (12, 10)])
def test_few_rows_are_not_confined_to_the_plane_through_them(n, d, scale, weighted):
    rng = np.random.RandomState(d)
    X, held_out = scale * rng.standard_normal((2, 200, d))
    X, weights = X[:n], rng.randint(1, 4, n) if weighted else None
    # With "full", 12 rows of 10 features had scored 40 nats less.
    normal = -0.5 * d * (np.log(2 * np.pi) + 1) - d * np.log(scale)  # the best possible
    score = GaussianKDE("likelihood").fit(X, sample_weight=weights).score(held_out)
    assert score > normal - 2 * d


def test_few_rows_that_span_fewer_dimensions_keep_their_plane():
    X = rows(12, 2) @ np.random.RandomState(0).standard_normal((2, 6))
    with pytest.warns(DataDimensionalityWarning, match="4 fewer dimensions"):
        plane = GaussianKDE("likelihood").fit(X)
    assert (
        plane.loo_score_
        > GaussianKDE("likelihood", covariance_type="diag").fit(X).loo_score_
    )


@pytest.mark.parametrize("octaves", [-2, -1, 1, 2])
def test_the_factor_may_lie_octaves_away_from_that_of_a_few_rows(octaves):
    X, ones = rows(200, 2), np.ones(200)
    whitening = estimate_whitening(X, ones, "full", ddof=1)
    left_out = LeftOut(X, ones, whitening)
    best = int(left_out.curve().argmax())
    assert _leave_one_out._uphill(left_out, best + octaves) == best
    found = [_leave_one_out._refined(left_out, best + k) for k in (0, octaves)]
    assert found[0] == pytest.approx(found[1], abs=0.01)


def test_the_rows_to_leave_out_are_a_random_sample():
    chosen = _leave_one_out._sample(10_000, 400)
    assert np.unique(chosen).size == 400
    assert abs(chosen.mean() - 5_000) < 4 * 10_000 / np.sqrt(12 * 400)
    np.testing.assert_array_equal(_leave_one_out._sample(400, 400), np.arange(400))
