"""EMGaussianMixture.partial_fit: stepwise EM over a stream of blocks."""

import warnings

import numpy as np
import pytest
from estimators import rows
from mixtures import TYPES
from sklearn.exceptions import ConvergenceWarning, DataDimensionalityWarning

from skgen import EMGaussianMixture
from skgen.mixture._covariance import COVARIANCES
from skgen.mixture._pass import Problem
from skgen.mixture._stepwise import Stepwise, step_size

every_type = pytest.mark.parametrize("covariance_type", TYPES)


def clusters(n, seed):
    """Return rows of three clusters in two dimensions, far from the origin."""
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((n, 2)) * [1.0, 0.2]
    return X + np.array([[0, 0], [8, 1], [0, 5]])[rng.randint(3, size=n)] + 1e3


def streamed(blocks, weights=None, **options):
    mixture = EMGaussianMixture(3, random_state=0, **options)
    for i, block in enumerate(blocks):
        mixture.partial_fit(
            block, sample_weight=None if weights is None else weights[i]
        )
    return mixture


@every_type
def test_the_first_block_is_fitted_as_a_whole(covariance_type):
    X = clusters(300, 0)
    options = {"covariance_type": covariance_type}
    streaming = streamed([X], **options)
    whole = EMGaussianMixture(3, random_state=0, **options).fit(X)
    np.testing.assert_array_equal(streaming.means_, whole.means_)
    assert streaming.n_iter_ == whole.n_iter_
    assert streaming.lower_bound_ == whole.lower_bound_


@every_type
def test_a_step_is_that_of_a_plain_loop(covariance_type):
    covariance = COVARIANCES[covariance_type]
    first, second = clusters(300, 0), clusters(150, 1)
    mixture = streamed([first], covariance_type=covariance_type)
    r, d = mixture.predict_proba(second), 2
    gamma = (150 / 450) ** 0.6
    counts = (1 - gamma) * mixture.weights_ + gamma * r.mean(axis=0)
    sums = ((1 - gamma) * mixture.weights_)[:, None] * mixture.means_
    means = (sums + gamma * r.T @ second / 150) / counts[:, None]

    def moment(k):
        """Return the second moment about the new mean: (d, d)."""
        old = mixture.covariances_
        old = {
            "full": lambda: old[k],
            "tied": lambda: old,
            "diag": lambda: np.diag(old[k]),
            "spherical": lambda: old[k] * np.eye(d),
        }[covariance_type]()
        moved = mixture.means_[k] - means[k]
        before = (1 - gamma) * mixture.weights_[k] * (old + np.outer(moved, moved))
        z = second - means[k]
        return before + gamma * (z * r[:, k : k + 1]).T @ z / 150

    moments = np.stack([moment(k) for k in range(3)])
    full = moments / counts[:, None, None]
    variances = np.diagonal(full, axis1=1, axis2=2)
    expected = {
        "full": full,
        "tied": moments.sum(axis=0),
        "diag": variances,
        "spherical": variances.mean(axis=1),
    }[covariance_type]
    before = float(np.mean(mixture.score_samples(second)))
    mixture.partial_fit(second)
    np.testing.assert_allclose(mixture.weights_, counts, rtol=1e-9)
    np.testing.assert_allclose(mixture.means_, means, rtol=1e-9)
    np.testing.assert_allclose(mixture.covariances_, expected, rtol=1e-8, atol=1e-12)
    assert mixture.lower_bound_ == mixture.lower_bounds_[-1] == pytest.approx(before)
    assert covariance == mixture._covariance


@every_type
def test_a_weight_of_two_is_the_row_twice(covariance_type):
    blocks = [clusters(200, seed) for seed in range(4)]
    weights = [np.random.RandomState(i).randint(0, 4, 200) for i in range(4)]
    repeated = [np.repeat(b, w, axis=0) for b, w in zip(blocks, weights, strict=True)]
    options = {"covariance_type": covariance_type}
    weighted, plain = (
        streamed(blocks, weights, **options),
        streamed(repeated, **options),
    )
    np.testing.assert_allclose(weighted.means_, plain.means_, rtol=1e-9)
    np.testing.assert_allclose(weighted.covariances_, plain.covariances_, rtol=1e-9)
    scaled = streamed(blocks, [2.0**-900 * w for w in weights], **options)
    np.testing.assert_allclose(scaled.means_, weighted.means_, rtol=1e-9)


@every_type
def test_rescaled_blocks_give_a_rescaled_mixture(covariance_type):
    blocks = [clusters(200, seed) for seed in range(4)]
    plain = streamed(blocks, covariance_type=covariance_type)
    scaled = streamed(
        [1e-6 * block + 3 for block in blocks], covariance_type=covariance_type
    )
    X = clusters(50, 9)
    np.testing.assert_allclose(
        scaled.score_samples(1e-6 * X + 3),
        plain.score_samples(X) + 2 * np.log(1e6),
        rtol=1e-5,
    )


def test_a_stream_comes_near_the_fit_of_all_rows():
    X, held_out = clusters(20_000, 0), clusters(5_000, 1)
    streaming = streamed(np.array_split(X, 40))
    whole = EMGaussianMixture(3, random_state=0).fit(X)
    assert streaming.score(held_out) > whole.score(held_out) - 0.005
    # A step of one would only know the last block.
    assert streaming.score(X) > streamed([X[-500:]]).score(X)


def test_blocks_go_on_from_a_fit():
    X = clusters(3_000, 0)
    mixture = EMGaussianMixture(3, random_state=0).fit(X)
    n_iter, trace, before = mixture.n_iter_, mixture.lower_bounds_, mixture.means_
    mixture.partial_fit(clusters(30, 1))
    assert mixture.n_iter_ == n_iter + 1
    assert mixture.lower_bounds_[:-1] == trace
    moved = np.abs(mixture.means_ - before).max()
    assert 0 < moved < step_size(30, 3_030) * 2


def test_the_stream_may_drift():
    still = streamed([clusters(500, seed) for seed in range(10)])
    moving = streamed([clusters(500, seed) + 0.2 * seed for seed in range(10)])
    assert (moving.means_ - still.means_ > 0.5).all()


def of_a_constant_feature():
    """Return a mixture whose first block has a feature that does not vary."""
    X = clusters(200, 0)
    X[:, 1] = 7.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataDimensionalityWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        return EMGaussianMixture(2, random_state=0).partial_fit(X)


def test_a_feature_that_varies_only_later_is_no_abort():
    mixture = of_a_constant_feature()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for seed in range(1, 30):
            mixture.partial_fit(clusters(200, seed))
    assert np.isfinite(mixture.score(clusters(100, 50)))
    assert mixture.score(clusters(100, 50)) > -10


def test_clusters_a_million_times_narrower_keep_their_digits():
    rng = np.random.RandomState(0)

    def block():
        X = rng.standard_normal((400, 2))
        X[::2] = 5.0 + 1e-6 * rng.standard_normal((200, 2))
        return X

    mixture = EMGaussianMixture(2, random_state=0, reg_covar=0.0)
    for _ in range(10):
        mixture.partial_fit(block())
    k = np.abs(mixture.means_ - 5).sum(axis=1).argmin()
    np.testing.assert_allclose(np.diag(mixture.covariances_[k]), 1e-12, rtol=0.2)


def test_a_failure_leaves_the_mixture_as_it_was():
    mixture = streamed([clusters(200, 0)])
    before = dict(vars(mixture))
    with pytest.raises(ValueError, match="infinity"):
        mixture.partial_fit([[np.inf, 1.0]])
    with pytest.raises(ValueError, match="features"):
        mixture.partial_fit(rows(10, 3))
    with pytest.raises(ValueError, match=r"partial_fit must continue.*n_components"):
        mixture.set_params(n_components=2).partial_fit(rows(10, 2))
    mixture.set_params(n_components=3)
    assert vars(mixture) == before


def test_too_few_first_rows_are_named():
    with pytest.raises(ValueError, match=r"n_components.*n_samples = 2"):
        EMGaussianMixture(3).partial_fit(rows(2, 2))
    # Later blocks may be of one row.
    streamed([clusters(100, 0), clusters(1, 1)])


@every_type
def test_moments_far_from_the_origin_are_taken_again(covariance_type, rng):
    covariance, regular = COVARIANCES[covariance_type], np.zeros(2, dtype=bool)
    X = 1e5 + rng.standard_normal((500, 2))
    problem = Problem(X, np.ones(500), covariance, 0.0, regular)
    before = problem.from_responsibilities(lambda rows: np.ones((500, 1))[rows], 1)
    stepwise = Stepwise(problem, before, 0.25)
    after, _ = stepwise.maximise(stepwise.statistics(before), before)
    np.testing.assert_allclose(after.means, before.means, rtol=1e-14)
    np.testing.assert_allclose(after.covariances, before.covariances, rtol=1e-9)


def test_weights_far_above_those_of_the_first_block_are_named():
    X, weights = clusters(200, 0), np.full(200, 7e305)
    mixture = EMGaussianMixture(3, random_state=0).partial_fit(X)
    before = dict(vars(mixture))
    with pytest.raises(ValueError, match=r"at most 1e\+150 times .* ratio of 7e\+305"):
        mixture.partial_fit(X, sample_weight=weights)
    assert vars(mixture) == before


@pytest.mark.parametrize("scale", [1e-30, 0.1, 1e30])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_only_ratios_of_weights_count_within_and_between_blocks(scale, method, rng):
    """A block of importance weights keeps its ratio to earlier blocks."""
    blocks = [clusters(200, seed) for seed in range(3)]
    weights = [rng.uniform(0, top, size=200) for top in (1, 5, 0.2)]
    ends = []
    for factor in (1.0, scale):
        mixture = EMGaussianMixture(3, random_state=0)
        getattr(mixture, method)(blocks[0], sample_weight=factor * weights[0])
        for X, w in zip(blocks[1:], weights[1:], strict=True):
            mixture.partial_fit(X, sample_weight=factor * w)
        ends.append(mixture)
    np.testing.assert_allclose(ends[0].means_, ends[1].means_, rtol=1e-9)
    total, effective = sum(map(np.sum, weights)), weights[0].sum() ** 2
    effective /= (weights[0] ** 2).sum()
    expected = total / weights[0].sum() * effective
    assert ends[1]._spread.weight == pytest.approx(expected)


def test_components_that_die_in_a_stream_are_named():
    mixture = EMGaussianMixture(2, random_state=0).fit(clusters(300, 0))
    mixture.weights_ = np.array([1.0, 0.0])
    with pytest.warns(ConvergenceWarning, match="Some components of .* are empty"):
        mixture.partial_fit(clusters(300, 1))
    X = np.concatenate([clusters(60, 0), np.tile([[900.0, 900.0]], (20, 1))])
    mixture = EMGaussianMixture(3, random_state=0)
    for _ in range(2):
        with pytest.warns(ConvergenceWarning, match="collapsed"):
            mixture.partial_fit(X)


def test_nearly_collinear_features_of_a_stream_keep_their_difference(rng):
    start = 1.7e9 + rng.uniform(0, 3.15e7, size=1000)
    X = np.column_stack([start, start + rng.normal(30, 5, size=1000)])
    stream = EMGaussianMixture()
    for block in np.array_split(X, 4):
        stream.partial_fit(block)
    whole = EMGaussianMixture().fit(X)
    assert stream.score(X) == pytest.approx(whole.score(X), abs=0.05)
    lasts = np.diff(stream.sample(1000, random_state=0))
    assert lasts.std() == pytest.approx(5, rel=0.2)
