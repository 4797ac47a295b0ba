"""GaussianKDE against scikit-learn, scipy, closed forms and a naive version."""

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
from estimators import rows
from scipy.special import logsumexp
from scipy.stats import gaussian_kde
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.neighbors import KernelDensity

from skgen import GaussianKDE
from skgen._checks import row_counts
from skgen.kde import _fourier
from skgen.kde._bandwidth import scott_factor, silverman_factor


def naive_log_density(X, points, covariance, weights):
    """Return log p(x) with every pair in memory, by differences, in float64."""
    d = points.shape[1]
    lower = np.linalg.cholesky(covariance)
    diff = X[:, None, :] - points[None, :, :]  # (m, n, d)
    y = np.linalg.solve(lower, diff.reshape(-1, d).T).T.reshape(diff.shape)
    exponents = -0.5 * (y**2).sum(axis=2)  # (m, n)
    constant = -0.5 * d * np.log(2 * np.pi) - np.log(np.diagonal(lower)).sum()
    return logsumexp(exponents, axis=1, b=weights / weights.sum()) + constant


@pytest.mark.parametrize("n_features", [1, 2, 6])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_float_bandwidth_is_that_of_kernel_density(n_features, weighted, rng):
    X, queries = rows(300, n_features), rows(80, n_features, seed=1)
    weights = rng.uniform(0.1, 3, size=300) if weighted else None
    ours = GaussianKDE(0.4).fit(X, sample_weight=weights)
    # One leaf for all rows: across leaves its tree loses the tails.
    theirs = KernelDensity(bandwidth=0.4, leaf_size=300).fit(X, sample_weight=weights)
    np.testing.assert_allclose(
        ours.score_samples(queries), theirs.score_samples(queries), rtol=1e-10
    )


def test_exact_sums_keep_the_tails_that_a_tree_loses():
    X, queries = rows(300, 6), rows(80, 6, seed=1)
    exact = naive_log_density(queries, X, 0.16 * np.eye(6), np.ones(300))
    ours = GaussianKDE(0.4).fit(X).score_samples(queries)
    np.testing.assert_allclose(ours, exact, rtol=1e-12)
    # A sentence of the guide on scikit-learn's defaults: if this fails, correct it. The
    # remainder of a tail in the tree is rounding, which differs between processors.
    tree = KernelDensity(bandwidth=0.4).fit(X).score_samples(queries)
    assert np.abs(tree - exact).max() > 20


@pytest.mark.parametrize("rule", ["scott", "silverman"])
@pytest.mark.parametrize("n_features", [1, 2, 6])
def test_rules_are_those_of_scipy(rule, n_features):
    X, queries = rows(300, n_features), rows(80, n_features, seed=1)
    expected = gaussian_kde(X.T, bw_method=rule).logpdf(queries.T)
    ours = GaussianKDE(rule).fit(X)
    np.testing.assert_allclose(ours.score_samples(queries), expected, rtol=1e-10)
    covariance = gaussian_kde(X.T, bw_method=rule).covariance
    np.testing.assert_allclose(ours.covariance_, covariance, rtol=1e-10)


def test_factors_are_those_of_scipy():
    kde = gaussian_kde(rows(57, 3).T)
    assert scott_factor(57, 3) == pytest.approx(kde.scotts_factor())
    assert silverman_factor(57, 3) == pytest.approx(kde.silverman_factor())


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
@pytest.mark.parametrize("whole", [True, False])
def test_weights_and_shapes_against_the_naive_sum(covariance_type, whole, rng):
    X, queries = rows(90, 3), rows(40, 3, seed=1)
    weights = rng.randint(1, 4, size=90) if whole else rng.uniform(0.2, 4, size=90)
    kde = GaussianKDE(covariance_type=covariance_type).fit(X, sample_weight=weights)
    n = weights.sum() if whole else weights.sum() ** 2 / (weights**2).sum()
    centred = X - np.average(X, axis=0, weights=weights)
    S = (centred * weights[:, None]).T @ centred / weights.sum() * n / (n - 1)
    shape = {
        "full": S,
        "diag": np.diag(np.diagonal(S)),
        "spherical": np.trace(S) / 3 * np.eye(3),
    }[covariance_type]
    H = scott_factor(n, 3) ** 2 * shape
    np.testing.assert_allclose(
        kde.score_samples(queries),
        naive_log_density(queries, X, H, weights),
        rtol=1e-11,
    )
    np.testing.assert_allclose(kde.bandwidth_, np.sqrt(np.diagonal(H)), rtol=1e-12)


def test_an_array_gives_one_bandwidth_for_each_feature():
    X, queries = rows(90, 3), rows(40, 3, seed=1)
    kde = GaussianKDE([0.1, 2.0, 0.7]).fit(X)
    expected = naive_log_density(
        queries, X, np.diag([0.01, 4.0, 0.49]), np.ones(X.shape[0])
    )
    np.testing.assert_allclose(kde.score_samples(queries), expected, rtol=1e-11)
    np.testing.assert_allclose(kde.bandwidth_, [0.1, 2.0, 0.7])
    np.testing.assert_allclose(kde.covariance_, np.diag([0.01, 4.0, 0.49]))


def test_one_kernel_is_the_normal_density():
    kde = GaussianKDE(2.0).fit([[1.0, -1.0]])
    expected = -np.log(2 * np.pi * 4) - 0.5 * (9 + 1) / 4
    assert kde.score_samples([[4.0, 0.0]])[0] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("n_features", [1, 3])
@pytest.mark.parametrize(
    ("bandwidth", "covariance_type"),
    [
        *(("scott", shape) for shape in ("auto", "full", "diag", "spherical")),
        *(("likelihood", shape) for shape in ("auto", "full", "diag", "spherical")),
        *((0.5, "auto"), ([0.5], "auto")),
    ],
)
def test_fitted_attributes_have_one_shape(bandwidth, covariance_type, n_features):
    if isinstance(bandwidth, list):
        bandwidth = bandwidth * n_features
    for seed in range(3):
        X = rows(50, n_features, seed=seed)
        kde = GaussianKDE(bandwidth, covariance_type=covariance_type).fit(X)
        assert kde.bandwidth_.shape == (n_features,)
        assert kde.covariance_.shape == (n_features, n_features)
        variances = np.diagonal(kde.covariance_)
        np.testing.assert_allclose(kde.bandwidth_**2, variances, rtol=1e-12)
        assert kde.weights_.sum() == pytest.approx(1.0)
        np.testing.assert_array_equal(kde.X_train_, X)


@pytest.mark.parametrize("weights", [None, [5e-324, *[1e10] * 9_999]])
@pytest.mark.parametrize(
    "kde",
    [
        GaussianKDE(),
        GaussianKDE("likelihood", covariance_type="diag"),
        GaussianKDE(0.2, algorithm="exact", bounds=(-30, None)),
        GaussianKDE(0.2, algorithm="fourier"),
    ],
)
def test_a_pickle_holds_the_rows_once(kde, weights):
    X = rows(10_000, 2)
    kde = clone(kde).fit(X, sample_weight=weights)
    before = pickle.dumps(kde)
    expected = kde.score_samples(X[:200])
    kde.transform(X[:1])
    assert len(pickle.dumps(kde)) == len(before)
    n_vectors = 1 if weights is None else 2  # of weights
    assert len(before) < X.nbytes + n_vectors * 8 * 10_000 + 10_000
    kde.set_params(rtol=0.0, algorithm="auto", bounds=None)  # not fitted
    for again in (pickle.loads(before), copy.deepcopy(kde)):
        np.testing.assert_array_equal(again.score_samples(X[:200]), expected)


def test_a_pickle_is_scored_without_the_library_of_transforms(monkeypatch):
    X = rows(10_000, 1)
    kde = GaussianKDE(0.2, algorithm="fourier").fit(X)
    monkeypatch.setattr(_fourier, "is_installed", lambda name: False)
    again = pickle.loads(pickle.dumps(kde))
    expected = kde.score_samples(X[:200])
    np.testing.assert_allclose(again.score_samples(X[:200]), expected, atol=1e-6)


@pytest.mark.parametrize("n_features", [1, 5])
@pytest.mark.parametrize("bounds", [None, (-30, None)])
@pytest.mark.parametrize("algorithm", ["exact", "fourier"])
def test_a_row_with_nan_changes_no_other_row(algorithm, bounds, n_features):
    X = rows(100, n_features)
    algorithm = algorithm if n_features < 4 else "exact"
    kde = GaussianKDE(algorithm=algorithm, bounds=bounds).fit(X)
    expected = kde.score_samples(X[:9])
    queries = X[:9].copy()
    queries[4, -1], expected[4] = np.nan, 0.0
    if n_features > 1:
        observed = range(n_features - 1)
        expected[4] = kde.marginal(observed).score_samples(X[4:5, :-1])[0]
    for finite in (False, True):
        with config_context(assume_finite=finite):
            found = kde.score_samples(queries)
            np.testing.assert_allclose(found, expected, rtol=1e-9)
            assert np.isfinite(kde.transform(queries)).all()


@pytest.mark.parametrize("rule", ["scott", "silverman"])
def test_rules_with_importance_weights_are_those_of_scipy(rule, rng):
    X, queries = rows(300, 2), rows(80, 2, seed=1)
    for weights in (rng.pareto(1.1, 300), 1e-9 * rng.uniform(size=300)):
        theirs = gaussian_kde(X.T, bw_method=rule, weights=weights)
        ours = GaussianKDE(rule).fit(X, sample_weight=weights)
        np.testing.assert_allclose(ours.covariance_, theirs.covariance, rtol=1e-9)
        expected = theirs.logpdf(queries.T)
        np.testing.assert_allclose(ours.score_samples(queries), expected, rtol=1e-9)


@pytest.mark.parametrize("n_features", [1, 2, 10, 1000])
@pytest.mark.parametrize("reach", [10.0, 1e3, 1e5])
def test_far_in_the_tail_the_density_is_finite_and_right(n_features, reach, rng):
    X = rng.standard_normal((30, n_features))
    kde = GaussianKDE(0.5).fit(X)
    queries = rng.standard_normal((5, n_features))
    queries *= 0.5 * reach / np.linalg.norm(queries, axis=1, keepdims=True)
    diff = queries[:, None, :] - X[None]
    expected = logsumexp(-0.5 * ((diff / 0.5) ** 2).sum(axis=2), axis=1) - (
        np.log(30) + n_features * np.log(0.5 * np.sqrt(2 * np.pi))
    )
    np.testing.assert_allclose(kde.score_samples(queries), expected, rtol=1e-12)
    assert np.isfinite(kde.transform(queries)).all()


@pytest.mark.parametrize("bandwidth", [1e-7, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("offset", [0.0, 2.0**26])
def test_no_digits_are_lost_to_narrow_kernels_or_offsets(bandwidth, offset):
    # Exact in binary, with the offset as well.
    X = np.round(rows(80, 2) * 2**20) / 2**20
    expected = naive_log_density(X, X, bandwidth**2 * np.eye(2), np.ones(80))
    scores = GaussianKDE(bandwidth).fit(X + offset).score_samples(X + offset)
    np.testing.assert_allclose(scores, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("distance", [1e4, 1e8, 1e12])
@pytest.mark.parametrize("bandwidth", [1e-3, [1e-3, 2.0]])
def test_queries_on_one_of_two_far_clusters_keep_their_digits(distance, bandwidth):
    # Coordinates in units of the bandwidth would hold 16 digits of 1e15.
    X = np.round(rows(80, 2) * 2**10) / 2**10
    X[40:] += np.round(distance)
    H = np.diag(np.broadcast_to(bandwidth, 2)) ** 2
    expected = naive_log_density(X, X, H, np.ones(80))
    scores = GaussianKDE(bandwidth).fit(X).score_samples(X)
    np.testing.assert_allclose(scores, expected, rtol=1e-13, atol=1e-12)


def test_a_bandwidth_far_below_the_spread_of_three_points():
    kde = GaussianKDE(1e-3).fit([[0.1], [0.2], [1e12]])
    scaled = (0.103 - 0.1) / 1e-3
    expected = -0.5 * scaled**2 - np.log(3 * 1e-3 * np.sqrt(2 * np.pi))
    assert kde.score_samples([[0.103]])[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bandwidth", ["scott", 1.0, [0.5, 2.0]])
def test_queries_beyond_all_squares_are_answered(bandwidth):
    kde = GaussianKDE(bandwidth).fit(rows(50, 2) * 1e-100)
    far = kde.score_samples([[1e149, -1e149], [0.0, 0.0]])
    assert far[0] < -1e90
    assert np.isfinite(kde.transform([[1e149, -1e149]])).all()
    with pytest.raises(ValueError, match=r"'X' argument of .*score_samples must lie"):
        kde.score_samples([[1e160, 0.0]])


def test_changing_the_rows_after_the_fit_changes_nothing():
    X = rows(50, 2)
    for bandwidth in ("scott", 0.01):
        Y = X.copy()
        kde = GaussianKDE(bandwidth).fit(Y)
        before = kde.score_samples(X)
        Y[:] = 0.0
        np.testing.assert_array_equal(kde.score_samples(X), before)
        latent = kde.transform(X)
        assert not np.shares_memory(kde.inverse_transform(latent), latent)


def test_the_least_weights_are_weights_still():
    X = rows(40, 2)
    weights = np.full(40, 1e10)
    weights[0] = 5e-324
    kde = GaussianKDE(1.0).fit(X, sample_weight=weights)
    without = GaussianKDE(1.0).fit(X[1:])
    np.testing.assert_allclose(kde.score_samples(X), without.score_samples(X))


def test_transform_is_one_step_of_mean_shift():
    X, queries = rows(120, 3), rows(10, 3, seed=1)
    kde = GaussianKDE().fit(X)
    step, gradient = 1e-5, np.empty((10, 3))
    for j in range(3):
        shift = step * np.eye(3)[j]
        rise = kde.score_samples(queries + shift) - kde.score_samples(queries - shift)
        gradient[:, j] = rise / (2 * step)
    expected = queries + gradient @ kde.covariance_
    np.testing.assert_allclose(kde.transform(queries), expected, atol=1e-7)


def test_inverse_transform_returns_the_latent():
    kde = GaussianKDE().fit(rows(50, 2))
    np.testing.assert_array_equal(kde.inverse_transform([[1.0, 2.0]]), [[1.0, 2.0]])


def test_scoring_never_holds_all_pairs():
    X, queries = rows(20_000, 2), rows(5_000, 2, seed=1)
    kde = GaussianKDE().fit(X)  # all pairs would be 800 MB
    with config_context(working_memory=1):
        tracemalloc.start()
        kde.score_samples(queries)
        kde.transform(queries)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * 2**20


@pytest.mark.parametrize("rule", ["scott", "silverman"])
def test_one_row_has_no_covariance_for_a_rule(rule):
    with pytest.raises(ValueError, match="1 sample"):
        GaussianKDE(rule).fit([[1.0, 2.0]])
    with pytest.raises(ValueError, match="1 sample"):
        GaussianKDE(rule).fit(rows(3, 2), sample_weight=[0, 1, 0])
    assert np.isfinite(GaussianKDE(1.0).fit([[1.0, 2.0]]).score([[1.0, 2.0]]))


@pytest.mark.parametrize("rule", ["scott", "silverman", "isj", "likelihood"])
@pytest.mark.parametrize("weights", [[1.0, 0, 0], [0.3, 0, 0], [1.0, 1e-20, 0]])
def test_weights_that_all_lie_on_one_row_are_named(rule, weights):
    X = rows(3, 1)
    with pytest.raises(ValueError, match=rf"'{rule}' .* 2 rows .* Got .*1 "):
        GaussianKDE(rule).fit(X, sample_weight=weights)
    assert np.isfinite(GaussianKDE(1.0).fit(X, sample_weight=weights).score(X))


@pytest.mark.parametrize("n_features", [1, 3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rule", ["scott", "silverman"])
def test_importance_weights_are_those_of_scipy(n_features, dtype, rule, rng):
    X = rows(400, n_features)
    for w in (
        rng.uniform(size=400),
        rng.pareto(1.1, 400),
        np.exp(rng.normal(size=400)),
    ):
        scipy = gaussian_kde(X.T, rule, weights=w)
        for scale in (1e-30, 1e-6, 1 / w.sum(), 1, np.pi, 1e8, 1e16, 1e30):
            weights = (w * scale).astype(dtype)
            kde = GaussianKDE(rule).fit(X, sample_weight=weights)
            rtol = 1e3 * np.finfo(dtype).eps
            np.testing.assert_allclose(kde.covariance_, scipy.covariance, rtol=rtol)
            expected = scipy.logpdf(X[:9].T)
            np.testing.assert_allclose(kde.score_samples(X[:9]), expected, rtol=rtol)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_large_weights_of_low_precision_count_no_rows(dtype, rng):
    # All numbers of these sizes are whole.
    X, lowest = rows(300, 1), 2 / np.finfo(dtype).eps
    weights = (lowest * rng.uniform(1, 10, size=300)).astype(dtype)
    scipy = gaussian_kde(X.T, weights=weights.astype(np.float64))
    kde = GaussianKDE().fit(X, sample_weight=weights)
    np.testing.assert_allclose(kde.covariance_, scipy.covariance, rtol=1e-6)
    counts = rng.randint(1, 3, size=300)
    expected = GaussianKDE().fit(np.repeat(X, counts, axis=0)).covariance_
    kde = GaussianKDE().fit(X, sample_weight=counts.astype(dtype))
    np.testing.assert_allclose(kde.covariance_, expected, rtol=1e-9)


@pytest.mark.parametrize("smallest", [0, 1e-300])
def test_weights_in_rows_are_positive_where_weights_are(smallest):
    counts = row_counts(np.array([smallest, 0.3, 0.6, 1e20]))
    assert (counts[0] > 0) == (smallest > 0)
    np.testing.assert_allclose(counts[1:], [3e-21, 6e-21, 1])
    whole = np.array([smallest * 1e300, 3, 5])
    np.testing.assert_array_equal(row_counts(whole), whole)
    np.testing.assert_allclose(row_counts(whole * 1.1), row_counts(whole / 8))


@pytest.mark.parametrize("total", [1 + 2e-16, 1.001, 1.5, 20, 200, 1e30])
@pytest.mark.parametrize("rule", ["scott", "silverman", "isj", "likelihood"])
def test_equal_weights_of_any_sum_are_no_weights(total, rule):
    X, expected = rows(200, 1), GaussianKDE(rule).fit(rows(200, 1)).bandwidth_
    kde = GaussianKDE(rule).fit(X, sample_weight=np.full(200, total / 200))
    np.testing.assert_allclose(kde.bandwidth_, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "bandwidth",
    [
        *("silver", 0.0, -1.0, np.nan, np.inf, True, None, "1", 10**400, 1e-320),
        *([0.0, 1.0], [[1.0, 2.0]], ["1", "2"], [True, True], [[1.0], [1.0, 2.0]]),
    ],
)
def test_a_bad_bandwidth_is_named(bandwidth):
    message = r"The 'bandwidth' parameter of GaussianKDE must be .* Got .* instead\."
    with pytest.raises(ValueError, match=message):
        GaussianKDE(bandwidth).fit(rows(9, 2))


def test_a_bandwidth_of_the_wrong_length_is_named():
    with pytest.raises(ValueError, match="one for each of the 2 features"):
        GaussianKDE([1.0, 2.0, 3.0]).fit(rows(9, 2))


@pytest.mark.parametrize("covariance_type", ["tied", None, 3])
def test_a_bad_covariance_type_is_named(covariance_type):
    message = (
        r"The 'covariance_type' parameter of GaussianKDE must be one of 'auto', 'full'"
    )
    with pytest.raises(ValueError, match=message):
        GaussianKDE(covariance_type=covariance_type).fit(rows(9, 2))


def test_a_constant_feature_gets_the_documented_floor_and_a_warning():
    X = np.column_stack([rows(100, 2), np.full(100, 7.0)])
    with pytest.warns(DataDimensionalityWarning, match=r"Constant features.*\[2\]"):
        kde = GaussianKDE().fit(X)
    assert kde.covariance_[2, 2] == pytest.approx(1e-6 * X.var(axis=0).max())
    plain = np.log(kde.covariance_[2, 2])
    there, beside = kde.score_samples([[1.0, 1.0, 7.0], [1.0, 1.0, 8.0]])
    assert beside == pytest.approx(there - 0.5 / np.exp(plain), rel=1e-9)


def test_a_duplicated_feature_gets_the_floor_across_the_difference():
    X = rows(100, 2)
    with pytest.warns(DataDimensionalityWarning, match="span 1 fewer dimensions"):
        kde = GaussianKDE().fit(np.column_stack([X, X[:, 0]]))
    s = X[:, 0].std()
    across = np.array([1.0, 0.0, -1.0]) / np.sqrt(2)
    assert across @ kde.covariance_ @ across == pytest.approx(1e-6 * s**2, rel=1e-6)


def test_warnings_call_columns_by_their_names():
    import pandas as pd

    frame = pd.DataFrame({"width": rows(30, 1)[:, 0], "flat": np.full(30, 2.0)})
    with pytest.warns(DataDimensionalityWarning, match=r"\[flat\]"):
        GaussianKDE().fit(frame)


def test_a_thousand_dimensions_from_few_rows(rng):
    X = rng.standard_normal((40, 1000))
    with pytest.warns(DataDimensionalityWarning, match="span 961 fewer dimensions"):
        kde = GaussianKDE().fit(X)
    assert np.isfinite(kde.score_samples(X)).all()
    diag = GaussianKDE(covariance_type="diag").fit(X)
    expected = naive_log_density(X[:2], X, diag.covariance_, np.ones(X.shape[0]))
    np.testing.assert_allclose(diag.score_samples(X[:2]), expected, rtol=1e-11)


def test_exact_scoring_never_holds_all_pairs():
    X, queries = rows(2_000, 2), rows(5_000, 2, seed=1)
    kde = GaussianKDE(algorithm="exact").fit(X)  # a block of pairs would be 40 MB
    with config_context(working_memory=1):
        tracemalloc.start()
        kde.score_samples(queries)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 * 2**20


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_rules_count_the_features_that_vary(covariance_type):
    X = rows(100, 2)
    alone = GaussianKDE(covariance_type=covariance_type).fit(X)
    beside = GaussianKDE(covariance_type=covariance_type)
    beside.fit(np.column_stack([X, np.full((100, 3), 7.0)]))
    np.testing.assert_allclose(beside.bandwidth_[:2], alone.bandwidth_, rtol=1e-9)
