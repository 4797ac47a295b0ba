"""Rows of the table of covariance types that are not public, against a plain EM."""

import numpy as np
import pytest
import skops.io
from estimators import thorough
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import skgen
from skgen import EMGaussianMixture, SGDGaussianMixture
from skgen.mixture._covariance import COVARIANCES, Covariance
from skgen.mixture._lowrank import ALL_COVARIANCES
from skgen.mixture._sgd import _module

K, D = 3, 4


def equicorrelated(d):
    """Return matrices (2, d, d) that span those of one variance and one covariance."""
    eye = np.eye(d)
    return np.stack([eye, 1 - eye])


def same_pairs(d):
    """Return the basis of matrices of equal blocks (2, 2), for even d."""
    blocks = [[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 1], [1, 0]]]
    return np.stack([np.kron(np.eye(d // 2), block) for block in blocks])


def average(S):
    """Return equicorrelated matrices from matrices (J, d, d), by plain averages."""
    off = S[:, ~np.eye(D, dtype=bool)].mean(axis=1)
    on = np.diagonal(S, axis1=1, axis2=2).mean(axis=1)
    eye = np.eye(D)
    return on[:, None, None] * eye + off[:, None, None] * (1 - eye)


def mean_pair(S):
    """Return matrices of equal blocks from matrices (J, d, d), by a plain average."""
    return np.stack([np.kron(np.eye(2), (s[:2, :2] + s[2:, 2:]) / 2) for s in S])


def diagonal(S):
    return S * np.eye(D)


def round_(S):
    return np.trace(S, axis1=1, axis2=2)[:, None, None] / D * np.eye(D)


# Fields of a row, its M-step from matrices (J, d, d), and its free parameters.
LINEAR = {"dense": True, "whitening": "spherical"}
ROWS = {
    "equicorrelated": ({**LINEAR, "basis": equicorrelated}, average, 2 * K),
    "one_equicorrelated": (
        {**LINEAR, "basis": equicorrelated, "shared": True},
        average,
        2,
    ),
    "same_pairs": ({**LINEAR, "basis": same_pairs}, mean_pair, 3 * K),
    "one_diagonal": (
        {"dense": False, "whitening": "diag", "shared": True},
        diagonal,
        D,
    ),
    "one_round": (
        {"dense": False, "whitening": "spherical", "shared": True, "pooled": True},
        round_,
        1,
    ),
    "dense_by_scales": ({"dense": True, "whitening": "diag"}, np.copy, 10 * K),
    "dense_by_one_scale": (LINEAR, np.copy, 10 * K),
    "diagonal_by_one_scale": (
        {"dense": False, "whitening": "spherical"},
        diagonal,
        D * K,
    ),
}
every_row = pytest.mark.parametrize("kind", ROWS)
some_rows = pytest.mark.parametrize(
    "kind",
    [k if k in ("equicorrelated", "one_diagonal") else thorough(k) for k in ROWS],
)


@pytest.fixture(autouse=True)
def rows_of_the_table(monkeypatch):
    for kind, (fields, _, _) in ROWS.items():
        monkeypatch.setitem(COVARIANCES, kind, Covariance(**fields))
        monkeypatch.setitem(ALL_COVARIANCES, kind, COVARIANCES[kind])


def clusters(kind, n, seed=0):
    """Return rows (n, D) of a mixture of the type, far apart and of unequal widths."""
    rng = np.random.RandomState(seed)
    roots = np.eye(D) + 0.4 * rng.standard_normal((K, D, D))
    S = ROWS[kind][1](roots @ roots.mT * np.array([1.0, 0.3, 2.0])[:, None, None])
    labels = rng.randint(K, size=n)
    means = 3 * rng.standard_normal((K, D))
    noise = rng.standard_normal((n, D))
    return means[labels] + (np.linalg.cholesky(S)[labels] @ noise[:, :, None])[:, :, 0]


def matrices(model):
    """Return the covariances of a fitted mixture as matrices (K, d, d)."""
    return model._normal_components()[2]


def log_joint(X, weights, means, S):
    parts = zip(weights, means, S, strict=True)
    joint = [np.log(w) + multivariate_normal(m, s).logpdf(X) for w, m, s in parts]
    return np.column_stack(joint)


def plain_em(kind, X, weights, means, S, n_iter):
    """Return the mean log-likelihood after some iterations of a plain EM."""
    fields, m_step, _ = ROWS[kind]
    for _ in range(n_iter):
        joint = log_joint(X, weights, means, S)
        density = logsumexp(joint, axis=1, keepdims=True)
        r = np.exp(joint - density)
        weights, means = r.mean(axis=0), r.T @ X / r.sum(axis=0)[:, None]
        S = np.stack([np.cov(X.T, aweights=a, ddof=0) for a in r.T])
        if fields.get("shared"):
            S = np.tile(weights @ S.swapaxes(0, 1), (K, 1, 1))
        S = m_step(S)
    return density.mean()


def assert_of_type(kind, model):
    S = matrices(model)
    size = np.abs(S).max(axis=(1, 2), keepdims=True)
    assert (np.abs(ROWS[kind][1](S) - S) <= 1e-13 * size).all()
    if ROWS[kind][0].get("shared"):
        assert (S == S[0]).all()


@every_row
def test_em_ends_where_a_plain_em_ends(kind):
    X = clusters(kind, 300)
    options = {"tol": 1e-11, "max_iter": 1000, "reg_covar": 0.0, "random_state": 0}
    model = EMGaussianMixture(K, covariance_type=kind, **options).fit(X)
    start = model.weights_, model.means_, matrices(model)
    assert plain_em(kind, X, *start, 20) == pytest.approx(model.lower_bound_, abs=1e-9)
    assert (np.diff(model.lower_bounds_) >= 0).all()
    assert_of_type(kind, model)
    assert model._n_parameters() == K - 1 + K * D + ROWS[kind][2]
    expected = logsumexp(log_joint(X, *start), axis=1)
    assert_allclose(model.score_samples(X), expected, rtol=1e-10)
    given = {"precisions_init": model.precisions_, "means_init": model.means_}
    given |= {"weights_init": model.weights_, "reg_covar": 0.0, "max_iter": 0}
    again = EMGaussianMixture(K, covariance_type=kind, **given).fit(X)
    assert_allclose(again.covariances_, model.covariances_, rtol=1e-9, atol=1e-12)


@every_row
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_floor_keeps_the_type_and_the_rise(kind):
    X = clusters(kind, 300)
    model = EMGaussianMixture(
        K, covariance_type=kind, reg_covar=0.3, tol=1e-8, random_state=0
    ).fit(X)
    assert (np.diff(model.lower_bounds_) >= 0).all()
    assert_of_type(kind, model)
    for block in np.array_split(X, 3):
        assert_of_type(kind, model.partial_fit(block))


@some_rows
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_stream_comes_near_to_the_fit(kind):
    X = clusters(kind, 1500)
    options = {"covariance_type": kind, "random_state": 0}
    best = EMGaussianMixture(K, tol=1e-8, **options).fit(X).score(X)
    for model in (EMGaussianMixture(K, **options), SGDGaussianMixture(K, **options)):
        for block in np.array_split(X, 3):
            model.partial_fit(block)
        assert_of_type(kind, model)
        assert best - 0.1 < model.score(X) <= best + 1e-6


@some_rows
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_gradients_end_near_em(kind):
    X = clusters(kind, 400)
    options = {"covariance_type": kind, "random_state": 0}
    best = EMGaussianMixture(K, tol=1e-8, **options).fit(X).score(X)
    model = SGDGaussianMixture(K, early_stopping=False, **options).fit(X)
    assert_of_type(kind, model)
    assert best - 0.01 < model.score(X) <= best + 1e-6


@pytest.mark.parametrize("kind", ["one_diagonal", "equicorrelated"])
@pytest.mark.filterwarnings("ignore")
def test_constant_features_and_files(kind):
    X = clusters("one_diagonal", 200)
    X[:, 1] = 5.0
    model = SGDGaussianMixture(2, covariance_type=kind, max_epochs=1).fit(X)
    data = skops.io.dumps(model)
    found = skops.io.loads(data, trusted=skgen.TRUSTED_TYPES)
    assert (found.score_samples(X) == model.score_samples(X)).all()
    assert type(found.net_.module_) is getattr(_module, model._covariance.module)
    assert np.isfinite(model.partial_fit(X).score(X))


def test_precisions_of_another_type_are_refused():
    X = clusters("same_pairs", 50)
    other = np.tile(np.diag([1.0, 2.0, 3.0, 4.0]), (K, 1, 1))
    model = EMGaussianMixture(K, precisions_init=other)
    for kind in ("equicorrelated", "same_pairs"):
        with pytest.raises(ValueError, match="of the covariance type"):
            model.set_params(covariance_type=kind).fit(X)


def test_a_type_without_a_module_is_for_em_alone(monkeypatch):
    monkeypatch.setattr(Covariance, "module", None)
    X = clusters("one_round", 100)
    with pytest.raises(ValueError, match=r"'covariance_type' .* 'lowrank'"):
        SGDGaussianMixture(K, covariance_type="one_round").fit(X)
    EMGaussianMixture(K, covariance_type="one_round", tol=0.1).fit(X)


@pytest.mark.parametrize(
    "fields",
    [
        {"dense": True, "whitening": "spherical", "pooled": True},
        {"dense": False, "whitening": "diag", "pooled": True},
        {"dense": False, "whitening": "full"},
        {"dense": False, "whitening": "diag", "blocks": ((0,), (1,))},
        {"dense": False, "whitening": "spherical", "basis": equicorrelated},
        {"dense": True, "whitening": "full", "basis": equicorrelated},
        {"dense": True, "whitening": "diag", "basis": equicorrelated},
        {**LINEAR, "blocks": ((0,), (1,)), "basis": equicorrelated},
    ],
)
def test_fields_that_no_type_has_together_are_refused(fields):
    with pytest.raises(ValueError, match="No covariance type"):
        Covariance(**fields)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_nearest_covariance_is_an_average_of_entries(d, rng):
    covariance = Covariance(**ROWS["equicorrelated"][0])
    S = rng.standard_normal((2, d, d))
    S = S @ S.mT
    found = covariance.nearest(S)
    assert_allclose(np.trace(found, axis1=1, axis2=2), np.trace(S, axis1=1, axis2=2))
    assert_allclose(found.sum(axis=(1, 2)), S.sum(axis=(1, 2)))
    assert_allclose(covariance.nearest(found), found, rtol=1e-12)
    assert covariance.n_parameters(S) == 2 * min(d, 2)


def test_a_linear_module_keeps_the_digits_of_narrow_components(rng):
    # Precisions up to 1e8 in whitened coordinates, in single precision.
    covariance = Covariance(**ROWS["equicorrelated"][0])
    means = rng.standard_normal((K, D))
    S = 1e-8 * covariance.nearest(np.tile(np.eye(D) + 0.5, (K, 1, 1)))
    basis = covariance.basis_of(D)
    module = _module.LinearModule(np.full(K, 1 / K), means, S, 1e-10, basis=basis)
    _, found, covariances = module.values()
    assert_allclose(found, means, atol=1e-7)
    assert_allclose(covariances, S, rtol=1e-4)
