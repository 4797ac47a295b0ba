"""EMGaussianMixture against scikit-learn, closed forms and what EM guarantees."""

import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
from estimators import rows, thorough
from hypothesis import given
from hypothesis import strategies as st
from mixtures import TYPES, Iterations
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn import config_context
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from skgen import EMGaussianMixture, GaussianKDE, dequantize
from skgen.mixture._covariance import COVARIANCES
from skgen.mixture._initialize import INIT_PARAMS, initial_responsibilities
from skgen.rows._source import canonical_rows

every_type = pytest.mark.parametrize("covariance_type", TYPES)


def wine():
    return StandardScaler().fit_transform(dequantize(load_wine().data, random_state=0))


def start(X, n_components, covariance_type):
    """Return weights, means and precisions to start from: those of k-means."""
    labels = KMeans(n_components, n_init=1, random_state=0).fit_predict(X)
    counts = np.bincount(labels)
    means = np.stack([X[labels == k].mean(axis=0) for k in range(n_components)])
    within = np.cov((X - means[labels]).T, ddof=0)
    variances, K = np.diagonal(within), n_components
    precisions = {
        "full": np.tile(np.linalg.inv(within), (K, 1, 1)),
        "tied": np.linalg.inv(within),
        "diag": np.tile(1 / variances, (K, 1)),
        "spherical": np.full(K, 1 / variances.mean()),
    }[covariance_type]
    return {
        "weights_init": counts / counts.sum(),
        "means_init": means,
        "precisions_init": precisions,
    }


def dense(covariances, covariance_type, n_components, d):
    """Return the covariances as an array of shape (K, d, d)."""
    return {
        "full": lambda: covariances,
        "tied": lambda: np.tile(covariances, (n_components, 1, 1)),
        "diag": lambda: np.stack([np.diag(v) for v in covariances]),
        "spherical": lambda: covariances[:, None, None] * np.eye(d),
    }[covariance_type]()


def assert_same_parameters(ours, theirs):
    """Compare parameters to 1e-6; the data have unit variance."""
    K, d = theirs.means_.shape
    kind = ours.covariance_type
    np.testing.assert_allclose(ours.weights_, theirs.weights_, atol=1e-6)
    np.testing.assert_allclose(ours.means_, theirs.means_, atol=1e-6)
    np.testing.assert_allclose(
        dense(ours.covariances_, kind, K, d),
        dense(theirs.covariances_, kind, K, d),
        atol=1e-6,
    )


def fit_both(X, n_components, covariance_type):
    """Fit scikit-learn's mixture and ours from the same start, to the end."""
    options = start(X, n_components, covariance_type)
    options |= {"covariance_type": covariance_type, "reg_covar": 0.0}
    options["max_iter"] = 5000
    ours = EMGaussianMixture(n_components, tol=1e-12, **options).fit(X)
    # At 1e-12 its slower steps end as far as 1e-5 from the optimum; at 1e-15 rounding
    # may keep it from ever ending.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = GaussianMixture(n_components, tol=1e-15, **options).fit(X)
    assert ours.n_iter_ > 2  # the start is not yet the answer
    return ours, theirs


@every_type
def test_the_same_start_ends_where_scikit_learn_ends(covariance_type):
    X = wine()
    ours, theirs = fit_both(X, 3, covariance_type)
    assert_same_parameters(ours, theirs)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@every_type
@pytest.mark.parametrize("n_iterations", [1, 2, 3])
def test_every_iteration_is_that_of_scikit_learn(covariance_type, n_iterations):
    X = wine()
    options = start(X, 3, covariance_type)
    options["means_init"] = options["means_init"][::-1]  # so that they must move
    options |= {"covariance_type": covariance_type, "reg_covar": 0.0}
    options |= {"tol": 0.0, "max_iter": n_iterations}
    ours = EMGaussianMixture(3, **options).fit(X)
    theirs = GaussianMixture(3, **options).fit(X)
    assert ours.n_iter_ == theirs.n_iter_ == n_iterations
    for attribute in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        np.testing.assert_allclose(
            getattr(ours, attribute), getattr(theirs, attribute), rtol=1e-8, atol=1e-10
        )


@pytest.mark.thorough
@pytest.mark.data
@every_type
@pytest.mark.parametrize("name", ["pendigits", "satimage-2", "cover"])
def test_the_same_start_on_larger_data(covariance_type, name, real_data):
    X = np.load(real_data(f"tabular/{name}.npz"))["X"][:2000].astype(float)
    X = StandardScaler().fit_transform(dequantize(X, random_state=0))
    assert_same_parameters(*fit_both(X, 3, covariance_type))


@every_type
def test_the_density_is_that_of_the_parameters(covariance_type):
    X = rows(200, 3)
    mixture = EMGaussianMixture(3, covariance_type=covariance_type, random_state=0)
    mixture.fit(X)
    matrices = dense(mixture.covariances_, covariance_type, 3, 3)
    joint = np.column_stack(
        [
            np.log(w) + multivariate_normal(m, C).logpdf(X)
            for w, m, C in zip(mixture.weights_, mixture.means_, matrices, strict=True)
        ]
    )
    np.testing.assert_allclose(mixture.score_samples(X), logsumexp(joint, axis=1))
    responsibilities = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    np.testing.assert_allclose(mixture.predict_proba(X), responsibilities, atol=1e-12)
    np.testing.assert_allclose(mixture.transform(X), responsibilities, atol=1e-12)
    np.testing.assert_array_equal(mixture.predict(X), joint.argmax(axis=1))
    np.testing.assert_allclose(
        mixture.inverse_transform(responsibilities), responsibilities @ mixture.means_
    )


@every_type
def test_precisions_belong_to_the_covariances(covariance_type):
    mixture = EMGaussianMixture(2, covariance_type=covariance_type, random_state=0)
    mixture.fit(rows(200, 3))
    theirs = GaussianMixture(2, covariance_type=covariance_type).fit(rows(200, 3))
    for attribute in ("covariances_", "precisions_", "precisions_cholesky_"):
        assert getattr(mixture, attribute).shape == getattr(theirs, attribute).shape
    C = dense(mixture.covariances_, covariance_type, 2, 3)
    P = dense(mixture.precisions_, covariance_type, 2, 3)
    U = dense(mixture.precisions_cholesky_, covariance_type, 2, 3)
    np.testing.assert_allclose(C @ P, np.tile(np.eye(3), (2, 1, 1)), atol=1e-10)
    np.testing.assert_allclose(U @ U.transpose(0, 2, 1), P)
    np.testing.assert_allclose(U, np.triu(U))


def test_one_component_is_the_maximum_likelihood_normal():
    X, weights = rows(100, 3), np.random.RandomState(1).uniform(0, 2, size=100)
    mixture = EMGaussianMixture().fit(X, sample_weight=weights)
    np.testing.assert_allclose(mixture.means_[0], np.average(X, 0, weights))
    np.testing.assert_allclose(
        mixture.covariances_[0], np.cov(X.T, aweights=weights, ddof=0)
    )
    assert mixture.converged_
    assert mixture.n_iter_ <= 2  # the start is the answer


@every_type
def test_criteria_are_those_of_scikit_learn(covariance_type, rng):
    X = rows(150, 3)
    ours, theirs = fit_both(X, 2, covariance_type)
    assert ours.bic(X) == pytest.approx(theirs.bic(X), abs=1e-4)
    assert ours.aic(X) == pytest.approx(theirs.aic(X), abs=1e-4)
    weights = rng.randint(1, 4, size=150)
    repeated = np.repeat(X, weights, axis=0)
    assert ours.bic(X, sample_weight=weights) == pytest.approx(ours.bic(repeated))
    assert ours.aic(X, sample_weight=weights) == pytest.approx(ours.aic(repeated))


def test_scoring_never_holds_all_rows_by_all_components():
    mixture = EMGaussianMixture(
        50, covariance_type="spherical", max_iter=0, random_state=0
    ).fit(rows(1000, 2))
    X = rows(50_000, 2)  # by 50 components would be 20 MB
    with config_context(working_memory=1):
        tracemalloc.start()
        mixture.score_samples(X)
        mixture.predict(X)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * 2**20


# -- what EM guarantees --------------------------------------------------------


@given(
    seed=st.integers(0, 10_000),
    covariance_type=st.sampled_from(TYPES),
    init_params=st.sampled_from(INIT_PARAMS),
    n_samples=st.integers(8, 60),
    n_features=st.integers(1, 4),
    n_components=st.integers(1, 6),
    reg_covar=st.sampled_from([0.0, 1e-6, 1e-2, 0.5]),
    kind=st.sampled_from(["clusters", "heavy", "rounded", "repeated"]),
)
def test_the_likelihood_never_falls(
    seed,
    covariance_type,
    init_params,
    n_samples,
    n_features,
    n_components,
    reg_covar,
    kind,
):
    rng = np.random.RandomState(seed)
    X = rows(n_samples, n_features, seed)
    if kind == "heavy":
        X = X**3
    elif kind == "rounded":
        X = np.round(X)
    elif kind == "repeated":
        X = X[rng.randint(n_samples, size=n_samples)]
    weights = rng.uniform(0.1, 3, size=n_samples)
    mixture = EMGaussianMixture(
        n_components,
        covariance_type=covariance_type,
        init_params=init_params,
        reg_covar=reg_covar,
        tol=0.0,
        max_iter=40,
        random_state=seed,
    )
    iterations = Iterations(X, weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.set_callbacks(iterations).fit(X, sample_weight=weights)
    assert len(mixture.lower_bounds_) == mixture.n_iter_
    assert np.isfinite(mixture.score_samples(X)).all()
    score = mixture.score(X, sample_weight=weights)
    assert mixture.lower_bound_ == pytest.approx(score, rel=1e-9, abs=1e-9)
    # Floors of 1e-24 leave covariances whose digits the data's units cannot hold.
    tolerance = (1e-9 if reg_covar else 1e-4) * max(
        1.0, np.abs(iterations.scores).max()
    )
    # Bounds are a running maximum: of the parameters themselves, only rounding falls.
    assert (np.diff(iterations.scores) >= -tolerance).all()
    bounds = np.maximum.accumulate(iterations.scores)
    np.testing.assert_allclose(mixture.lower_bounds_, bounds, rtol=0, atol=tolerance)


@every_type
def test_lower_bound_is_the_score_of_the_returned_parameters(covariance_type, rng):
    X, weights = rows(300, 3), rng.uniform(0, 2, size=300)
    mixture = EMGaussianMixture(
        4, covariance_type=covariance_type, max_iter=3, tol=0.0, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match="did not converge to within tol=0"):
        mixture.fit(X, sample_weight=weights)
    expected = np.average(mixture.score_samples(X), weights=weights)
    assert mixture.lower_bound_ == pytest.approx(expected, rel=1e-12)
    assert mixture.score(X, sample_weight=weights) == pytest.approx(expected, rel=1e-12)
    assert not mixture.converged_
    assert mixture.n_iter_ == 3


@every_type
def test_no_iteration_returns_the_start(covariance_type):
    X = rows(100, 3)
    options = start(X, 2, covariance_type)
    mixture = EMGaussianMixture(
        2, covariance_type=covariance_type, max_iter=0, **options
    ).fit(X)
    np.testing.assert_allclose(mixture.means_, options["means_init"])
    np.testing.assert_allclose(
        mixture.precisions_, options["precisions_init"], atol=1e-12
    )
    np.testing.assert_allclose(mixture.weights_, options["weights_init"])
    assert mixture.lower_bound_ == pytest.approx(mixture.score(X), rel=1e-12)
    assert (mixture.n_iter_, mixture.lower_bounds_) == (0, [])


def test_part_of_a_start_is_taken_as_given():
    X = rows(200, 2)
    means = [[0.0, 0.0], [3.0, 3.0]]
    mixture = EMGaussianMixture(2, means_init=means, max_iter=0, random_state=0).fit(X)
    np.testing.assert_allclose(mixture.means_, means, atol=1e-12)
    assert means == [[0.0, 0.0], [3.0, 3.0]]


@pytest.mark.parametrize("init_params", INIT_PARAMS)
def test_every_start_finds_two_far_clusters(init_params, rng):
    X = np.concatenate([rng.randn(60, 2), rng.randn(40, 2) + 30])
    mixture = EMGaussianMixture(
        2, init_params=init_params, tol=0.0, max_iter=2000, random_state=0
    ).fit(X)
    assert sorted(mixture.weights_.round(6)) == [0.4, 0.6]


def test_more_starts_never_end_lower():
    X = rows(200, 2)
    bounds = []
    for n_init in (1, 8):
        mixture = EMGaussianMixture(
            5, n_init=n_init, init_params="random_from_data", random_state=0
        )
        bounds.append(mixture.fit(X).lower_bound_)
    assert bounds[1] >= bounds[0]


# -- rows and weights ----------------------------------------------------------


@every_type
@pytest.mark.parametrize("init_params", INIT_PARAMS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_order_and_repetition_change_not_one_bit(covariance_type, init_params, rng):
    X, weights = rows(80, 3), rng.randint(0, 4, size=80)
    mixture = EMGaussianMixture(
        3, covariance_type=covariance_type, init_params=init_params, random_state=0
    )
    order = rng.permutation(80)
    weighted = mixture.fit(X[order], sample_weight=weights[order]).means_
    repeated = mixture.fit(np.repeat(X, weights, axis=0)).means_
    np.testing.assert_array_equal(weighted, repeated)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_order_changes_not_one_bit_with_weights_of_any_kind(rng):
    X = np.repeat(np.round(rows(60, 2)), 3, axis=0)
    weights = rng.uniform(size=180)
    mixture = EMGaussianMixture(2, random_state=0)
    expected = mixture.fit(X, sample_weight=weights).means_
    for _ in range(4):
        order = rng.permutation(180)
        means = mixture.fit(X[order], sample_weight=weights[order]).means_
        np.testing.assert_array_equal(means, expected)


def test_canonical_rows_merge_equal_rows_and_forget_the_order(rng):
    X = np.round(rows(200, 2))
    weights = rng.randint(1, 5, size=200).astype(float)
    merged, totals = canonical_rows(X, weights)
    expected, inverse = np.unique(X, axis=0, return_inverse=True)
    np.testing.assert_array_equal(np.unique(merged, axis=0), expected)
    assert merged.shape == expected.shape
    sums = np.bincount(inverse.ravel(), weights)
    order = np.lexsort(merged.T[::-1])
    np.testing.assert_array_equal(totals[order], sums)
    shuffled = rng.permutation(200)
    again, _ = canonical_rows(X[shuffled], weights[shuffled])
    np.testing.assert_array_equal(again, merged)
    rescaled, _ = canonical_rows(-4.0 * X + 8.0, weights)
    np.testing.assert_array_equal(rescaled, -4.0 * merged + 8.0)


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random_from_data"])
def test_starts_follow_the_weights(init_params):
    # Two heavy rows near each other, many light ones far away.
    X = np.append([[0.0], [1.0]], np.linspace(40, 60, 30)[:, None], axis=0)
    weights = np.append([1e6, 1e6], np.full(30, 1e-6))
    apart = []
    for seed in range(20):
        rng = np.random.RandomState(seed)
        shares = initial_responsibilities(X, weights, 2, init_params, rng)(slice(0, 2))
        apart.append((shares[0] != shares[1]).all())
    # By the rows alone, the heavy two would share a component nearly always.
    assert np.mean(apart) >= 0.95


def test_only_the_ratio_of_weights_matters(rng):
    X, weights = rows(80, 2), rng.uniform(0.5, 2, size=80)
    mixture = EMGaussianMixture(2, random_state=0)
    first = mixture.fit(X, sample_weight=weights).means_
    second = mixture.fit(X, sample_weight=weights / weights.sum()).means_
    np.testing.assert_allclose(first, second)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_heavy_row_leaves_as_many_components_as_rows():
    weights = np.full(80, 0.5)
    weights[0] = 400.5  # worth 1.2 rows of equal weights
    mixture = EMGaussianMixture(3, random_state=0)
    assert mixture.fit(rows(80, 2), sample_weight=weights).n_components == 3


# -- what goes wrong is mended and named ---------------------------------------


@pytest.mark.parametrize("reg_covar", [0.0, 1e-6])
@every_type
def test_a_collapsed_component_is_held_at_the_floor_and_named(
    covariance_type, reg_covar
):
    X = np.concatenate([rows(60, 2), np.tile([[9.0, 9.0]], (20, 1))])
    mixture = EMGaussianMixture(
        3, covariance_type=covariance_type, reg_covar=reg_covar, random_state=0
    )
    if covariance_type == "tied":
        mixture.fit(X)
    else:
        message = r"Some components of .* collapsed \(see covariances_\)"
        with pytest.warns(ConvergenceWarning, match=message):
            mixture.fit(X)
        C = dense(mixture.covariances_, covariance_type, 3, 2)
        least = np.linalg.eigvalsh(C)[:, 0] / X.var(axis=0).mean()  # (K,)
        assert (least < 1e-5).sum() == 1
    assert np.isfinite(mixture.score_samples(X)).all()
    assert np.isfinite(mixture.sample(50)).all()


@every_type
def test_the_floor_is_a_share_of_the_variance_of_the_data(covariance_type):
    X = np.concatenate([rows(60, 2), np.tile([[9.0, 9.0]], (60, 1))]) * [1.0, 1e5]
    mixture = EMGaussianMixture(
        2, covariance_type=covariance_type, reg_covar=0.01, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.fit(X)
    C = dense(mixture.covariances_, covariance_type, 2, 2)
    S = {
        "full": np.cov(X.T, ddof=0),
        "tied": np.cov(X.T, ddof=0),
        "diag": np.diag(X.var(axis=0)),
        "spherical": X.var(axis=0).mean() * np.eye(2),
    }[covariance_type]
    shares = np.linalg.eigvals(np.linalg.solve(S, C)).real  # (K, d)
    assert shares.min() > 0.01 * (1 - 1e-6)
    if covariance_type != "tied":
        assert shares.min() == pytest.approx(0.01, rel=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
@pytest.mark.parametrize(
    ("size", "n_far", "dtype", "one_feature"),
    [
        (1e3, 1, np.float64, False),
        (1e6, 10, np.float32, True),
        (1e6, 300, np.float64, True),
        (1e12, 1, np.float64, False),
    ],
)
def test_outliers_widen_no_component(
    covariance_type, size, n_far, dtype, one_feature, rng
):
    X = rng.normal(size=(1000, 3))
    X[:n_far, : 1 if one_feature else 3] = -size
    central = X[n_far:].astype(dtype)
    mixture = EMGaussianMixture(2, covariance_type=covariance_type, random_state=0)
    mixture.fit(X.astype(dtype))
    alone = EMGaussianMixture(covariance_type=covariance_type).fit(central)
    expected = alone.score(central) + np.log(1 - n_far / 1000)
    assert mixture.score(central) == pytest.approx(expected, abs=0.01)


def test_the_minimum_is_the_same_for_rows_anywhere(rng):
    X = rng.permutation(np.vstack([rng.normal(size=(9000, 2)), np.full((9, 2), 1e6)]))
    mixture = EMGaussianMixture(2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        memory = clone(mixture).fit(X)
        blocks = clone(mixture).fit(lambda: iter(np.array_split(X, 5)))
    np.testing.assert_allclose(blocks.covariances_, memory.covariances_, rtol=1e-6)
    assert memory.covariances_.min() < 0.1  # of the outliers


@every_type
def test_a_component_that_lost_its_rows_is_seeded_again_and_named(covariance_type):
    X = np.concatenate([rows(100, 2), rows(100, 2) + 40])
    mixture = EMGaussianMixture(
        2,
        covariance_type=covariance_type,
        weights_init=[0.5, 0.5],
        means_init=[[20.0, 20.0], [1e7, 1e7]],
        max_iter=300,
        random_state=0,
    )
    with pytest.warns(ConvergenceWarning, match="became empty and were re-init"):
        mixture.fit(X)
    assert (np.abs(mixture.means_) < 100).all()  # the second one started at 1e7
    assert (np.diff(mixture.lower_bounds_) >= 0).all()
    assert mixture.weights_.min() > 0
    alone = EMGaussianMixture(covariance_type=covariance_type).fit(X)
    assert mixture.lower_bound_ > alone.lower_bound_ + 0.01


@every_type
def test_a_component_that_no_row_wants_gets_the_weight_0_and_is_named(covariance_type):
    # Even the corners of a square are not so unlikely under one normal density that
    # a component of their own would pay.
    X = np.random.RandomState(0).uniform(size=(2000, 2))
    mixture = EMGaussianMixture(
        2,
        covariance_type=covariance_type,
        weights_init=[0.5, 0.5],
        means_init=[[0.0, 0.0], [1e7, 1e7]],
        random_state=0,
    )
    with pytest.warns(
        ConvergenceWarning, match=r"are empty.*weight of 0 \(see weights_"
    ):
        mixture.fit(X)
    alone = EMGaussianMixture(covariance_type=covariance_type).fit(X)
    assert mixture.weights_.tolist() == [1.0, 0.0]
    np.testing.assert_allclose(mixture.score_samples(X), alone.score_samples(X))
    assert np.isfinite(mixture.sample(100)).all()
    assert (mixture.predict(X) == 0).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@every_type
@pytest.mark.parametrize("init_params", INIT_PARAMS)
def test_more_components_than_distinct_rows(covariance_type, init_params):
    X = np.repeat([[0.0, 1.0], [2.0, 5.0]], 5, axis=0)
    mixture = EMGaussianMixture(
        4, covariance_type=covariance_type, init_params=init_params, random_state=0
    ).fit(X)
    assert np.isfinite(mixture.score_samples(X)).all()
    assert mixture.weights_.sum() == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@every_type
def test_as_many_components_as_rows(covariance_type):
    X = rows(6, 2)
    mixture = EMGaussianMixture(6, covariance_type=covariance_type, random_state=0)
    assert np.isfinite(mixture.fit(X).score(X))


def test_clusters_a_million_times_narrower_than_the_data(rng):
    centres = np.repeat([[0.0, 0.0], [1.0, 2.0], [-2.0, 1.0]], 200, axis=0)
    X = centres + 1e-6 * rng.standard_normal((600, 2))
    mixture = EMGaussianMixture(3, reg_covar=0.0, random_state=0).fit(X)
    np.testing.assert_allclose(mixture.weights_, 1 / 3, atol=1e-9)
    expected = np.stack([np.cov(X[i : i + 200].T, ddof=0) for i in (0, 200, 400)])
    order = [int(mixture.predict(X[i : i + 1])[0]) for i in (0, 200, 400)]
    np.testing.assert_allclose(mixture.covariances_[order], expected, rtol=1e-6, atol=0)


@every_type
def test_a_mean_that_moves_far_keeps_the_digits_of_a_narrow_cluster(covariance_type):
    noise = np.random.RandomState(0).standard_normal((60, 1))
    X = np.repeat([[0.0], [1.0]], 30, axis=0) + 1e-11 * noise
    wide = {"full": (2, 1, 1), "tied": (1, 1), "diag": (2, 1), "spherical": (2,)}
    ends = []
    for means in ([[0.4], [0.6]], [[0.0], [1.0]]):
        mixture = EMGaussianMixture(
            2,
            covariance_type=covariance_type,
            reg_covar=0.0,
            tol=1e-12,
            max_iter=300,
            weights_init=[0.5, 0.5],
            means_init=means,
            precisions_init=np.full(wide[covariance_type], 4.0),
        )
        ends.append(mixture.fit(X).lower_bound_)
    assert ends[0] == pytest.approx(ends[1], rel=1e-6)
    assert ends[0] > 20


def test_order_does_not_matter_beside_an_outlier_that_hides_columns(rng):
    X = np.column_stack([rng.randint(0, 3, (60, 2)), 1e-3 * rng.standard_normal(60)])
    X[0, 2] = 1e15
    mixture = EMGaussianMixture(3, init_params="random_from_data", random_state=0)
    ends = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            ends.append(mixture.fit(X[rng.permutation(60)]).lower_bound_)
    assert len(set(ends)) == 1


@pytest.mark.parametrize("init_params", INIT_PARAMS)
def test_weights_of_all_magnitudes_are_no_abort(init_params):
    weights = np.append(1e300, np.full(39, 1e-300))
    mixture = EMGaussianMixture(3, init_params=init_params, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)
        mixture.fit(rows(40, 2), sample_weight=weights)
    assert np.isfinite(mixture.score(rows(40, 2)))


def test_lower_bound_is_the_score_for_nearly_constant_features(rng):
    X = rng.standard_normal((20, 30))
    X[:, 0] = 1 + 1e-13 * X[:, 0]
    mixture = EMGaussianMixture()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.fit(X)
    assert mixture.lower_bound_ == pytest.approx(mixture.score(X), rel=1e-12)
    assert mixture.lower_bounds_[-1] == pytest.approx(mixture.score(X), abs=1.0)


def test_rows_beyond_all_squares_are_answered():
    mixture = EMGaussianMixture(2, random_state=0).fit(rows(50, 2) * 1e-100)
    far = [[1e149, -1e149]]
    assert mixture.score_samples(far)[0] < -1e90
    assert mixture.predict_proba(far).sum() == pytest.approx(1.0)


# -- starting again ------------------------------------------------------------


@every_type
def test_a_warm_start_goes_on_where_the_last_fit_ended(covariance_type):
    X = rows(150, 2)
    # From a start of one's own, the first rises of EM are its own.
    options = {"covariance_type": covariance_type, "tol": 0.0}
    options |= start(X, 4, covariance_type)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = EMGaussianMixture(4, max_iter=8, **options).fit(X)
        parts = EMGaussianMixture(4, max_iter=4, warm_start=True, **options)
        first = parts.fit(X).lower_bounds_
        second = parts.fit(X).lower_bounds_
    np.testing.assert_allclose(first + second, whole.lower_bounds_, rtol=1e-9)
    np.testing.assert_allclose(parts.means_, whole.means_, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shift", [1e3, -1e6, 1e9])
@pytest.mark.parametrize("again", ["fit", "partial_fit"])
def test_rows_that_moved_start_again(again, shift):
    X = np.concatenate([rows(150, 2), rows(150, 2, seed=1) + 6])
    mixture = EMGaussianMixture(2, warm_start=True, random_state=0).fit(X)
    expected = mixture.score(X)
    with pytest.warns(ConvergenceWarning, match=rf"\.{again} continues.*starts again"):
        getattr(mixture, again)(X + shift)
    assert mixture.score(X + shift) == pytest.approx(expected, abs=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(mixture, again)(X + shift + 1)  # a little further
        far = np.vstack([X + shift, [[shift + 1e6, 0.0]]])  # one far row
        assert not mixture._is_far_from(far, again)


def test_a_warm_start_of_another_shape_is_named():
    mixture = EMGaussianMixture(2, warm_start=True, random_state=0).fit(rows(50, 2))
    before = mixture.means_
    with pytest.raises(ValueError, match=r"warm_start=True.*same n_components"):
        mixture.set_params(n_components=3).fit(rows(50, 2))
    assert mixture.means_ is before


def test_fit_predict_is_fit_then_predict():
    X = rows(150, 2)
    mixture = EMGaussianMixture(3, random_state=0)
    np.testing.assert_array_equal(mixture.fit_predict(X), mixture.predict(X))


def test_the_answers_do_not_follow_a_parameter_set_after_the_fit():
    X = rows(150, 2)
    mixture = EMGaussianMixture(2, random_state=0).fit(X)
    before = mixture.score(X)
    assert mixture.set_params(covariance_type="diag").score(X) == before


def test_callbacks_see_every_iteration_and_can_stop():
    seen = Iterations(rows(5, 2))
    mixture = EMGaussianMixture(3, tol=1e-6, random_state=0).set_callbacks(seen)
    mixture.fit(rows(150, 2))
    assert len(seen.scores) == mixture.n_iter_ > 3
    assert np.isfinite(seen.scores).all()
    stops = Iterations(rows(5, 2), most=2)
    mixture = EMGaussianMixture(3, random_state=0).set_callbacks(stops)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        assert mixture.fit(rows(150, 2)).n_iter_ == 2


# -- bad parameters ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_components", 0),
        ("n_components", 2.0),
        ("n_components", True),
        ("n_components", "2"),
        ("covariance_type", "round"),
        ("covariance_type", ["full"]),
        ("tol", -1e-3),
        ("tol", np.nan),
        ("tol", "small"),
        ("reg_covar", -1.0),
        ("reg_covar", np.inf),
        ("max_iter", -1),
        ("max_iter", 1.5),
        ("n_init", 0),
        ("init_params", "means"),
        ("warm_start", "yes"),
        ("weights_init", [0.5, 0.6]),
        ("weights_init", [-0.5, 1.5]),
        ("weights_init", [1.0]),
        ("weights_init", ["a", "b"]),
        ("means_init", [[1.0, 2.0]]),
        ("means_init", [[1.0, np.nan], [1.0, 2.0]]),
        ("precisions_init", np.ones((2, 2, 3))),
        ("precisions_init", np.tile([[1.0, 2.0], [2.0, 1.0]], (2, 1, 1))),
        ("precisions_init", np.tile([[1.0, 0.5], [0.2, 1.0]], (2, 1, 1))),
        ("precisions_init", np.tile([[1e-12, 5e-13], [-5e-13, 1e-12]], (2, 1, 1))),
    ],
)
def test_a_bad_parameter_is_named(name, value):
    message = rf"The '{name}' parameter of EMGaussianMixture must be .* Got"
    mixture = EMGaussianMixture(2).set_params(**{name: value})
    with pytest.raises(ValueError, match=message):
        mixture.fit(rows(9, 2))


@pytest.mark.parametrize(
    ("covariance_type", "precisions"),
    [("diag", -np.ones((2, 2))), ("spherical", np.zeros(2)), ("tied", -np.eye(2))],
)
def test_precisions_that_are_not_positive_are_named(covariance_type, precisions):
    mixture = EMGaussianMixture(
        2, covariance_type=covariance_type, precisions_init=precisions
    )
    with pytest.raises(ValueError, match=r"'precisions_init' parameter .* positive"):
        mixture.fit(rows(9, 2))


def test_diagonal_precisions_for_as_many_components_as_features():
    # A (K, d) array with K = d looks like a matrix, and is none.
    X, precisions = rows(50, 3), np.arange(1.0, 10.0).reshape(3, 3)
    mixture = EMGaussianMixture(
        3, covariance_type="diag", precisions_init=precisions, max_iter=0
    ).fit(X)
    np.testing.assert_allclose(mixture.precisions_, precisions)


def test_more_components_than_rows_are_named():
    message = r"'n_components' parameter .* at most .* n_samples = 4. Got 5"
    with pytest.raises(ValueError, match=message):
        EMGaussianMixture(5).fit(rows(4, 2))
    with pytest.raises(ValueError, match=r"n_samples = 2\. Got 3"):
        EMGaussianMixture(3).fit(rows(4, 2), sample_weight=[0, 0, 2, 0])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_weight_of_two_counts_as_two_rows_for_the_components():
    X = [[0.0], [1.0]]
    weighted = EMGaussianMixture(3, random_state=0).fit(X, sample_weight=[2, 1])
    repeated = EMGaussianMixture(3, random_state=0).fit([[0.0], [0.0], [1.0]])
    np.testing.assert_array_equal(weighted.means_, repeated.means_)


def test_one_row_is_named():
    with pytest.raises(ValueError, match=r"at least 2 rows .* 1 sample"):
        EMGaussianMixture().fit(rows(1, 2))


@every_type
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("K", [3, thorough(39)])
@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1e-12, 0), (1e12, 0), (1, 1e8), thorough(1e-12, 1), thorough(1e12, 1e20)],
)
def test_extreme_data_are_fitted_and_never_an_abort(
    covariance_type, partial, K, scale, offset, rng
):
    X = rng.standard_normal((40, 6))
    X[:, 1] = 7.0  # constant
    X[:, 2] = X[:, 0]  # a copy
    X[:, 3] = X[:, 0] - 2 * X[:, 4]  # collinear
    X[30:] = X[:10]  # rows that come twice
    X = offset + scale * X
    mixture = EMGaussianMixture(K, covariance_type=covariance_type, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)
        if partial:
            mixture.partial_fit(X).partial_fit(X[:5])
        else:
            mixture.fit(X)
            assert (np.diff(mixture.lower_bounds_) >= 0).all()
    assert np.isfinite(mixture.score_samples(X)).all()
    assert np.isfinite(mixture.sample(20, random_state=0)).all()
    np.testing.assert_allclose(mixture.predict_proba(X).sum(axis=1), 1)


@pytest.mark.parametrize("covariance_type", ["diag", "spherical"])
def test_one_negative_precision_is_named(covariance_type):
    precisions = np.ones(COVARIANCES[covariance_type].shape(2, 3))
    precisions.flat[1] = -1.0
    mixture = EMGaussianMixture(
        2, covariance_type=covariance_type, precisions_init=precisions
    )
    with pytest.raises(ValueError, match=r"'precisions_init' .* positive definite"):
        mixture.fit(rows(20, 3))


# -- parameters without rows ---------------------------------------------------


@every_type
def test_parameters_without_rows_are_a_fitted_mixture(covariance_type):
    X = rows(200, 3)
    theirs = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
    given = theirs.weights_, theirs.means_, theirs.covariances_
    ours = EMGaussianMixture.from_parameters(
        *given, covariance_type=covariance_type, random_state=0
    )
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X))
    np.testing.assert_allclose(
        ours.predict_proba(X), theirs.predict_proba(X), atol=1e-12
    )
    np.testing.assert_allclose(ours.precisions_, theirs.precisions_)
    np.testing.assert_allclose(ours.precisions_cholesky_, theirs.precisions_cholesky_)
    assert ours.bic(X) == pytest.approx(theirs.bic(X))
    assert ours.n_features_in_ == 3
    assert clone(ours).get_params() == ours.get_params()
    loaded = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(loaded.sample(9), ours.sample(9))
    far = ours.sample(2000, random_state=1)
    assert ours.score(far) == pytest.approx(theirs.score(far))
    names = ours.set_output(transform="pandas").transform(X).columns
    assert list(names) == ["emgaussianmixture0", "emgaussianmixture1"]
    # Rows go on from the parameters.
    again = ours.set_params(warm_start=True, tol=1e-6).fit(X)
    assert again.score(X) >= theirs.score(X) - 1e-6
    assert EMGaussianMixture.from_parameters(
        *given, covariance_type=covariance_type
    ).partial_fit(X).score(X) == pytest.approx(theirs.score(X), abs=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [0.5, 0.6]}, "'weights' argument of EMGaussianMixture.from_param"),
        ({"weights": [[0.5, 0.5]]}, r"shape \(any,\). Got shape \(1, 2\) instead"),
        ({"means": [[0.0, 0.0]]}, r"'means'.*\(2, any\). Got shape \(1, 2\)"),
        ({"means": [[0.0, np.nan], [1.0, 1.0]]}, "'means'.*finite numbers.*nan"),
        ({"covariances": np.ones((2, 2, 2))}, "'covariances'.*positive definite"),
        ({"covariances": np.ones((2, 2))}, r"'covariances'.*\(2, 2, 2\)"),
        ({"covariance_type": "round"}, "'covariance_type'"),
        ({"covariance_type": "diag", "covariances": -np.ones((2, 2))}, "positive def"),
    ],
)
def test_bad_parameters_without_rows_are_named(change, message):
    arguments = {
        "weights": [0.5, 0.5],
        "means": [[0.0, 0.0], [1.0, 1.0]],
        "covariances": np.stack([np.eye(2)] * 2),
    }
    with pytest.raises(ValueError, match=message):
        EMGaussianMixture.from_parameters(**arguments | change)


def test_samples_come_with_their_component():
    mixture = EMGaussianMixture.from_parameters(
        [0.2, 0.8], [[0.0], [100.0]], [[[1.0]], [[1.0]]]
    )
    X, component = mixture.sample(500, random_state=0, return_component=True)
    np.testing.assert_array_equal(component, X[:, 0] > 50)
    np.testing.assert_array_equal(X, mixture.sample(500, random_state=0))
    with pytest.raises(ValueError, match="'return_component' argument of"):
        mixture.sample(2, return_component="yes")


@pytest.mark.parametrize("model", [EMGaussianMixture(2), GaussianKDE()], ids=str)
def test_samples_are_drawn_without_errors_of_underflow(model, monkeypatch):
    X = np.random.RandomState(0).standard_normal((50, 2))
    model, states = clone(model).fit(X), []
    draw = type(model)._drawn

    def drawn(self, n_samples, rng):
        states.append(np.geterr()["under"])
        return draw(self, n_samples, rng)

    monkeypatch.setattr(type(model), "_drawn", drawn)
    with np.errstate(all="raise"):
        model.sample(3, random_state=0)
    assert states == ["ignore"]
