"""Covariances in which only features of one group are correlated."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from estimators import rows
from mixtures import Iterations
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataDimensionalityWarning

from skgen import EMGaussianMixture, SGDGaussianMixture

BLOCKS = [[0, 3], [4, 1]]  # and 2 alone
ALL = [[0, 3], [1, 4], [2]]


def of_blocks(K=3, blocks=BLOCKS, **options):
    options = {"random_state": 0, **options}
    return EMGaussianMixture(K, covariance_type="block", blocks=blocks, **options)


def inside():
    """Return which pairs of five features belong to one block."""
    mask = np.zeros((5, 5), dtype=bool)
    for block in ALL:
        mask[np.ix_(block, block)] = True
    return mask


def test_one_component_is_a_normal_density_of_each_block():
    X, held_out = rows(100, 5), rows(20, 5, seed=1)
    weights = np.random.RandomState(0).uniform(0.1, 3.0, 100)
    model = of_blocks(1).fit(X, sample_weight=weights)
    expected = np.cov(X.T, aweights=weights, ddof=0) * inside()
    assert_allclose(model.covariances_[0], expected, rtol=1e-10, atol=1e-12)
    parts = [EMGaussianMixture().fit(X[:, b], sample_weight=weights) for b in ALL]
    scores = [p.score_samples(held_out[:, b]) for p, b in zip(parts, ALL, strict=True)]
    assert_allclose(model.score_samples(held_out), np.sum(scores, axis=0), rtol=1e-10)


def test_attributes_have_the_shapes_of_full_covariances():
    model = of_blocks().fit(rows(100, 5))
    for name in ("covariances_", "precisions_", "precisions_cholesky_"):
        matrices = getattr(model, name)
        assert matrices.shape == (3, 5, 5)
        assert (matrices[:, ~inside()] == 0).all()
    assert (np.tril(model.precisions_cholesky_, -1) == 0).all()
    eye = np.tile(np.eye(5), (3, 1, 1))
    assert_allclose(model.covariances_ @ model.precisions_, eye, atol=1e-9)


@pytest.mark.parametrize(
    ("blocks", "kind"), [([[2, 0, 1, 3, 4]], "full"), ([], "diag"), (((1,),), "diag")]
)
def test_one_block_is_full_and_no_block_is_diag(blocks, kind):
    X = rows(200, 5)
    start = {"weights_init": [0.3, 0.7], "means_init": X[[0, 7]], "tol": 1e-4}
    eye = np.stack([np.eye(5)] * 2)
    given = np.ones((2, 5)) if kind == "diag" else eye
    other = EMGaussianMixture(2, covariance_type=kind, precisions_init=given, **start)
    other.fit(X)
    model = of_blocks(2, blocks, precisions_init=eye, **start).fit(X)
    assert_allclose(model.score_samples(X), other.score_samples(X), rtol=1e-7)
    assert model.bic(X) == pytest.approx(other.bic(X), rel=1e-9)


def test_the_number_of_parameters_is_that_of_the_blocks():
    X = rows(100, 5)
    model = of_blocks().fit(X)
    n_parameters = 2 + 3 * 5 + 3 * (3 + 3 + 1)
    expected = 2 * n_parameters - 2 * model.score_samples(X).sum()
    assert model.aic(X) == pytest.approx(expected)


def test_maps_within_blocks_change_nothing_else(rng):
    X = rows(200, 5)
    A = (rng.standard_normal((5, 5)) + 2 * np.eye(5)) * inside()
    start = {"weights_init": [0.3, 0.7], "tol": 1e-4}
    eye = np.eye(5)
    one = of_blocks(
        2, means_init=X[[0, 7]], precisions_init=np.stack([eye] * 2), **start
    ).fit(X)
    inverse = np.linalg.inv(A)
    other = of_blocks(
        2,
        means_init=X[[0, 7]] @ A + 3,
        precisions_init=np.stack([inverse @ inverse.T] * 2),
        **start,
    ).fit(X @ A + 3)
    log_det = np.linalg.slogdet(A)[1]
    assert one.n_iter_ == other.n_iter_
    scores = other.score_samples(X @ A + 3) + log_det
    assert_allclose(scores, one.score_samples(X), rtol=1e-7)
    assert_allclose(other.means_, one.means_ @ A + 3, rtol=1e-6)


def test_the_likelihood_never_falls():
    X = rows(300, 5)
    iterations, model = Iterations(X), of_blocks(4, tol=0.0, max_iter=30)
    with pytest.warns(ConvergenceWarning):
        model.set_callbacks(iterations).fit(X)
    # Bounds are a running maximum: the parameters may lose what rounding takes.
    assert (np.diff(iterations.scores) >= -1e-9 * np.abs(iterations.scores[1:])).all()
    assert_allclose(iterations.scores, model.lower_bounds_, rtol=1e-9)
    assert len(iterations.scores) == 30
    assert iterations.scores[-1] > iterations.scores[0]


def test_rows_from_elsewhere_and_streams_keep_the_blocks():
    X = rows(600, 5)
    model = of_blocks().fit(X)
    parts = np.array_split(X, 4)
    other = of_blocks().fit(lambda: iter(parts))
    assert_allclose(other.score(X), model.score(X), rtol=1e-6)
    model.partial_fit(rows(100, 5, seed=1))
    assert (model.covariances_[:, ~inside()] == 0).all()
    assert model.score(X) > EMGaussianMixture().fit(X).score(X) - 1


def test_names_of_features():
    X = pd.DataFrame(rows(100, 5), columns=list("abcde"))
    one = of_blocks(blocks=[["a", "d"], ["e", "b"]]).fit(X)
    mixed = of_blocks(blocks=(np.array([0, 3]), ("b", 4))).fit(X)
    expected = of_blocks().fit(X)
    for model in (one, mixed):
        assert_array_equal(model.covariances_, expected.covariances_)


@pytest.mark.parametrize(
    "blocks",
    [
        None,
        3,
        "ab",
        ["a", "b"],
        [[0, 1], 2],
        [[]],
        [[0, 0]],
        [[0, 1], [1, 2]],
        [[0, 5]],
        [[-1, 0]],
        [[True, 0]],
        [[0.0, 1.0]],
        [["z"]],
        [[[0]]],
    ],
)
@pytest.mark.parametrize("cls", [EMGaussianMixture, SGDGaussianMixture])
def test_bad_blocks_are_named(cls, blocks):
    X = pd.DataFrame(rows(20, 5), columns=list("abcde"))
    message = (
        rf"The 'blocks' parameter of {cls.__name__} must be a list of lists of feature "
        r"names or of indices from 0 to 4, .* Got .* instead\."
    )
    model = cls(covariance_type="block", blocks=blocks)
    with pytest.raises(ValueError, match=message):
        model.fit(X)
    assert clone(model).set_params(covariance_type="diag").fit(X).n_features_in_ == 5


def test_given_precisions_have_zeros_between_blocks():
    X, precisions = rows(20, 5), np.eye(5) + 0.1
    with pytest.raises(ValueError, match="with zeros between blocks"):
        of_blocks(1, precisions_init=precisions[None]).fit(X)


def test_other_blocks_need_a_new_estimator():
    X = rows(100, 5)
    model = of_blocks(warm_start=True).fit(X)
    before = model.score(X)
    model.set_params(blocks=[[1, 4], [3, 0]]).fit(X)  # the same groups
    model.set_params(blocks=[[0, 1]])
    with pytest.raises(ValueError, match="the same n_components, covariance_type, bl"):
        model.fit(X)
    with pytest.raises(ValueError, match=r"partial_fit must continue"):
        model.partial_fit(X)
    assert model.score(X) >= before - 1e-9


def test_collinear_features_of_a_block_have_the_common_floor():
    X = rows(100, 3)
    X = np.column_stack([X, X[:, 0] - X[:, 1], np.full(100, 7.0)])
    blocks = [[0, 1, 3], [2, 4]]
    with pytest.warns(DataDimensionalityWarning):
        model = of_blocks(1, blocks).fit(X)
    with pytest.warns(DataDimensionalityWarning):
        parts = [EMGaussianMixture().fit(X[:, block]) for block in blocks[:1]]
    block = np.ix_(*[blocks[0]] * 2)
    expected = parts[0].covariances_[0]
    assert_allclose(model.covariances_[0][block], expected, rtol=1e-6, atol=1e-12)


def test_equal_features_of_two_blocks_do_not_collapse():
    X = np.repeat(rows(100, 2), 2, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = of_blocks(1, [[0, 2], [1, 3]]).fit(X)
    expected = np.cov(X[:, [0, 2]].T, ddof=0)
    for block in ([0, 2], [1, 3]):
        found = model.covariances_[0][np.ix_(block, block)]
        assert_allclose(found, expected, rtol=1e-10)


def test_draws_of_a_component_are_independent_between_blocks():
    model = of_blocks(1).fit(rows(200, 5))
    Z = model.sample(40_000, random_state=0)
    correlation = np.corrcoef(Z.T)
    assert np.abs(correlation[~inside()]).max() < 0.03  # six standard errors
    expected = model.covariances_[0]
    scale = np.sqrt(np.diag(expected))
    expected = expected / scale / scale[:, None]
    assert_allclose(correlation, expected, atol=0.03)


@pytest.mark.thorough
def test_gradient_descent_comes_near_em():
    X = rows(1000, 5)
    model = SGDGaussianMixture(
        3, covariance_type="block", blocks=BLOCKS, random_state=0
    ).fit(X)
    assert (model.covariances_[:, ~inside()] == 0).all()
    assert (model.covariances_[:, inside()] != 0).all()
    assert model.score(X) > of_blocks().fit(X).score(X) - 0.02
    with pytest.raises(ValueError, match="blocks"):
        model.set_params(blocks=[[0, 1]], warm_start=True).fit(X)


def test_gradient_descent_beside_a_constant_feature():
    X = rows(300, 5)
    X[:, 3] = 7.0
    with pytest.warns(DataDimensionalityWarning):
        model = SGDGaussianMixture(
            2, covariance_type="block", blocks=BLOCKS, random_state=0
        ).fit(X)
    assert (model.covariances_[:, ~inside()] == 0).all()
    assert model.lower_bound_ == pytest.approx(model.score(X), abs=1e-4)


@pytest.mark.parametrize("cls", [EMGaussianMixture, SGDGaussianMixture])
def test_a_saved_model_keeps_its_blocks(cls):
    X = rows(100, 5)
    model = cls(2, covariance_type="block", blocks=BLOCKS, random_state=0).fit(X)
    loaded = pickle.loads(pickle.dumps(model))
    assert_array_equal(loaded.score_samples(X), model.score_samples(X))
    assert loaded.bic(X) == model.bic(X)
    loaded.partial_fit(X)
    assert (loaded.covariances_[:, ~inside()] == 0).all()
