"""Missing values in classifiers and detectors, and which column makes a row odd."""

import numpy as np
import pandas as pd
import pytest
import skops.io
from estimators import rows
from scipy.stats import chi2, expon, kstest, norm
from sklearn.decomposition import PCA
from sklearn.neighbors import KernelDensity
from sklearn.utils import get_tags

import skgen
from skgen import (
    DensityOutlierDetector,
    EMGaussianMixture,
    GenerativeClassifier,
    make_generative_pipeline,
)
from skgen.compose._surprise import (
    N_REFERENCE,
    _tail,
    equated,
    spread_rows,
    surprise,
)

NAN = np.nan


def hidden(X, fraction=0.2, seed=0):
    """Return rows with values missing completely at random."""
    return np.where(
        np.random.RandomState(seed).uniform(size=X.shape) < fraction, NAN, X
    )


# -- classifier ------------------------------------------------------------------------


def two_normals():
    """Return a classifier of two normal classes."""
    rng = np.random.RandomState(0)
    y = np.repeat([0, 1], [600, 200])
    X = rng.standard_normal((800, 2)) @ [[1.0, 0.6], [0.0, 0.8]] + 2.0 * y[:, None]
    return GenerativeClassifier(EMGaussianMixture(reg_covar=0)).fit(X, y)


def test_classes_are_given_the_observed_values():
    model = two_normals()
    x = np.array([[0.7, NAN], [NAN, 1.2], [NAN, NAN]])
    expected = np.empty((3, 2))
    for c, density in enumerate(model.estimators_):
        mean, deviation = density.means_[0], np.sqrt(np.diag(density.covariances_[0]))
        expected[0, c] = norm(mean[0], deviation[0]).pdf(0.7)
        expected[1, c] = norm(mean[1], deviation[1]).pdf(1.2)
        expected[2, c] = 1
    expected *= model.priors_
    np.testing.assert_allclose(
        np.exp(model.predict_joint_log_proba(x)), expected, rtol=1e-9
    )
    posterior = expected / expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(x), posterior, rtol=1e-9)
    np.testing.assert_allclose(model.predict_proba(x)[2], [0.75, 0.25], rtol=1e-12)
    np.testing.assert_array_equal(model.predict(x), posterior.argmax(axis=1))
    np.testing.assert_allclose(model.score_samples(x)[2], 0, atol=1e-12)


def test_a_classifier_is_fitted_to_incomplete_rows():
    X, y = rows(300, 3), np.arange(300) % 2
    X[y == 1] += 8
    incomplete = hidden(X)
    model = GenerativeClassifier(EMGaussianMixture()).fit(incomplete, y)
    assert model.score(X, y) > 0.9
    alone = EMGaussianMixture().fit(incomplete[y == 1])
    np.testing.assert_array_equal(model.estimators_[1].means_, alone.means_)
    assert model.sample(5, random_state=0).shape == (5, 3)
    assert np.isfinite(model.sample(5, random_state=0)).all()


def test_tags_are_those_of_the_density():
    for kind in (GenerativeClassifier, DensityOutlierDetector):
        assert get_tags(kind(EMGaussianMixture())).input_tags.allow_nan
        assert not get_tags(kind(KernelDensity())).input_tags.allow_nan
        with pytest.raises(ValueError, match="contains NaN in column 1"):
            kind(KernelDensity()).fit(np.where(rows(9, 2) < 9, [[1, NAN]], 0), [0] * 9)


# -- formulas --------------------------------------------------------------------------


def test_scores_on_their_own_scale_stay():
    rng = np.random.RandomState(0)
    reference = np.sort(-rng.chisquare(3, size=300))
    values = np.concatenate([reference, [-50, -20, 0.5], reference[:-1] + 1e-3])
    np.testing.assert_allclose(equated(values, reference, reference), values, atol=1e-9)


def test_equated_scores_are_at_the_same_quantiles():
    # Both scales are increasing functions of one variable: quantiles are known.
    u = (np.arange(400) + 0.5) / 400
    order = np.random.RandomState(0).permutation(400)
    reference, scale = chi2(2).ppf(u)[order], norm(7, 2).ppf(u)[order]
    level = np.array([0.2, 0.5, 0.9])
    found = equated(chi2(2).ppf(level), reference, scale)
    np.testing.assert_allclose(found, norm(7, 2).ppf(level), atol=0.02)
    # The order stays, in both tails.
    values = np.linspace(-20, 40, 500)
    assert (np.diff(equated(values, reference, scale)) >= 0).all()
    assert (np.diff(equated(values[values < 0], reference, scale)) > 0).all()


def test_ties_have_the_median_of_their_quantiles():
    scale = np.arange(101.0) ** 2
    np.testing.assert_array_equal(equated(np.zeros(2), np.zeros(101), scale), 50.0**2)


def test_surprise_is_exponential():
    rng = np.random.RandomState(0)
    reference, values = -rng.chisquare(1, size=(2, 20_000)) / 2
    found = surprise(values, reference)
    assert (found >= 0).all()
    # -log of a uniform probability, up to the tail, which is approximate.
    level = np.log(10)
    assert kstest(found[found < level], expon.cdf).statistic < 0.12
    np.testing.assert_allclose((found < level).mean(), 0.9, atol=0.01)
    for probability in (0.01, 0.001):
        rare = np.mean(found > -np.log(probability))
        assert 0.4 < rare / probability < 2
    far = surprise(np.array([-30.0, -300.0]), reference)
    assert far[1] > 5 * far[0] > 50


def test_the_tail_is_that_of_an_exponential_distribution_despite_outliers():
    rng = np.random.RandomState(0)
    reference = np.sort(np.concatenate([-rng.exponential(3, 50_000), [-1e6] * 2000]))
    _, width = _tail(reference)
    # 2,000 of the 5,200 rows in the tail are outliers, so that the median is at the
    # quantile 600 / 3,200 of the others.
    expected = -3 * np.log(600 / 3200) / np.log(2)
    np.testing.assert_allclose(width, expected, rtol=0.05)
    np.testing.assert_allclose(_tail(reference[2000:])[1], 3, rtol=0.1)
    assert _tail(np.zeros(50))[1] == 1
    assert _tail(np.zeros(1)) == (0, 1)


def test_reference_rows_are_at_even_quantiles():
    rng = np.random.RandomState(0)
    scores = rng.standard_normal(20_000)
    some = spread_rows(scores, np.ones(20_000))
    assert some.size == N_REFERENCE
    levels = np.array([0.01, 0.3, 0.5, 0.99])
    np.testing.assert_allclose(
        np.quantile(scores[some], levels), np.quantile(scores, levels), atol=0.05
    )
    few = np.array([3.0, -np.inf, 1.0, 2.0])
    assert spread_rows(few, np.ones(4)).tolist() == [2, 3, 0]
    assert spread_rows(few, np.array([0.0, 1, 1, 1])).tolist() == [2, 3]
    # A weight of 2 is the row twice.
    assert spread_rows(few, np.array([1.0, 1, 2, 1])).tolist() == [2, 2, 3, 0]
    assert spread_rows(few[1:2], np.ones(1)).size == 0


# -- detector --------------------------------------------------------------------------


def test_complete_rows_keep_their_log_densities():
    X = rows(300, 3)
    density = EMGaussianMixture(2, random_state=0)
    model = DensityOutlierDetector(density).fit(X)
    mixed = np.vstack([X[:20], hidden(X[20:40], 0.5)])
    expected = density.fit(X).score_samples(X)
    np.testing.assert_array_equal(model.score_samples(X), expected)
    np.testing.assert_allclose(model.score_samples(mixed)[:20], expected[:20])
    np.testing.assert_allclose(model.offset_, np.quantile(expected, 0.1), rtol=1e-9)
    # An answer does not depend on the other rows.
    alone = [model.score_samples(row[None])[0] for row in mixed]
    np.testing.assert_allclose(model.score_samples(mixed), alone, atol=1e-9)


@pytest.mark.parametrize("contamination", [0.1, 0.03])
def test_every_pattern_has_the_same_fraction_of_outliers(contamination):
    # Standard deviations from 0.01 to 100: log-densities of patterns differ by nats.
    X = rows(4000, 3) * [0.01, 1, 100]
    model = DensityOutlierDetector(EMGaussianMixture(2, random_state=0), contamination)
    model.fit(X)
    for pattern in ([1, NAN, 1], [NAN, 1, NAN], [1, 1, NAN]):
        outliers = (model.predict(X * pattern) == -1).mean()
        # Five standard errors of a quantile of 500 reference rows.
        error = 5 * np.sqrt(contamination * (1 - contamination) / 500)
        assert abs(outliers - contamination) < error
    empty = np.full((1, 3), NAN)
    assert model.predict(empty) == 1
    median = np.median(model.score_samples(X))
    np.testing.assert_allclose(model.score_samples(empty), median, atol=0.05)


def test_a_far_value_is_an_outlier_whatever_is_missing():
    X = rows(500, 3)
    model = DensityOutlierDetector(EMGaussianMixture(2, random_state=0), 0.01).fit(X)
    far = np.array([[40.0, 0, 0], [40, NAN, 0], [40, NAN, NAN], [NAN, NAN, NAN]])
    scores = model.decision_function(far)
    assert (scores[:3] < -20).all()
    assert scores[3] > 0
    further = model.decision_function(far * 2)
    assert (further[:3] < scores[:3]).all()


def test_a_detector_is_fitted_to_incomplete_rows():
    X = rows(400, 3)
    incomplete = hidden(X)
    model = DensityOutlierDetector(EMGaussianMixture(2, random_state=0)).fit(incomplete)
    scores = model.score_samples(incomplete)
    np.testing.assert_allclose(np.mean(scores < model.offset_), 0.1, atol=0.003)
    np.testing.assert_allclose(model.offset_, np.quantile(scores, 0.1), rtol=1e-9)
    assert not np.isnan(model._reference).any()
    weights = np.random.RandomState(1).randint(3, size=400)
    weighted = DensityOutlierDetector(EMGaussianMixture(reg_covar=0))
    repeated = np.repeat(incomplete, weights, axis=0)
    # (Draws of missing reference values differ, complete rows do not.)
    np.testing.assert_allclose(
        weighted.fit(incomplete, sample_weight=weights).score_samples(X),
        weighted.fit(repeated).score_samples(X),
        rtol=1e-5,
    )
    automatic = DensityOutlierDetector(EMGaussianMixture(), "auto").fit(incomplete)
    assert 0 < np.mean(automatic.predict(incomplete) == -1) < 0.1


def test_a_detector_with_reference_rows_can_be_saved():
    X = hidden(rows(90, 2))
    model = DensityOutlierDetector(EMGaussianMixture()).fit(X)
    loaded = skops.io.loads(skops.io.dumps(model), trusted=skgen.TRUSTED_TYPES)
    np.testing.assert_array_equal(loaded.score_samples(X), model.score_samples(X))
    np.testing.assert_array_equal(loaded.explain(X), model.explain(X))


# -- explanations ----------------------------------------------------------------------


def test_a_wrong_value_is_explained():
    rng = np.random.RandomState(0)
    z = rng.standard_normal((1000, 1))
    X = (z + 0.1 * rng.standard_normal((1000, 4))) * [1, 1e-3, 1e3, 1]
    model = DensityOutlierDetector(EMGaussianMixture()).fit(X)
    for j in range(4):
        wrong = X[:50].copy()
        wrong[:, j] = -X[:50, j] - np.sign(X[:50, j]) * 0.5 * X[:, j].std()
        found = model.explain(wrong)  # in the range of the column, but not of the row
        assert (found.argmax(axis=1) == j).all()
    usual = model.explain(X)
    np.testing.assert_allclose(usual.mean(axis=0), 1, atol=0.1)
    frame = pd.DataFrame(wrong, columns=list("abcd"))
    named = DensityOutlierDetector(EMGaussianMixture()).fit(
        pd.DataFrame(X, columns=list("abcd"))
    )
    np.testing.assert_allclose(named.explain(frame), found)


def test_explanations_of_incomplete_rows_are_comparable():
    X = rows(1000, 3)
    model = DensityOutlierDetector(EMGaussianMixture(2, random_state=0)).fit(X)
    for pattern in ([1, NAN, 1], [1, NAN, NAN], [1, 1, 1]):
        found = model.explain(X * pattern)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(X * pattern))
        np.testing.assert_allclose(found[:, 0].mean(), 1, atol=0.15)


def test_densities_of_complete_rows_explain():
    density = make_generative_pipeline(PCA(2), EMGaussianMixture(2, random_state=0))
    X = rows(300, 3)
    model = DensityOutlierDetector(density).fit(X)
    far = X[:5] + np.array([0, 0, 40])
    assert (model.explain(far).argmax(axis=1) == 2).all()
    with pytest.raises(ValueError, match="contains NaN"):
        model.score_samples(X * [1, NAN, 1])
    model._reference = X[:0]
    with pytest.raises(ValueError, match="density of every training row is zero"):
        model.explain(X)


def test_explanations_need_conditional_scores():
    model = DensityOutlierDetector(KernelDensity()).fit(rows(60, 2))
    with pytest.raises(ValueError, match=r"'conditional_score_samples'.* KernelDens"):
        model.explain(rows(3, 2))
