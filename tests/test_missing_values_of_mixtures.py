"""EMGaussianMixture fitted to rows with missing values."""

import numpy as np
import pytest
from estimators import thorough
from mixtures import TYPES
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataDimensionalityWarning

from skgen import EMGaussianMixture
from skgen.mixture import _restarts
from skgen.mixture._incomplete import least_rows
from skgen.rows import _source

FITTED = ("weights_", "means_", "covariances_", "lower_bound_")
KINDS = [*TYPES, "block"]
every_type = pytest.mark.parametrize("kind", KINDS)


def truth(kind="full", d=4, K=3):
    """Return a mixture of well separated components."""
    rng = np.random.RandomState(0)
    means, roots = 3 * rng.normal(size=(K, d)), 0.4 * rng.normal(size=(K, d, d))
    roots += np.eye(d)
    covariances = roots @ roots.swapaxes(1, 2)
    options = {}
    if kind == "tied":
        covariances = covariances[0]
    elif kind == "diag":
        covariances = np.diagonal(covariances, axis1=1, axis2=2).copy()
    elif kind == "spherical":
        covariances = covariances[:, 0, 0].copy()
    elif kind == "block":
        options["blocks"] = [[0, 2], [1, 3]]
        mask = np.add.outer(np.arange(d), np.arange(d)) % 2 == 0
        covariances = covariances * mask
    return EMGaussianMixture.from_parameters(
        np.array([0.5, 0.3, 0.2]), means, covariances, covariance_type=kind, **options
    )


def holes(X, fraction=0.3, seed=1):
    """Return rows of which entries are missing at random."""
    missing = np.random.RandomState(seed).uniform(size=X.shape) < fraction
    return np.where(missing, np.nan, X)


def rows(n, kind="full", fraction=0.3):
    return holes(truth(kind).sample(n, random_state=0), fraction)


def mixture(kind="full", **parameters):
    if kind == "block":
        parameters["blocks"] = [[0, 2], [1, 3]]
    options = {"covariance_type": kind, "random_state": 0} | parameters
    return EMGaussianMixture(3, **options)


def check_same(one, other, rtol=1e-7):
    for name in FITTED:
        given, expected = getattr(one, name), getattr(other, name)
        assert_allclose(given, expected, rtol=rtol, atol=rtol, err_msg=name)


# -- maximum likelihood ------------------------------------------------------------


def test_monotone_patterns_of_one_normal_have_a_closed_form():
    # Little and Rubin (2002), section 7.4: regressions on the features before.
    rng = np.random.RandomState(0)
    X = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 3)) + [1.0, -5.0, 100.0]
    X[250:, 1:] = np.nan
    X[120:, 2] = np.nan
    mean, covariance = np.zeros(3), np.zeros((3, 3))
    for j, n in enumerate((400, 250, 120)):
        before = np.column_stack([np.ones(n), X[:n, :j]])
        slopes = np.linalg.lstsq(before, X[:n, j], rcond=None)[0]
        residual = X[:n, j] - before @ slopes
        mean[j] = slopes[0] + slopes[1:] @ mean[:j]
        covariance[j, :j] = covariance[:j, j] = covariance[:j, :j] @ slopes[1:]
        covariance[j, j] = np.mean(residual**2) + slopes[1:] @ covariance[:j, j]
    model = EMGaussianMixture(tol=0, max_iter=1000).fit(X)
    assert model.converged_
    # The likelihood is flat to rounding within the square root of rounding.
    scale = np.sqrt(np.diagonal(covariance))
    assert np.abs((model.means_[0] - mean) / scale).max() < 1e-6
    error = (model.covariances_[0] - covariance) / np.outer(scale, scale)
    assert np.abs(error).max() < 1e-6


@every_type
def test_the_bound_is_the_score_of_the_observed_entries(kind):
    X = rows(500, kind)
    X[7] = np.nan
    model = mixture(kind).fit(X)
    assert_allclose(model.lower_bound_, model.score(X), rtol=1e-12)
    assert_allclose(model.lower_bounds_[-1], model.lower_bound_, rtol=1e-9)
    assert (np.diff(model.lower_bounds_) >= 0).all()


@every_type
def test_the_fit_is_a_maximum(kind):
    # Any small change of the parameters lowers the likelihood.
    X = rows(600, kind)
    model = mixture(kind, tol=0, max_iter=500).fit(X)
    best, rng = model.score(X), np.random.RandomState(0)
    for _ in range(20):
        means = model.means_ + 1e-3 * rng.normal(size=model.means_.shape)
        factor = np.exp(1e-3 * rng.normal())
        options = {"covariance_type": kind, "blocks": model.blocks}
        moved = EMGaussianMixture.from_parameters(
            model.weights_, means, factor * model.covariances_, **options
        )
        assert moved.score(X) < best


@pytest.mark.parametrize(
    ("kind", "n"), [("full", 3000), *(thorough(kind, 20_000) for kind in KINDS)]
)
def test_a_mixture_is_found_at_the_parametric_rate(kind, n):
    source, X = truth(kind), rows(n, kind)
    model = mixture(kind, tol=1e-8, max_iter=500).fit(X)
    n_parameters = model._n_parameters()
    # Twice the log of the likelihood ratio has about the chi-squared distribution.
    gain = 2 * n * (model.score(X) - source.score(X))
    assert 0 < gain < n_parameters + 5 * np.sqrt(2 * n_parameters)
    # New complete rows: by its expectation, p / 2n below the truth, with the loss of
    # information about the parameters (30 % of the entries).
    new = source.sample(20_000, random_state=2)
    lost = source.score(new) - model.score(new)
    assert lost < 3 * n_parameters / n
    order = np.argsort(((model.means_[:, None] - source.means_) ** 2).sum(-1), axis=0)[
        0
    ]
    assert sorted(order) == [0, 1, 2]
    assert_allclose(model.weights_[order], source.weights_, atol=5 / np.sqrt(n))
    assert_allclose(model.means_[order], source.means_, atol=30 / np.sqrt(n))


def test_one_missing_value_hardly_changes_the_fit():
    X = truth().sample(2000, random_state=0)
    complete = mixture(tol=1e-9, max_iter=500).fit(X)
    X[17, 2] = np.nan
    model = mixture(tol=1e-9, max_iter=500).fit(X)
    for one in (complete, model):  # in the order of the weights
        order = np.argsort(one.weights_)
        one.weights_, one.means_ = one.weights_[order], one.means_[order]
        one.covariances_ = one.covariances_[order]
    assert_allclose(model.weights_, complete.weights_, rtol=1e-3)
    assert_allclose(model.means_, complete.means_, rtol=0.01, atol=0.01)
    assert_allclose(model.covariances_, complete.covariances_, rtol=0.01, atol=0.01)


# -- few rows ------------------------------------------------------------------------


def test_rows_that_determine_a_variance_are_those_of_the_worst_direction():
    rng, (n, d) = np.random.RandomState(0), (30, 3)
    root = rng.normal(size=(d, d))
    covariance, total = root @ root.T, np.zeros((d, d))
    precision = np.linalg.inv(covariance)
    for missing in rng.uniform(size=(n, d)) < 0.4:
        part = np.ix_(missing, missing)
        total[part] += np.linalg.inv(precision[part])
    factor = np.linalg.cholesky(precision)
    found = least_rows(np.array([n]), total[None], factor[None])
    directions = rng.normal(size=(200_000, d)) @ np.linalg.inv(root)
    by_direction = n - np.einsum("ni,ij,nj->n", directions, total, directions) / (
        np.einsum("ni,ij,nj->n", directions, covariance, directions)
    )
    # The minimum over directions that lie densely: its error is quadratic.
    assert found[0] <= by_direction.min()
    assert_allclose(found[0], by_direction.min(), atol=0.01)


@pytest.mark.parametrize(
    "advice",
    [
        {"covariance_type": "tied"},
        {"covariance_type": "diag"},
        {"n_components": 1},
        {"reg_covar": 0.2},
    ],
    ids=str,
)
def test_too_few_rows_without_missing_values_are_a_warning_whose_advice_works(advice):
    source = truth(d=10)
    X = holes(source.sample(300, random_state=0), 0.25)
    new = source.sample(1000, random_state=1)
    with pytest.warns(ConvergenceWarning, match="Missing values leave fewer rows"):
        before = EMGaussianMixture(3, random_state=0).fit(X)
    # No warning, and a better density of complete rows.
    after = EMGaussianMixture(**{"n_components": 3, "random_state": 0} | advice).fit(X)
    assert after.score(new) > before.score(new) + 1


# -- equivalences --------------------------------------------------------------------


@every_type
def test_a_weight_of_two_is_the_row_twice(kind):
    X = rows(300, kind)
    weights = np.random.RandomState(2).randint(0, 3, len(X))
    one = mixture(kind).fit(X, sample_weight=weights)
    check_same(one, mixture(kind).fit(np.repeat(X, weights, axis=0)), rtol=1e-9)


@every_type
def test_the_order_of_the_rows_changes_no_bit(kind):
    X = rows(300, kind)
    one = mixture(kind).fit(X)
    other = mixture(kind).fit(X[np.random.RandomState(0).permutation(len(X))])
    for name in FITTED:
        assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_the_order_of_the_features_does_not_matter(kind):
    X, order = rows(1000, kind), [2, 0, 3, 1]
    options = {"tol": 1e-10, "max_iter": 500}
    one = mixture(kind, **options).fit(X)
    other = mixture(kind, **options).fit(X[:, order])
    assert_allclose(one.score(X), other.score(X[:, order]), rtol=1e-8)


@every_type
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_units_of_the_data_do_not_matter(kind, factor):
    X = rows(300, kind)
    one, other = mixture(kind).fit(X), mixture(kind).fit(factor * X + 3 * factor)
    assert_allclose(other.means_, factor * one.means_ + 3 * factor, rtol=1e-6)
    n_observed = np.isfinite(X).sum() / len(X)
    shift = n_observed * np.log(factor)
    assert_allclose(other.lower_bound_, one.lower_bound_ - shift, rtol=1e-9)


def test_rows_without_values_do_not_change_the_parameters():
    X = rows(300)
    X = X[np.isfinite(X).any(axis=1)]
    with_empty = np.vstack([X, np.full((50, 4), np.nan)])
    one, other = mixture().fit(X), mixture().fit(with_empty)
    assert_allclose(other.score(X), one.score(X), rtol=1e-9)
    assert_allclose(other.lower_bound_ * (len(X) + 50), one.lower_bound_ * len(X))


def test_float32_rows_are_fitted_and_answered_in_float32():
    X = rows(300).astype(np.float32)
    model = mixture().fit(X)
    assert model.score_samples(X).dtype == np.float32
    check_same(model, mixture().fit(X.astype(np.float64)), rtol=1e-5)


# -- starts and updates ----------------------------------------------------------------


@every_type
@pytest.mark.parametrize("init_params", ["k-means++", "random", "random_from_data"])
def test_every_initialisation_takes_missing_values(kind, init_params):
    X = rows(300, kind)
    model = mixture(kind, init_params=init_params, max_iter=0).fit(X)
    assert np.isfinite(model.score(X))


@every_type
def test_a_warm_start_continues_from_the_last_fit(kind):
    X = rows(500, kind)
    model = mixture(kind, warm_start=True, tol=1e-10, max_iter=300).fit(X)
    bound = model.lower_bound_
    model.set_params(tol=1e-6).fit(X)
    assert model.n_iter_ <= 3
    assert model.lower_bound_ >= bound - 1e-12
    assert_allclose(model.lower_bound_, bound, rtol=1e-8)


@every_type
def test_given_parameters_are_the_start(kind):
    X, source = rows(500, kind), truth(kind)
    start = {
        "weights_init": source.weights_,
        "means_init": source.means_,
        "precisions_init": source.precisions_,
    }
    model = mixture(kind, **start, max_iter=0).fit(X)
    check_same(model, _at(source, X), rtol=1e-6)


def _at(model, X):
    model.lower_bound_ = model.score(X)
    return model


@every_type
def test_blocks_approach_the_fit_of_all_rows(kind):
    X = rows(4000, kind)
    model = mixture(kind, n_init=4)
    for block in np.split(X, 8):
        model.partial_fit(block)
    whole = mixture(kind, n_init=4).fit(X)
    # Stepwise EM ends near the maximum: within nats of the parametric rate.
    assert whole.score(X) - model.score(X) < 10 * model._n_parameters() / len(X)


def test_complete_and_incomplete_blocks_can_alternate():
    X = truth().sample(3000, random_state=0)
    model = mixture()
    for number, block in enumerate(np.split(X, 6)):
        model.partial_fit(holes(block) if number % 2 else block)
    lost = mixture().fit(X).score(X) - model.score(X)
    assert lost < 10 * model._n_parameters() / len(X)


def test_a_block_without_values_is_an_error_and_changes_nothing():
    model = mixture().partial_fit(rows(300))
    before = dict(vars(model))
    with pytest.raises(ValueError, match=r"partial_fit.*only NaN in"):
        model.partial_fit(np.full((10, 4), np.nan))
    assert vars(model) == before
    X = rows(100)
    X[:, 1] = np.nan  # a column without values is known from the first block
    assert np.isfinite(model.partial_fit(X).score(X))
    with pytest.raises(ValueError, match=r"partial_fit.*only NaN in .*1"):
        truth().partial_fit(X)


# -- rows that are not in memory ------------------------------------------------------


@every_type
@pytest.mark.parametrize("where", ["dask", "memory map", "function"])
def test_rows_of_any_source_are_fitted_as_in_memory(kind, where, monkeypatch, tmp_path):
    X = rows(2000, kind)
    X[5] = np.nan
    monkeypatch.setattr(_source, "_BLOCK", 2_000)
    monkeypatch.setattr(_restarts, "_LEAST_ROWS", 100)
    monkeypatch.setattr(_restarts, "_ROWS_FOR_FEATURE", 10)
    source, memory = X, 1024
    if where == "dask":
        source = pytest.importorskip("dask.array").from_array(X, chunks=(300, 4))
    elif where == "memory map":
        np.save(tmp_path / "X.npy", X)
        source, memory = np.load(tmp_path / "X.npy", mmap_mode="r"), 0
    else:

        def source():
            return (X[start : start + 300] for start in range(0, 2000, 300))

    with config_context(working_memory=memory):
        model = mixture(kind).fit(source)
    check_same(model, mixture(kind).fit(X))


@every_type
def test_a_block_of_a_source_may_have_no_value(kind):
    X = rows(900, kind)
    X[300:600] = np.nan
    model = mixture(kind).fit(lambda: iter(np.split(X, 3)))
    assert_allclose(model.lower_bound_, model.score(X), rtol=1e-9)
    assert_allclose(model.score(X), mixture(kind).fit(X).score(X), atol=0.02)


# -- difficult data --------------------------------------------------------------------


def test_a_column_without_values_is_an_error_that_names_it():
    X = rows(100)
    X[:, 2] = np.nan
    with pytest.raises(ValueError, match=r"only NaN in .*2"):
        mixture().fit(X)


def test_infinity_is_still_an_error():
    X = rows(100)
    X[3, 1] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        mixture().fit(X)


def test_features_that_are_never_observed_together():
    X = rows(600, fraction=0.1)
    X[::2, 0] = np.nan
    X[1::2, 3] = np.nan
    model = mixture().fit(X)
    assert np.isfinite(model.score(X))
    assert np.linalg.eigvalsh(model.covariances_).min() > 0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_feature_with_few_values_is_not_collinear():
    # Four rows in eight dimensions lie in a hyperplane.
    X = np.random.RandomState(0).normal(size=(40, 8))
    X[4:, 0] = np.nan
    model = EMGaussianMixture().fit(X)  # without a warning of collinear features
    assert np.isfinite(model.score(X))
    assert np.linalg.eigvalsh(model.covariances_).min() > 0


def test_a_constant_feature():
    X = rows(600)
    X[:, 1] = np.where(np.isnan(X[:, 1]), np.nan, 5.0)
    with pytest.warns(DataDimensionalityWarning, match="Constant"):
        model = mixture().fit(X)
    assert_allclose(model.means_[:, 1], 5.0, atol=1e-3)
    variances = np.diagonal(model.covariances_, axis1=1, axis2=2)
    largest = np.nanvar(X, axis=0).max()
    assert_allclose(variances[:, 1], 1e-6 * largest, rtol=0.05)


def test_collinear_features_are_found_as_in_complete_rows():
    X = truth().sample(600, random_state=0)
    X[:, 3] = X[:, 0] - 2 * X[:, 1]
    with pytest.warns(DataDimensionalityWarning, match="1 fewer"):
        complete = mixture().fit(X)
    with pytest.warns(DataDimensionalityWarning, match="1 fewer"):
        model = mixture().fit(holes(X, 0.1))
    # Across the missing dimension, both have the same variance.
    direction = np.array([1.0, -2.0, 0.0, -1.0])
    narrow = [
        np.einsum("i,kij,j->k", direction, m.covariances_, direction)
        for m in (model, complete)
    ]
    assert_allclose(narrow[0], narrow[1].mean(), rtol=0.5)


def test_an_outlier_does_not_set_the_minimum_variance():
    X = rows(600)
    X[5] = [1e7, np.nan, 1e7, np.nan]
    with pytest.warns(ConvergenceWarning):
        model = mixture().fit(X)
    others = np.delete(X, 5, axis=0)
    assert model.score(others) > mixture().fit(others).score(others) - 1.0


def test_unsupported_is_unchanged_by_a_failed_fit():
    X = rows(300)
    model = mixture().fit(X)
    before = clone(model).fit(X).means_
    X[:, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        model.fit(X)
    assert_array_equal(model.means_, before)
