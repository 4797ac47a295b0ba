"""Whitened coordinates, and the floor of directions without variance."""

import warnings

import numpy as np
import pytest
from estimators import rows, thorough
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from skgen import (
    DensityOutlierDetector,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    SGDGaussianMixture,
    make_generative_pipeline,
)
from skgen._whitening import DEGENERATE_VARIANCE, estimate_whitening
from skgen.rows._moments import moments_of

TYPES = ["full", "diag", "spherical"]


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("offset", [0.0, 2.0**26])
def test_whitened_rows_have_unit_variance(covariance_type, offset, rng):
    X = np.round(rows(500, 3) * 2**20) / 2**20 * [1.0, 8.0, 0.125] + offset
    weights = rng.uniform(0, 2, size=500)
    whitening = estimate_whitening(X, weights, covariance_type)
    Z = whitening.whiten(X)
    covariance = np.cov(Z.T, aweights=weights, ddof=0)
    if covariance_type == "full":
        np.testing.assert_allclose(covariance, np.eye(3), atol=1e-6)
    elif covariance_type == "diag":
        np.testing.assert_allclose(np.diagonal(covariance), 1.0, atol=1e-6)
    else:
        assert np.trace(covariance) == pytest.approx(3.0, abs=1e-6)
    np.testing.assert_allclose(whitening.unwhiten(Z), X, rtol=1e-12)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_log_det_is_that_of_the_map(covariance_type):
    X = rows(100, 3) * [1.0, 1e4, 1e-4]
    whitening = estimate_whitening(X, np.ones(100), covariance_type)
    for candidate, factor in ((whitening, 1.0), (whitening.rescaled(0.3), 0.3)):
        basis = candidate.whiten(np.eye(3)) - candidate.whiten(np.zeros((3, 3)))
        expected = np.linalg.slogdet(basis)[1]
        assert candidate.log_det == pytest.approx(expected, rel=1e-9)
        assert candidate.log_det == pytest.approx(
            whitening.log_det - 3 * np.log(factor), rel=1e-9
        )


def test_a_small_feature_beside_a_large_one_is_not_degenerate():
    X = rows(100, 2) * [1e6, 1e-6]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whitening = estimate_whitening(X, np.ones(100), "full")
    np.testing.assert_allclose(whitening.covariance, np.cov(X.T, ddof=0), rtol=1e-9)


def test_nearly_collinear_features_keep_their_covariance(rng):
    x = rng.standard_normal(200)
    X = np.column_stack([x, x + 1e-5 * rng.standard_normal(200)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whitening = estimate_whitening(X, np.ones(200), "full")
    across = np.array([1.0, -1.0])
    assert across @ whitening.covariance @ across == pytest.approx(
        (X @ across).var(), rel=1e-4
    )


@pytest.mark.parametrize("offset", [0.0, 1.7e9])
@pytest.mark.parametrize("length", [1e-3, 1e-5, 1e-12])
def test_what_rounding_resolves_is_not_collinear(length, offset, rng):
    if length * 3e7 < 8 * np.spacing(offset):
        pytest.skip("lost by rounding")
    start = offset + 3e7 * rng.uniform(size=(500, 1))
    X = np.hstack([start, start + 3e7 * length * rng.normal(size=(500, 2))])
    apart = np.column_stack([X[:, 0], X[:, 1:] - X[:, :1]])  # exact differences
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whitening = estimate_whitening(X, np.ones(500), "full")
        expected = estimate_whitening(apart, np.ones(500), "full")
    covariance = np.cov(whitening.whiten(X).T, ddof=0)
    error = 1e-8 + 100 * np.finfo(float).eps / length  # of the products of a row
    np.testing.assert_allclose(covariance, np.eye(3), atol=error)
    # The determinant of the differences is 1.
    assert whitening.log_det == pytest.approx(expected.log_det, abs=1e-6 + error)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, 1e2])
@pytest.mark.parametrize("n", [4, 40, 4000])
def test_exactly_collinear_features_are_found(n, offset, scale, dtype, rng):
    A = ((rng.normal(size=(n, 4)) + offset) * scale).astype(dtype)
    ones = np.ones(n)
    for more in (A[:, :1], A.sum(axis=1)[:, None], A[:, 1:2] - A[:, 2:3]):
        X = np.hstack([A, more]).astype(np.float64)
        whitening = estimate_whitening(X, ones, "full", dtype=dtype)
        assert whitening.degenerate.sum() == max(1, 5 - (n - 1))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
def test_the_floor_of_collinear_features_is_beside_small_directions(rng):
    a, b = rng.standard_normal((2, 300))
    X = np.column_stack([a, a + 1e-9 * b, a])
    whitening = estimate_whitening(X, np.ones(300), "full")
    assert whitening.degenerate.sum() == 1
    across = np.array([1.0, 0.0, -1.0]) / np.sqrt(2)
    floor = DEGENERATE_VARIANCE * a.var()
    assert across @ whitening.covariance @ across == pytest.approx(floor, rel=1e-6)
    # Given the third feature, the difference of the first two is known.
    Z = whitening.whiten(X)[:, ~whitening.degenerate]
    np.testing.assert_allclose(np.cov(Z.T, ddof=0), np.eye(2), atol=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_the_floor_scales_with_the_largest_variance(covariance_type):
    X = np.column_stack([rows(100, 2), np.full(100, 5.0)])
    for a in (1e-6, 1.0, 1e6):
        whitening = estimate_whitening(a * X, np.ones(100), covariance_type)
        floor = np.atleast_2d(whitening.covariance).diagonal()[-1]
        if covariance_type == "diag":
            floor = whitening.covariance[2]
        largest = (a * X).var(axis=0).max()
        assert floor == pytest.approx(DEGENERATE_VARIANCE * largest, rel=1e-9)
        # The floor stays where the rest shrinks to the bandwidth.
        kernel = whitening.rescaled(0.2)
        kernel_floor = kernel.covariance[..., 2].max()
        assert kernel_floor == pytest.approx(floor, rel=1e-9)


def test_a_mean_keeps_digits_far_from_the_origin():
    X = np.round(rows(100, 2) * 2**20) / 2**20
    weights = np.arange(1.0, 101.0)
    expected = np.average(X, axis=0, weights=weights)
    far = moments_of(X + 2.0**26, weights, full=False).mean - 2.0**26
    np.testing.assert_allclose(far, expected, atol=2e-8)


def test_noise_of_one_feature_flattens_no_other_direction(rng):
    a, b, c = rng.standard_normal((3, 200))
    # Far from the origin, the last is known to five digits only.
    X = np.column_stack([a, a + 1e-5 * b, 1e8 + 1e-3 * c])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whitening = estimate_whitening(X, np.ones(200), "full")
    assert not whitening.degenerate.any()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
def test_single_precision_is_rounded_sooner():
    column = np.float32(0.1) + np.tile([0, 1, -1, 0], 25) * np.spacing(np.float32(0.1))
    X = np.column_stack([rows(100, 1)[:, 0], column.astype(np.float64)])
    ones = np.ones(100)
    assert not estimate_whitening(X, ones, "diag").degenerate[1]
    assert estimate_whitening(X, ones, "diag", dtype=np.float32).degenerate[1]


@pytest.mark.parametrize(
    "model",
    [
        GaussianKDE(),
        EMGaussianMixture(),
        EMGaussianMixture(covariance_type="tied"),
        EMGaussianMixture(covariance_type="block", blocks=[[0, 1]]),
        thorough(SGDGaussianMixture(max_epochs=30, random_state=0)),
        make_generative_pipeline(StandardScaler(), PCA(), EMGaussianMixture()),
        GenerativeClassifier(EMGaussianMixture()),
        DensityOutlierDetector(GaussianKDE()),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize(
    ("unit", "gap", "span"),
    [(1, 30, 3e7), (1e3, 30, 3e7), (1e6, 1, 9e4), (1e9, 1, 9e4), (1 / 86400, 9, 3e7)],
    ids="seconds milliseconds microseconds nanoseconds days".split(),
)
def test_start_and_end_times_have_the_density_of_their_difference(
    model, unit, gap, span, rng
):
    start = np.round(1.7e9 + rng.uniform(0, span, size=200))
    times = np.column_stack([start, start + gap + rng.normal(0, gap / 6, size=200)])
    times *= unit
    # A map with a determinant of one.
    apart = np.column_stack([times[:, 0] - times[0, 0], times[:, 1] - times[:, 0]])
    found, expected = (clone(model).fit(X, np.arange(200) % 2) for X in (times, apart))
    classifies = hasattr(model, "predict_proba") and hasattr(model, "priors")
    answer = "predict_proba" if classifies else "score_samples"
    found, expected = getattr(found, answer)(times), getattr(expected, answer)(apart)
    np.testing.assert_allclose(found, expected, atol=0.02)
