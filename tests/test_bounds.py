"""Kernels that are folded back at the bounds of features."""

import numpy as np
import pytest
from estimators import rows
from scipy.special import logsumexp
from scipy.stats import kstwobign, multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skgen import GaussianKDE, make_generative_pipeline
from skgen.compose._truncation import mass_inside
from skgen.kde._bounds import fold, folded_means, image_maps, n_images

INF = np.inf


@parametrize_with_checks([GaussianKDE(bounds=(-1e9, None))])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def bounded_rows(n, seed=0):
    """Return rows in [0, inf) x [0, 1], correlated and crowded at the edges."""
    rng = np.random.RandomState(seed)
    x = rng.exponential(size=n)
    y = np.clip(0.3 * x + 0.1 * rng.standard_normal(n), None, 3) % 1.0
    return np.column_stack([x, y])


KERNELS = [
    GaussianKDE(),
    GaussianKDE(covariance_type="diag"),
    GaussianKDE("likelihood"),
    GaussianKDE(0.3),
    GaussianKDE([0.5, 0.2]),
]
BOUNDS = [(0, None), (0, 1)]


def naive(kde, x, reach=6):
    """Return log p(x) as a sum over rows and images, one by one."""
    H = np.asarray(kde.covariance_)
    H = H if H.ndim == 2 else np.diag(np.broadcast_to(H, 2))
    logs = []
    for sign in (1, -1):
        for k in range(-reach, reach + 1):
            for turn in (1, -1):
                image = [sign * x[0], turn * x[1] + 2 * k]
                logs.append(multivariate_normal(image, H).logpdf(kde.X_train_))
    return logsumexp(logs) - np.log(len(kde.X_train_))


@pytest.mark.parametrize("kde", KERNELS, ids=str)
def test_scores_are_sums_over_images(kde):
    X = bounded_rows(40)
    kde = clone(kde).set_params(bounds=BOUNDS).fit(X)
    queries = np.vstack([bounded_rows(10, 1), [[0.0, 0.0], [0.0, 1.0], [9.0, 0.5]]])
    expected = [naive(kde, x) for x in queries]
    np.testing.assert_allclose(kde.score_samples(queries), expected, rtol=1e-10)


@pytest.mark.parametrize("kde", KERNELS, ids=str)
def test_nothing_leaks(kde):
    kde = clone(kde).set_params(bounds=BOUNDS).fit(bounded_rows(80))
    # The midpoint rule: of functions this smooth a step of a bandwidth is enough.
    x = (np.arange(200) + 0.5) / 200 * 15
    y = (np.arange(40) + 0.5) / 40
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    mass = np.exp(kde.score_samples(points)).sum() * (x[1] - x[0]) * (y[1] - y[0])
    assert mass == pytest.approx(1, abs=1e-4)
    unbounded = clone(kde).set_params(bounds=None).fit(bounded_rows(80))
    inside = np.exp(unbounded.score_samples(points)).sum()
    assert inside * (x[1] - x[0]) * (y[1] - y[0]) < 0.95


@pytest.mark.parametrize(
    ("bounds", "make"),
    [
        ((0, None), lambda rng: rng.exponential(size=(200, 1))),
        ((None, 2), lambda rng: 2 - rng.exponential(size=(200, 1))),
        ((-1, 3), lambda rng: rng.uniform(-1, 3, size=(200, 1))),
    ],
)
def test_draws_stay_inside_and_follow_the_density(bounds, make):
    kde = GaussianKDE(bounds=bounds).fit(make(np.random.RandomState(0)))
    draws = np.sort(kde.sample(20_000, random_state=0)[:, 0])
    low, high = (
        (-INF if bounds[0] is None else bounds[0]),
        (INF if bounds[1] is None else bounds[1]),
    )
    assert low <= draws[0] < draws[-1] <= high
    step = 20 / 40_000
    x = np.arange(-10, 10, step) + step / 2
    cdf = np.cumsum(np.exp(kde.score_samples(x[:, None]))) * step
    error = np.interp(draws, x + step / 2, cdf)
    error -= (np.arange(draws.size) + 0.5) / draws.size
    assert kstwobign.sf(np.abs(error).max() * np.sqrt(draws.size)) > 1e-3
    assert cdf[-1] == pytest.approx(1, abs=1e-6)


def test_the_density_at_an_edge_is_not_halved():
    X = np.random.RandomState(0).exponential(size=(20_000, 1))
    bounded = np.exp(GaussianKDE(bounds=(0, None)).fit(X).score_samples([[0.0]]))
    plain = np.exp(GaussianKDE().fit(X).score_samples([[0.0]]))
    assert bounded == pytest.approx(2 * plain)
    assert bounded == pytest.approx(0.9, abs=0.06)  # 1, less the bias of a slope


@pytest.mark.parametrize("kde", KERNELS, ids=str)
def test_latents_are_means_over_rows_and_images(kde):
    X = bounded_rows(40)
    kde = clone(kde).set_params(bounds=BOUNDS).fit(X)
    H = np.asarray(kde.covariance_)
    H = H if H.ndim == 2 else np.diag(np.broadcast_to(H, 2))
    for x in bounded_rows(5, 1):
        images = [
            [s * x[0], t * x[1] + 2 * k]
            for s in (1, -1)
            for t in (1, -1)
            for k in range(-6, 7)
        ]
        p = sum(multivariate_normal(image, H).pdf(X) for image in images)
        np.testing.assert_allclose(
            kde.transform(x[None])[0], p @ X / p.sum(), rtol=1e-9
        )


def test_rows_come_back_as_means_of_folded_kernels():
    h = np.array([0.7, 0.4])
    lower, upper = np.array([0.0, 0.0]), np.array([INF, 1.0])
    Z = np.array([[0.1, 0.9], [2.0, 0.5], [0.0, 0.0]])
    means = folded_means(Z, image_maps(lower, upper, h), lower, upper, h)
    noise = np.random.RandomState(0).standard_normal((200_000, 2)) * h
    for z, mean in zip(Z, means, strict=True):
        draws = fold(z + noise, lower, upper)
        np.testing.assert_allclose(mean, draws.mean(axis=0), atol=0.005)
    kde = GaussianKDE(h, bounds=BOUNDS).fit(bounded_rows(30))
    np.testing.assert_allclose(kde.inverse_transform(Z), means)


def test_folding_is_that_of_a_strip_of_paper():
    lower, upper = np.array([0.0, -INF, 0.0]), np.array([INF, 2.0, 1.0])
    Y = np.array([[-0.5, 2.5, 1.25], [0.5, 1.5, -0.25], [3.0, -9.0, 2.25]])
    expected = [[0.5, 1.5, 0.75], [0.5, 1.5, 0.25], [3.0, -9.0, 0.25]]
    np.testing.assert_allclose(fold(Y, lower, upper), expected)


def test_wide_kernels_between_bounds_are_all_but_uniform():
    X = np.random.RandomState(0).uniform(size=(50, 1))
    kde = GaussianKDE(5.0, bounds=(0, 1)).fit(X)
    np.testing.assert_allclose(kde.score_samples(X), 0, atol=1e-9)
    assert n_images(kde._images) > 80


def test_a_row_outside_has_no_density():
    kde = GaussianKDE(bounds=(0, None)).fit(bounded_rows(30))
    scores = kde.score_samples([[-0.1, 0.5], [0.1, 0.5], [0.1, -1e-9]])
    assert scores[0] == scores[2] == -INF
    assert np.isfinite(scores[1])


def test_the_data_rescale_with_their_bounds():
    X = bounded_rows(60)
    before = GaussianKDE(bounds=BOUNDS).fit(X).score_samples(X)
    scaled = GaussianKDE(bounds=[(5, None), (5, 1005)]).fit(1000 * X + 5)
    after = scaled.score_samples(1000 * X + 5)
    np.testing.assert_allclose(after, before - 2 * np.log(1000), atol=1e-8)


@pytest.mark.parametrize(
    "bounds",
    [
        "positive",
        3,
        (1, 0),
        (0, 0),
        [(0, 1)],
        [(0, 1), 3],
        [(0, 1), (0, "b")],
        (0, np.nan),
        [(0,), (1,)],
        [(0, 1), (0, 1), (0, 1)],
    ],
    ids=str,
)
def test_bad_bounds_are_named(bounds):
    with pytest.raises(ValueError, match="'bounds' parameter of GaussianKDE must be"):
        GaussianKDE(bounds=bounds).fit(bounded_rows(9))


def test_rows_outside_the_bounds_are_named():
    X = bounded_rows(30) - [0.5, 0.0]
    message = r"'X' argument of GaussianKDE must lie within the bounds.* \[0\]"
    with pytest.raises(ValueError, match=message):
        GaussianKDE(bounds=BOUNDS).fit(X)


def test_more_images_than_can_be_summed_are_named():
    X = np.random.RandomState(0).uniform(size=(40, 13))
    with pytest.raises(ValueError, match="up to 4096 reflections"):
        GaussianKDE(0.3, bounds=(0, None)).fit(X)


def test_the_open_end_of_a_pair_and_of_a_feature_are_no_bounds():
    X = rows(40, 2)
    expected = GaussianKDE().fit(X).score_samples(X)
    for bounds in (None, (None, None), [None, None], [(None, None), None]):
        actual = GaussianKDE(bounds=bounds).fit(X).score_samples(X)
        np.testing.assert_array_equal(actual, expected)


def test_a_pipeline_asks_draws_for_the_mass_of_bounded_kernels():
    X = bounded_rows(60)
    kde = GaussianKDE(bounds=(0, None)).fit(X)
    assert mass_inside(kde, (np.zeros(2), np.ones(2))) is None
    model = make_generative_pipeline(
        StandardScaler(with_mean=False), GaussianKDE(bounds=(0, None))
    ).fit(X)
    assert model.sample(1000, random_state=0).min() >= 0
    assert model.score_samples([[-1.0, 0.5]]) == -INF


def test_ties_at_a_bound_are_told_of():
    X = np.maximum(rows(90, 1), 0.0)
    with pytest.warns(UndefinedMetricWarning):
        GaussianKDE(0.1, bounds=(0, None)).fit(np.round(X))


@pytest.mark.parametrize("bandwidth", [0.03, 0.12, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("algorithm", ["exact", "fourier"])
def test_images_that_matter_anywhere_between_two_bounds_are_summed(
    bandwidth, algorithm, rng
):
    # Rows at one end, queries at the other: images are as near as the point itself.
    X = 0.1 * rng.uniform(size=(60, 1))
    if bandwidth >= 0.1:
        X[:6] = 1 - 0.01 * rng.uniform(size=(6, 1))
    queries = np.linspace(0, 1, 201)[:, None]
    kde = GaussianKDE(bandwidth, bounds=(0, 1), algorithm=algorithm).fit(X)
    images = np.concatenate(
        [s * queries + 2 * k for k in range(-60, 61) for s in (1, -1)]
    )
    a = -0.5 * ((images - X.T) / bandwidth) ** 2  # (images, n)
    log_sum = logsumexp(a.reshape(-1, 201, X.shape[0]), axis=(0, 2))
    expected = log_sum - np.log(X.shape[0] * bandwidth * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(kde.score_samples(queries), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("distance", [8.0, 21.0, 30.0])
def test_at_a_bound_far_from_all_rows_the_density_is_doubled(distance, rng):
    X = distance + rng.standard_normal((50, 1)) ** 2
    free = GaussianKDE(1.0).fit(X)
    for algorithm in ("exact", "fourier"):
        kde = GaussianKDE(1.0, bounds=(0, None), algorithm=algorithm).fit(X)
        expected = np.logaddexp(
            free.score_samples([[0.0], [0.1]]), free.score_samples([[0.0], [-0.1]])
        )
        np.testing.assert_allclose(
            kde.score_samples([[0.0], [0.1]]), expected, rtol=0, atol=1e-6
        )


def test_five_features_with_two_bounds_each_have_few_enough_images(rng):
    X = rng.uniform(size=(200, 5))
    kde = GaussianKDE(0.05, bounds=(0, 1)).fit(X)
    assert n_images(kde._images) == 5**5
    corner = GaussianKDE(0.05).fit(X[:1]).score_samples(X[:1])
    at_corner = GaussianKDE(0.05, bounds=(0, 1)).fit(np.zeros((1, 5)))
    np.testing.assert_allclose(
        at_corner.score_samples(np.zeros((1, 5))), corner + 5 * np.log(2)
    )


def test_rows_above_the_bounds_are_named():
    X = np.array([[0.5, 0.5], [0.5, 1.5]])
    with pytest.raises(
        ValueError, match=r"within the bounds. .* columns \[1\] instead"
    ):
        GaussianKDE(1.0, bounds=(0, 1)).fit(X)


def test_a_row_above_the_bounds_has_no_density():
    kde = GaussianKDE(bounds=BOUNDS).fit(bounded_rows(30))
    scores = kde.score_samples([[0.5, 1.1], [0.5, 1.0]])
    assert scores[0] == -INF
    assert np.isfinite(scores[1])


def test_the_latent_of_a_row_outside_is_that_of_the_nearest_row_inside():
    kde = GaussianKDE(0.3, bounds=BOUNDS).fit(bounded_rows(30))
    outside, inside = [[-0.4, 0.5], [2.0, 1.3]], [[0.0, 0.5], [2.0, 1.0]]
    np.testing.assert_array_equal(kde.transform(outside), kde.transform(inside))
