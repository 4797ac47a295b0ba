"""Pipelines: the change of variables of every step, ranges, noise, and manners."""

import itertools
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from estimators import PIPELINES, QUICK, SMALL, name, over, rows, thorough
from scipy import special
from scipy.stats import kstwobign, multivariate_normal, norm
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.callback import ProgressBar
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import (
    PCA,
    FactorAnalysis,
    IncrementalPCA,
    SparsePCA,
    TruncatedSVD,
)
from sklearn.exceptions import DataDimensionalityWarning, UndefinedMetricWarning
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)

from skgen import (
    SWAE,
    VAE,
    AutoEncoder,
    DensityOutlierDetector,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    GenerativePipeline,
    SGDGaussianMixture,
    dequantize,
    make_generative_pipeline,
    register_log_det,
)
from skgen._interop import normal_components
from skgen.compose._changes import change_of
from skgen.compose._constant import Rounding
from skgen.compose._truncation import mass_inside, normal_mass

QUANTILES = {"n_quantiles": 40, "random_state": 0}
ONE_TO_ONE = [
    StandardScaler(),
    StandardScaler(with_std=False),
    StandardScaler(with_mean=False),
    MinMaxScaler(),
    MinMaxScaler((-3, 5), clip=True),
    MaxAbsScaler(),
    MaxAbsScaler(clip=True),
    RobustScaler(),
    RobustScaler(with_centering=False),
    RobustScaler(with_scaling=False),
    RobustScaler(quantile_range=(10, 90), unit_variance=True),
    PowerTransformer(),
    PowerTransformer(standardize=False),
    PowerTransformer("box-cox"),
    PowerTransformer("box-cox", standardize=False),
    QuantileTransformer(**QUANTILES),
    QuantileTransformer(output_distribution="normal", **QUANTILES),
    FunctionTransformer(),
    FunctionTransformer(np.log, np.exp),
    FunctionTransformer(np.log2, np.exp2),
    FunctionTransformer(np.log10, lambda Y: 10**Y),
    FunctionTransformer(np.log1p, np.expm1),
    FunctionTransformer(np.exp, np.log),
    FunctionTransformer(np.expm1, np.log1p),
    FunctionTransformer(np.sqrt, np.square),
    FunctionTransformer(np.arcsinh, np.sinh),
    FunctionTransformer(np.sinh, np.arcsinh),
    FunctionTransformer(special.expit, special.logit),
    PCA(),
    PCA(whiten=True),
    PCA(svd_solver="randomized", random_state=0),
    IncrementalPCA(whiten=True),
    IncrementalPCA(batch_size=9),
]


def identifier(step):
    # No addresses, which every process has others of.
    return re.sub("at0x[0-9a-f]+", "", "".join(str(step).split()))


def positive(n, d, seed=0):
    """Return skewed rows above zero, to 20 or so."""
    X = rows(n, d, seed)
    return np.exp(0.4 * (X - X.mean(axis=0))) + 0.05


def numerical_log_det(transform, x, h=1e-6):
    """Return log |det J| at a row, by central differences."""
    d = x.size
    steps = h * np.eye(d) * np.maximum(np.abs(x), 1)
    J = (transform(x + steps) - transform(x - steps)).T / (2 * np.diag(steps))
    return np.linalg.slogdet(J)[1]


# -- change of variables -----------------------------------------------------------


@pytest.mark.parametrize("step", ONE_TO_ONE, ids=identifier)
def test_log_determinants_are_those_of_finite_differences(step):
    X = positive(80, 3)
    step = clone(step).fit(X)
    inner = X[np.all((X > X.min(axis=0)) & (X < X.max(axis=0)), axis=1)][:20]
    if isinstance(step, QuantileTransformer):
        # Off the quantiles themselves, where the slope jumps.
        inner = inner + 1e-4
    change = change_of(step)
    expected = [numerical_log_det(step.transform, x) for x in inner]
    actual = change.log_det(step, inner, step.transform(inner))
    np.testing.assert_allclose(actual, expected, atol=2e-6)
    if change.forward is not None:
        Y = step.transform(inner)
        np.testing.assert_allclose(change.forward(step, inner), Y, atol=1e-12)


@pytest.mark.parametrize("step", ONE_TO_ONE, ids=identifier)
def test_rows_come_back(step):
    X = positive(80, 3)
    step = clone(step).fit(X)
    again = change_of(step).invert(step, step.transform(X))
    np.testing.assert_allclose(again, X, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("powers", [-2.5, -1.0, 0.0, 0.5, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("standardize", [True, False])
def test_yeo_johnson_of_any_power(powers, standardize):
    X = rows(60, 2)
    step = PowerTransformer(standardize=standardize).fit(X)
    step.lambdas_ = np.array([powers, 1 - powers])
    change = change_of(step)
    expected = [numerical_log_det(step.transform, x) for x in X]
    actual = change.log_det(step, X, step.transform(X))
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    lower, upper = change.bounds(step)
    far = np.array([[-1e12, -1e12], [1e12, 1e12]])
    reached = step.transform(far)
    for j in range(2):
        for bound, value in ((lower[j], reached[0, j]), (upper[j], reached[1, j])):
            if np.isfinite(bound) and 0.4 < abs(powers - 1):
                assert value == pytest.approx(bound, abs=2e-3 * (1 + abs(bound)))
            elif np.isinf(bound):
                assert abs(value) > 5


def test_the_score_is_that_of_the_codes_plus_the_log_determinant():
    X = positive(80, 3)
    model = make_generative_pipeline(
        FunctionTransformer(np.log, np.exp), StandardScaler(), GaussianKDE()
    ).fit(X)
    codes = np.log(X)
    scale = codes.std(axis=0)
    codes = (codes - codes.mean(axis=0)) / scale
    expected = GaussianKDE().fit(codes).score_samples(codes)
    expected -= np.log(X * scale).sum(axis=1)
    np.testing.assert_allclose(model.score_samples(X), expected, atol=1e-9)


@pytest.mark.parametrize(
    "density", [GaussianKDE(), EMGaussianMixture(3, random_state=0)], ids=name
)
def test_scalers_in_front_of_the_same_density_change_nothing(density):
    X = rows(150, 3) * [1.0, 1e3, 1e-3] + [0.0, 5e3, 2.0]
    scalers = [StandardScaler(), MinMaxScaler((-2, 7)), MaxAbsScaler(), RobustScaler()]
    if isinstance(density, GaussianKDE):  # EM starts elsewhere on rotated rows
        scalers += [
            PCA(svd_solver="full"),
            make_pipeline(StandardScaler(), PCA(whiten=True)),
        ]
    expected = clone(density).fit(X).score_samples(X)
    for scaler in scalers:
        model = make_generative_pipeline(scaler, clone(density)).fit(X)
        np.testing.assert_allclose(model.score_samples(X), expected, atol=1e-9)


# -- principal components ----------------------------------------------------------


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("kind", [PCA])
def test_principal_components_have_normal_noise_across_them(kind, k, whiten):
    X = rows(100, 5)
    pca = kind(k, whiten=whiten).fit(X)
    model = make_generative_pipeline(kind(k, whiten=whiten), GaussianKDE()).fit(X)
    codes = pca.transform(X)
    residual = X - pca.inverse_transform(codes)
    across = norm(0, np.sqrt(pca.noise_variance_)).logpdf(0) * (5 - k)
    across -= (residual**2).sum(axis=1) / (2 * pca.noise_variance_)
    expected = GaussianKDE().fit(codes).score_samples(codes) + across
    if whiten:
        expected -= 0.5 * np.log(pca.explained_variance_).sum()
    np.testing.assert_allclose(model.score_samples(X), expected, atol=1e-9)


@pytest.mark.parametrize(
    "pca",
    [
        PCA(2, svd_solver="full"),
        PCA(2, svd_solver="covariance_eigh"),
        PCA(2, svd_solver="arpack", random_state=0),
        PCA(1, svd_solver="randomized", random_state=0),
        PCA(0.8, svd_solver="full", whiten=True),
        PCA("mle", svd_solver="full"),
        IncrementalPCA(1),
        IncrementalPCA(3, batch_size=17),
        IncrementalPCA(2, batch_size=90, whiten=True),
        IncrementalPCA(2, batch_size=11),
    ],
    ids=identifier,
)
@pytest.mark.parametrize("shape", [(90, 6), (14, 30), (90, 6, 1e6), (90, 6, 1e-6)])
@pytest.mark.parametrize("nested", [False, True])
def test_the_noise_is_what_the_components_leave_over(pca, shape, nested):
    n, d, *scale = shape
    X = np.random.RandomState(0).standard_normal((n, 9)) @ np.random.RandomState(
        1
    ).standard_normal((9, d))
    X = 3 + np.prod(scale) * (X + 0.3 * rows(n, d))
    if n < d and (pca.n_components == "mle" or pca.get_params().get("batch_size")):
        pytest.skip("scikit-learn refuses it")
    density = EMGaussianMixture(reg_covar=0)
    model = make_generative_pipeline(pca, density)
    if nested:
        model = GenerativePipeline([("last", make_pipeline(clone(pca), density))])
    model.fit(X)
    part, last = model._fitted_steps()
    V = part.components_
    centred = X - X.mean(axis=0)
    residual = centred - centred @ V.T @ V
    left = d - V.shape[0]
    variance = (residual**2).sum() / ((n - 1) * left)
    scales = np.sqrt(part.explained_variance_) if part.whiten else np.ones(d - left)
    codes = centred @ V.T / scales
    expected = last.score_samples(codes) - np.log(scales).sum()
    expected += norm.logpdf(0, scale=np.sqrt(variance)) * left
    expected -= (residual**2).sum(axis=1) / (2 * variance)
    np.testing.assert_allclose(model.score_samples(X), expected, atol=1e-6)
    draws = model.sample(4000, random_state=0) - X.mean(axis=0)
    draws -= draws @ V.T @ V
    found = (draws**2).sum() / (4000 * left)
    # The relative variance of a chi-square with 4000 * left degrees of freedom.
    assert found == pytest.approx(variance, rel=5 * np.sqrt(2 / (4000 * left)))


@pytest.mark.parametrize("output", ["uniform", "normal"])
@pytest.mark.parametrize("n_quantiles", [5, 500])
@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_quantiles_of_a_sample_reach_to_the_extremes(output, n_quantiles, scale):
    X = scale * np.random.RandomState(4).standard_cauchy((4000, 2))
    step = QuantileTransformer(
        n_quantiles=n_quantiles,
        subsample=500,
        output_distribution=output,
        random_state=0,
    )
    assert step.fit(X).quantiles_[-1, 0] < X[:, 0].max()
    model = make_generative_pipeline(step, EMGaussianMixture()).fit(X)
    q = model[0].quantiles_
    np.testing.assert_array_equal(q[[0, -1]], [X.min(axis=0), X.max(axis=0)])
    assert np.isfinite(model.score_samples(X)).all()
    assert np.isneginf(model.score_samples([X.max(axis=0) * (1 + 1e-9)])).all()
    # One column, between all quantiles: the density integrates to one.
    model = make_generative_pipeline(clone(step), EMGaussianMixture()).fit(X[:, :1])
    q = model[0].quantiles_[:, 0]
    x, w = np.polynomial.legendre.leggauss(60)
    widths = np.diff(q)[:, None] / 2
    points = q[:-1, None] + widths * (1 + x)
    density = np.exp(model.score_samples(points.reshape(-1, 1))).reshape(points.shape)
    # (A normal output has a mass of 1e-7 beyond its edges, and a steep slope there.)
    assert (widths * w * density).sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.parametrize("scaler", [MinMaxScaler, MaxAbsScaler])
@pytest.mark.parametrize("value", [0.0, 3.0, -14.62])
def test_clipped_scalers_keep_the_floor_of_constant_features(scaler, value):
    X = np.random.RandomState(0).uniform(-1, 1, (300, 2))
    X[:, 1] = value
    density = EMGaussianMixture()
    clipping = make_generative_pipeline(scaler(clip=True), density).fit(X)
    free = make_generative_pipeline(scaler(), density).fit(X)
    draws = free.sample(1000, random_state=0)
    limit = np.abs(X[:, 0]).max() if scaler is MaxAbsScaler else X[:, 0].max()
    lower = -limit if scaler is MaxAbsScaler else X[:, 0].min()
    inside = (draws[:, 0] > lower) & (draws[:, 0] < limit)
    expected = free.score_samples(draws) - np.log(clipping._mass)
    expected[~inside] = -np.inf
    np.testing.assert_allclose(clipping.score_samples(draws), expected, atol=1e-9)
    assert clipping._mass == pytest.approx(inside.mean(), abs=0.05)
    assert np.isfinite(clipping.score_samples(X)).all()
    assert np.isfinite(clipping.score(clipping.sample(500, random_state=0)))


def test_a_normal_density_of_components_is_probabilistic_pca():
    X, n = rows(100, 5), 100
    pca = PCA(2).fit(X)
    model = make_generative_pipeline(PCA(2), EMGaussianMixture(reg_covar=0)).fit(X)
    # EM divides by n where PCA divides by n - 1.
    variances = pca.explained_variance_ * (n - 1) / n - pca.noise_variance_
    covariance = (pca.components_.T * variances) @ pca.components_
    covariance += pca.noise_variance_ * np.eye(5)
    expected = multivariate_normal(pca.mean_, covariance).logpdf(X)
    np.testing.assert_allclose(model.score_samples(X), expected, atol=1e-9)


def test_draws_have_the_noise_across_the_components():
    X = rows(300, 5)
    pca = PCA(2).fit(X)
    model = make_generative_pipeline(PCA(2), EMGaussianMixture()).fit(X)
    draws = model.sample(50_000, random_state=0)
    covariance = pca.get_covariance()
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.03 * X.var())
    residual = draws - pca.inverse_transform(pca.transform(draws))
    variance = (residual**2).sum() / (3 * draws.shape[0])
    assert variance == pytest.approx(pca.noise_variance_, rel=0.02)


@pytest.mark.parametrize("k", [None, 8])
def test_without_noise_variance_the_floor_takes_its_place(k):
    X = rows(9, 20)
    reference = X.var(axis=0, ddof=1).max()
    with pytest.warns(DataDimensionalityWarning):
        model = make_generative_pipeline(PCA(k), GaussianKDE()).fit(X)
    residual = X - model[0].inverse_transform(model[0].transform(X))
    left = 20 - model[0].n_components_
    scores = model.score_samples(X)
    assert np.isfinite(scores).all()
    # The floor, and not rounding, is what scores are made of.
    expected = 0.5 * left * np.log(2 * np.pi * 1e-6 * reference)
    codes = clone(model[-1]).fit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Y = model[0].transform(X)
        Y[:, Y.std(axis=0) < 1e-10] = 0
        in_codes = codes(Y).score_samples(Y)
    assert np.abs(residual).max() < 1e-9
    np.testing.assert_allclose(scores, in_codes - expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e6, 1e10])
def test_components_of_rounding_gain_nothing(whiten, offset):
    X = rows(200, 3)
    X = np.column_stack([X, X[:, 0] - X[:, 1]]) + offset
    density = GaussianKDE()
    pca = PCA(4, whiten=whiten, svd_solver="full")
    model = make_generative_pipeline(pca, density)
    if offset == 1e10 and whiten:
        with pytest.raises(ValueError, match="that is only rounding error"):
            model.fit(X).score(X)
        return
    model.fit(X)
    # The same floor across the missing direction, of the variance of a code in place
    # of that of a feature: a nat or so, where rounding would gain thirty.
    assert model.score(X) == pytest.approx(clone(density).fit(X).score(X), abs=1.5)
    draws = model.sample(500, random_state=0)
    assert model.score(draws) == pytest.approx(model.score(X), abs=2)


def collinear(n, offset=0.0, seed=0):
    """Return two features and their difference, far from the origin."""
    X = rows(n, 2, seed)
    return np.column_stack([X, X[:, 0] - X[:, 1]]) + offset


def lasting(n=400):
    """Return start and end times in seconds since 1970, about 30 s apart."""
    rng = np.random.RandomState(0)
    start = 1.7e9 + rng.uniform(0, 3.15e7, size=n)
    return np.column_stack([start, start + rng.normal(30, 5, size=n)])


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (StandardScaler(),),
        (PCA(2),),
        (PCA(2, whiten=True, svd_solver="full"),),
        (StandardScaler(), PCA(1)),
    ],
)
def test_times_that_are_nearly_equal_keep_their_difference(steps):
    X = lasting()
    model = make_generative_pipeline(*steps, EMGaussianMixture())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X)
    apart = np.column_stack([X[:, 0], X[:, 1] - X[:, 0]])  # a determinant of one
    expected = EMGaussianMixture().fit(apart).score(apart)
    assert model.score(X) == pytest.approx(expected, abs=0.01)
    lasts = np.diff(model.sample(1000, random_state=0))
    assert lasts.mean() == pytest.approx(30, abs=1)
    assert lasts.std() == pytest.approx(5, rel=0.15)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.parametrize("offset", [10.0, 1e3, 1e6])
@pytest.mark.parametrize("steps", [(StandardScaler(),), (PCA(2),)])
def test_rounding_before_a_step_is_collinear_after_it(steps, offset):
    X = collinear(200, offset)
    direct = EMGaussianMixture().fit(X).score(X)
    model = make_generative_pipeline(*steps, EMGaussianMixture()).fit(X)
    assert model.score(X) == pytest.approx(direct, abs=1.5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize(
    ("offset", "nested"),
    [
        *((offset, False) for offset in (0.0, 10.0, 1e2, 1e3, 1e4, 1e5, 1e6)),
        *((offset, True) for offset in (1e2, 1e3, 1e4)),
    ],
)
def test_eigenvectors_of_rounding_gain_nothing(offset, nested, whiten, seed):
    # The default solver subtracts the product of the means from that of the rows. Its
    # eigenvectors have errors of the square of the offset: in a nested pipeline, where
    # the rows are not centred before.
    X = collinear(200, offset, seed)
    pca = PCA(3, whiten=whiten)
    pca = make_pipeline(FunctionTransformer(), pca) if nested else pca
    model = make_generative_pipeline(pca, GaussianKDE()).fit(X)
    expected = GaussianKDE().fit(X).score(X)
    if model._scaled_rounding:
        assert whiten
        with pytest.raises(ValueError, match="Reduce the number of components"):
            model.score(X)
    else:
        assert model.score(X) == pytest.approx(expected, abs=1.5)


def nested_pca(k):
    return make_pipeline("passthrough", make_pipeline(PCA(k)))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.parametrize("pca", [PCA, IncrementalPCA, nested_pca])
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("offset", [1e7, 1e8, 1e10, 1e12])
@pytest.mark.parametrize("library", [None, pd.DataFrame])
@pytest.mark.parametrize("together", [False, True])
def test_components_far_from_the_origin_lose_no_digits(
    pca, k, offset, library, together
):
    X = collinear(200) + offset
    steps = pca(k), EMGaussianMixture()
    model = make_generative_pipeline(*([make_pipeline(*steps)] if together else steps))
    if k == 3 and together:
        with pytest.raises(ValueError, match="Reduce the number of components"):
            model.fit(X).score(X)
    elif k == 3:  # one of them is rounding errors
        expected = EMGaussianMixture().fit(X).score(X)
        assert model.fit(X).score(X) == pytest.approx(expected, abs=1.5)
    X += np.round(0.3 * np.random.RandomState(1).standard_normal(X.shape), 3)
    near = X - offset  # exact
    expected = clone(model).fit(near).score_samples(near)
    if library is not None:
        X = library(X, columns=list("abc"))
    scores = model.fit(X).score_samples(X)
    # The mean is rounded.
    atol = 1e-9 + 500 * np.spacing(offset)
    np.testing.assert_allclose(scores, expected, atol=atol)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("scale", [1e3, 1e7, 1e9])
def test_small_components_are_not_taken_for_rounding(scale, whiten):
    X = rows(200, 2) * [1.0, scale]
    pca = PCA(svd_solver="full", whiten=whiten)
    model = make_generative_pipeline(pca, GaussianKDE()).fit(X)
    assert model.score(X) == pytest.approx(GaussianKDE().fit(X).score(X), abs=1e-6)
    # Variance that follows no other component, and is small beside the offset.
    X = rows(200, 2) * [1.0, 1e-6] + 1e2
    model = make_generative_pipeline(PCA(whiten=whiten), GaussianKDE()).fit(X)
    expected = GaussianKDE(covariance_type="diag").fit(X).score(X)
    assert model.score(X) == pytest.approx(expected, abs=1.0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.parametrize(
    "scaler",
    [StandardScaler(), MinMaxScaler((-2, 7)), MaxAbsScaler(), RobustScaler()],
    ids=identifier,
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_scaler_behind_components_of_rounding_changes_nothing(scaler, nested):
    X = collinear(200)
    expected = make_generative_pipeline(PCA(), GaussianKDE()).fit(X).score_samples(X)
    steps = [make_pipeline(PCA(), scaler)] if nested else [PCA(), scaler]
    model = make_generative_pipeline(*steps, GaussianKDE()).fit(X)
    np.testing.assert_allclose(model.score_samples(X), expected, atol=1e-6)
    assert model.sample(2000, random_state=0)[:, :3] @ [1, -1, -1] == pytest.approx(
        0, abs=0.05
    )


class Standardiser(TransformerMixin, BaseEstimator):
    """A transformer that nobody knows, which divides columns by their size."""

    def fit(self, X, y=None):
        self.mean_, self.size_ = X.mean(axis=0), X.std(axis=0)
        return self

    def transform(self, X):
        return (X - self.mean_) / np.maximum(self.size_, 1e-300)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.parametrize("step", [PowerTransformer(), Standardiser()], ids=identifier)
def test_components_of_rounding_must_not_be_scaled_up(step):
    register_log_det(
        Standardiser, lambda step, X: np.full(len(X), -np.log(step.size_).sum())
    )
    X = collinear(200)
    model = make_generative_pipeline(make_pipeline(PCA(), step), GaussianKDE()).fit(X)
    message = f"{type(step).__name__} divides .*Reduce the number of components"
    with pytest.raises(ValueError, match=message):
        model.score(X)
    model = make_generative_pipeline(make_pipeline(PCA(2), step), GaussianKDE()).fit(X)
    assert np.isfinite(model.score(X))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
def test_transformers_after_rounding_within_the_last_step_are_refused():
    X = collinear(200)
    last = make_pipeline(PCA(), StandardScaler(), GaussianKDE())
    with pytest.raises(ValueError, match="StandardScaler divides components"):
        GenerativePipeline([("last", last)]).fit(X).score(X)
    # The density was fitted to the rounding errors and gained 28 nats.
    model = GenerativePipeline([("last", make_pipeline(PCA(), GaussianKDE()))]).fit(X)
    with pytest.raises(ValueError, match="GaussianKDE divides components"):
        model.score(X)
    model = GenerativePipeline([("last", make_pipeline(PCA(2), GaussianKDE()))]).fit(X)
    assert model.score(X) == pytest.approx(GaussianKDE().fit(X).score(X), abs=1.5)


def test_a_column_that_varies_in_a_few_rows_is_not_constant():
    X = rows(5000, 2)
    X[:, 1] = 3.0
    X[4321, 1] = 4.0
    model = make_generative_pipeline(StandardScaler(), EMGaussianMixture()).fit(X)
    expected = EMGaussianMixture().fit(X).score_samples(X)
    np.testing.assert_allclose(model.score_samples(X), expected, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_jumps_of_a_transformer_are_no_rounding_errors(dtype):
    X = rows(300, 2)
    X[:, 0] = np.maximum(X[:, 0], 1)
    X = X.astype(dtype).astype(np.float64)
    for output in ("uniform", "normal"):
        step = QuantileTransformer(n_quantiles=300, output_distribution=output).fit(X)
        rounding = Rounding(X, dtype)
        rounding.follow(step, lambda step, X: step.transform(X))
        codes = step.transform(X)
        assert rounding.made_constant(codes) is codes
        assert not rounding.constant.any()
        assert not rounding.varies
        assert rounding.divided_by is None


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.1, 14.62, -123456.789, 1.7e9])
@pytest.mark.parametrize("n", [9, 500, thorough(20_000)])
def test_constant_features_are_found_for_every_mean_and_number_of_rows(n, value, dtype):
    # The mean of equal numbers is not this number: the standard deviation by NumPy of
    # 500 times 14.62 is 9e-14.
    X = np.column_stack([np.full(n, value), 1e-2 * rows(n, 1)]).astype(dtype)
    expected = EMGaussianMixture().fit(X).score(X)
    for scaler in (
        [StandardScaler()],
        [RobustScaler()],
        [MinMaxScaler()],
        [MaxAbsScaler()],
        [MinMaxScaler(), StandardScaler()],
        [PCA(svd_solver="full"), MaxAbsScaler()],
    ):
        model = make_generative_pipeline(*scaler, EMGaussianMixture()).fit(X)
        # (PCA's variances are divided by n - 1.)
        tolerance = 1e-3 if dtype is np.float32 else 1e-6
        assert model.score(X) == pytest.approx(expected, abs=tolerance), scaler


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.parametrize(
    "step",
    [
        StandardScaler(),
        StandardScaler(with_std=False),
        MinMaxScaler((-2, 7)),
        MaxAbsScaler(),
        RobustScaler(),
        PCA(2),
        PCA(3),
        make_pipeline(StandardScaler(), PCA(2)),
    ],
    ids=identifier,
)
@pytest.mark.parametrize("jitter", [False, True])
def test_the_floor_of_a_constant_feature_is_that_without_a_scaler(step, jitter):
    X = rows(200, 2) * [1.0, 300.0]
    column = np.full(200, 0.1)
    if jitter:
        column += np.random.RandomState(1).randint(-1, 2, size=200) * np.spacing(0.1)
    with_constant = np.column_stack([X, column])
    density = GaussianKDE()
    expected = clone(density).fit(with_constant).score_samples(with_constant)
    model = make_generative_pipeline(step, density).fit(with_constant)
    # (PCA's variances are divided by n - 1.)
    tolerance = 0.003 if "PCA" in str(step) else 1e-6
    scores = model.score_samples(with_constant)
    np.testing.assert_allclose(scores, expected, atol=tolerance)
    draws = model.sample(4000, random_state=0)
    floor = 1e-6 * X.var(axis=0).max()
    assert draws[:, 2].var() == pytest.approx(floor, rel=0.1)
    assert draws[:, 2].mean() == pytest.approx(0.1, abs=0.1 * np.sqrt(floor))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_jitter_of_single_precision_is_constant(dtype):
    column = np.full(200, 0.1, dtype)
    signs = np.random.RandomState(1).randint(-1, 2, size=200).astype(dtype)
    X = np.column_stack([rows(200, 1), column + signs * np.spacing(column)])
    X = X.astype(dtype)
    expected = EMGaussianMixture().fit(X).score(X)
    for step in (StandardScaler(), PCA(svd_solver="full")):
        model = make_generative_pipeline(step, EMGaussianMixture()).fit(X)
        assert model.score(X) == pytest.approx(expected, abs=0.01)
    collinear_rows = collinear(200, 10.0).astype(dtype)
    model = make_generative_pipeline(PCA(svd_solver="full"), EMGaussianMixture())
    model.fit(collinear_rows)
    expected = EMGaussianMixture().fit(collinear_rows).score(collinear_rows)
    assert model.score(collinear_rows) == pytest.approx(expected, abs=1.5)


# -- ranges --------------------------------------------------------------------------


def bounded(power):
    """Return a pipeline whose Yeo-Johnson power is one that bounds its range."""
    X = np.random.RandomState(0).gamma(0.7, 1.0, (150, 1)) * np.sign(power)
    model = make_generative_pipeline(PowerTransformer(), GaussianKDE(0.5)).fit(X)
    step = model[0]
    assert np.isfinite(change_of(step).bounds(step)).any()
    return model


RANGED = {
    "Yeo-Johnson above": lambda: bounded(1),
    "Yeo-Johnson below": lambda: bounded(-1),
    "Box-Cox": lambda: make_generative_pipeline(
        PowerTransformer("box-cox", standardize=False), GaussianKDE()
    ).fit(positive(150, 1)),
    "Box-Cox before a scaler": lambda: make_generative_pipeline(
        PowerTransformer("box-cox", standardize=False), StandardScaler(), GaussianKDE()
    ).fit(positive(150, 1)),
    "quantiles": lambda: make_generative_pipeline(
        QuantileTransformer(n_quantiles=20), GaussianKDE()
    ).fit(rows(150, 1)),
    "normal quantiles": lambda: make_generative_pipeline(
        QuantileTransformer(n_quantiles=20, output_distribution="normal"),
        EMGaussianMixture(2, random_state=0),
    ).fit(rows(150, 1)),
    "clipped": lambda: make_generative_pipeline(
        MinMaxScaler(clip=True), GaussianKDE()
    ).fit(rows(150, 1)),
    "exp": lambda: make_generative_pipeline(
        FunctionTransformer(np.exp, np.log), GaussianKDE()
    ).fit(rows(150, 1) / 2),
    "expit": lambda: make_generative_pipeline(
        FunctionTransformer(special.expit, special.logit),
        EMGaussianMixture(2, random_state=0),
    ).fit(rows(150, 1)),
    "sqrt": lambda: make_generative_pipeline(
        FunctionTransformer(np.sqrt, np.square), GaussianKDE()
    ).fit(positive(150, 1) ** 2),
    "uniform quantiles of scikit-learn's": lambda: make_generative_pipeline(
        QuantileTransformer(n_quantiles=20),
        GaussianMixture(2, random_state=0),
    ).fit(rows(150, 1)),
}


@pytest.mark.parametrize("kind", RANGED)
def test_a_density_of_a_bounded_range_is_whole_and_drawn_from(kind):
    model = RANGED[kind]()
    assert 0.5 < model._mass <= 1
    draws = np.sort(model.sample(20_000, random_state=0)[:, 0])
    assert np.isfinite(draws).all()
    assert np.isfinite(model.score_samples(draws[:, None])).all()
    # Between many draws the trapezoidal rule is near enough.
    edges = np.unique(np.quantile(draws, np.linspace(0, 1, 400)))
    steps = np.diff(edges) / 101
    x = edges[:-1, None] + steps[:, None] * (np.arange(101) + 0.5)
    density = np.exp(model.score_samples(x.reshape(-1, 1))).reshape(x.shape)
    cdf = density.sum(axis=1) * steps
    # The draws' own distribution function at the edges, against the density's.
    shares = np.searchsorted(draws, edges, side="right") / draws.size
    error = np.cumsum(cdf) - (shares[1:] - shares[0])
    assert np.abs(error).max() < 0.012  # kstwobign: 1e-2 of exceeding 0.0115
    assert sum(cdf) == pytest.approx(1, abs=0.004)


def test_integrals_over_bounded_ranges_are_exact():
    model = make_generative_pipeline(
        QuantileTransformer(n_quantiles=20), GaussianKDE()
    ).fit(rows(150, 1))
    q = model[0].quantiles_[:, 0]
    total = 0.0
    for low, high in itertools.pairwise(q):
        x = low + (high - low) * (np.arange(400) + 0.5) / 400
        total += np.exp(model.score_samples(x[:, None])).sum() * (high - low) / 400
    assert total == pytest.approx(1, abs=1e-5)


PRICES = 1e3 + np.exp(np.random.RandomState(0).standard_normal(60))


@pytest.mark.filterwarnings("ignore")  # of scikit-learn
@pytest.mark.parametrize(
    ("step", "prices"),
    [
        (PowerTransformer("box-cox", standardize=False), PRICES),
        (FunctionTransformer(special.expit, special.logit), PRICES - 960),
        (FunctionTransformer(np.expm1, np.log1p), -PRICES),
        (FunctionTransformer(np.log1p, np.exp), PRICES),
    ],
    ids=lambda case: "" if isinstance(case, np.ndarray) else identifier(case),
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_column_whose_values_are_lost_is_named(step, prices, nested):
    # Large negative powers of large numbers differ by rounding errors: scores were up
    # to 30 nats off, or more, without a word.
    X = pd.DataFrame({"price": prices})
    if nested:
        last = make_pipeline(clone(step), EMGaussianMixture())
        model = GenerativePipeline([("last", last)])
    else:
        model = make_generative_pipeline(clone(step), EMGaussianMixture())
    with pytest.raises(ValueError, match=r"loses column 'price'.* to 2\.0% of"):
        model.fit(X)


def test_a_step_without_columns_is_named():
    model = make_generative_pipeline(PCA(0), EMGaussianMixture())
    with pytest.raises(ValueError, match=r"PCA\(n_components=0\) returns no columns"):
        model.fit(rows(40, 2))


def test_scaled_columns_keep_their_values():
    # As the error advises.
    X = PRICES[:, None]
    scaled = StandardScaler().fit_transform(X)
    model = make_generative_pipeline(PowerTransformer(), EMGaussianMixture())
    expected = clone(model).fit(scaled).score_samples(scaled) - np.log(PRICES.std())
    model = make_generative_pipeline(StandardScaler(), model).fit(X)
    np.testing.assert_allclose(model.score_samples(X), expected, atol=1e-9)


def test_rows_outside_the_range_have_no_density():
    X = rows(150, 2)
    for step in (QuantileTransformer(n_quantiles=20), MinMaxScaler(clip=True)):
        model = make_generative_pipeline(step, GaussianKDE()).fit(X)
        outside = np.array([[X[:, 0].max() + 1, 0], X.mean(axis=0)])
        scores = model.score_samples(outside)
        assert scores[0] == -np.inf
        assert np.isfinite(scores[1])


def test_rows_that_a_function_is_not_defined_for_have_no_density():
    X = positive(60, 2)
    step = FunctionTransformer(np.log, np.exp)
    model = make_generative_pipeline(step, StandardScaler(), GaussianKDE()).fit(X)
    scores = model.score_samples([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    np.testing.assert_array_equal(scores[:2], -np.inf)
    assert scores[2] == pytest.approx(model.score_samples([[1.0, 1.0]])[0])


def test_a_range_with_none_of_the_mass_says_so():
    shift = FunctionTransformer(np.exp, np.log)
    model = make_generative_pipeline(shift, StandardScaler(), GaussianMixture())
    model.fit(rows(50, 1))
    model[-1].means_ -= 1e6
    with pytest.raises(ValueError, match=r"Only 0 of the mass of the last step"):
        model._settle()


@pytest.mark.parametrize("b", [1, 2, 4])
def test_the_mass_of_normal_densities_in_a_box(b):
    rng = np.random.RandomState(b)
    means = rng.standard_normal((3, b))
    A = rng.standard_normal((3, b, b))
    covariances = A @ A.transpose(0, 2, 1) + 0.3 * np.eye(b)
    lower, upper = np.full(b, -1.5), np.append(np.full(b - 1, np.inf), 1.0)
    weights = np.array([0.2, 0.3, 0.5])
    expected = sum(
        w * multivariate_normal(m, C).cdf(upper, lower_limit=lower)
        for w, m, C in zip(weights, means, covariances, strict=True)
    )
    factors = np.linalg.cholesky(covariances)
    actual = normal_mass(weights, means, factors, lower, upper)
    assert actual == pytest.approx(expected, abs=1e-7 if b == 1 else 1e-4)


NORMAL = [
    GaussianKDE(),
    GaussianKDE(0.4),
    GaussianKDE([0.3, 0.5]),
    KernelDensity(bandwidth=0.4),
    GenerativePipeline([("nothing", "passthrough"), ("kde", GaussianKDE())]),
    *(
        maker(2, covariance_type=kind, random_state=0)
        for maker in (EMGaussianMixture, GaussianMixture)
        for kind in ("full", "tied", "diag", "spherical")
    ),
    *(
        SGDGaussianMixture(
            2, covariance_type=kind, rank=1, max_epochs=3, random_state=0
        )
        for kind in ("full", "tied", "diag", "spherical", "lowrank")
    ),
]


def fitted_normal(density):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        density = clone(density).fit(rows(200, 2))
    return density, normal_components(density)


@pytest.mark.parametrize("density", NORMAL, ids=name)
def test_normal_components_make_up_the_density(density):
    density, (weights, means, covariances) = fitted_normal(density)
    assert covariances.shape[0] in (1, weights.size)
    X = rows(40, 2, seed=1)
    factors = np.linalg.cholesky(np.linalg.inv(covariances))
    factors = np.broadcast_to(factors, (weights.size, 2, 2))
    z = np.einsum("kni,kij->knj", X - means[:, None], factors)
    log_p = norm.logpdf(z).sum(axis=2)
    log_p += np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)[:, None]
    expected = special.logsumexp(log_p, axis=0, b=weights[:, None])
    np.testing.assert_allclose(density.score_samples(X), expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_density_of_a_variational_mixture_integrates_to_one(kind, frozen):
    X = rows(20, 1)
    density = BayesianGaussianMixture(
        n_components=3, covariance_type=kind, random_state=0
    ).fit(X)
    x = np.linspace(-30, 30, 20_001)[:, None]
    step = x[1, 0] - x[0, 0]
    assert np.exp(density.score_samples(x)).sum() * step < 0.97  # a bound
    if frozen:
        density = FrozenEstimator(density)
    pipeline = make_generative_pipeline(FunctionTransformer(), density)
    detector = DensityOutlierDetector(density)
    classifier = GenerativeClassifier(density)
    for model in (pipeline, detector, classifier):
        scores = model.fit(X, np.zeros(20)).score_samples(x)
        assert np.exp(scores).sum() * step == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("density", NORMAL, ids=name)
def test_the_mass_in_a_box_is_the_share_of_draws(density):
    density, (weights, means, covariances) = fitted_normal(density)
    bounds = np.array([-np.inf, 0.5]), np.array([2.5, 4.0])
    mass = mass_inside(density, bounds)
    rng = np.random.RandomState(0)
    c = rng.choice(weights.size, size=200_000, p=weights)
    factors = np.linalg.cholesky(np.broadcast_to(covariances, (weights.size, 2, 2)))
    draws = means[c] + np.einsum(
        "nij,nj->ni", factors[c], rng.standard_normal((200_000, 2))
    )
    share = ((draws > bounds[0]) & (draws < bounds[1])).all(axis=1).mean()
    assert mass == pytest.approx(share, abs=0.005)


class Shifted(GaussianKDE):
    """A class that could define another density."""


@pytest.mark.parametrize(
    "density",
    [
        GaussianKDE(0.4, bounds=(-99, 99)),
        KernelDensity(kernel="tophat"),
        KernelDensity(metric="manhattan"),
        Shifted(),
        VAE(1, **SMALL),
        make_generative_pipeline(StandardScaler(), GaussianKDE()),
    ],
    ids=name,
)
def test_other_densities_have_no_normal_components(density):
    assert fitted_normal(density)[1] is None


def test_what_is_no_density_has_no_normal_components():
    assert normal_components(object()) is None


def test_a_frozen_density_has_the_components_of_its_density():
    density, expected = fitted_normal(EMGaussianMixture(2, random_state=0))
    for found, array in zip(
        normal_components(FrozenEstimator(density)), expected, strict=True
    ):
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("changed", ["full", "tied", "diag", "spherical"])
def test_slices_after_a_change_of_the_covariance_type(kind, changed):
    X = np.exp(rows(100, 3) / 4)
    density = EMGaussianMixture(2, covariance_type=kind, random_state=0)
    model = make_generative_pipeline(
        PowerTransformer("box-cox", standardize=False), density
    ).fit(X)
    assert model._mass < 1
    model[-1].set_params(covariance_type=changed)
    part = model[0:]
    assert part._mass == model._mass
    np.testing.assert_array_equal(part.score_samples(X), model.score_samples(X))


def test_no_formula_says_the_mass_of_other_densities():
    density = VAE(1, **SMALL).fit(rows(60, 2))
    assert mass_inside(density, (np.zeros(2), np.ones(2))) is None


def test_quantiles_with_ties_have_no_density():
    X = np.round(rows(200, 2))
    model = make_generative_pipeline(QuantileTransformer(n_quantiles=20), GaussianKDE())
    with pytest.warns(UndefinedMetricWarning):
        model.fit(X)
    assert np.isfinite(model.sample(5, random_state=0)).all()
    with pytest.raises(ValueError, match=r"Column 0 has ties.*dequantize"):
        model.score_samples(X)


# -- steps that nobody has spoken for ------------------------------------------------


class Doubler(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return 2 * np.asarray(X)

    def inverse_transform(self, Y):
        return Y / 2


class Tripler(Doubler):
    def transform(self, X):
        return np.clip(3 * np.asarray(X), -6, 6)

    def inverse_transform(self, Y):
        return Y / 3


def cube_root(X):
    return np.cbrt(X)


def test_an_unknown_step_still_draws_and_says_what_to_do():
    X = rows(60, 2)
    model = make_generative_pipeline(Doubler(), GaussianKDE()).fit(X)
    assert model.sample(4, random_state=0).shape == (4, 2)
    assert model.transform(X).shape == (60, 2)
    message = r"Jacobian of Doubler\(\) is not known.*skgen\.register_log_det"
    with pytest.raises(ValueError, match=message):
        model.score_samples(X)


@pytest.mark.parametrize(
    "step",
    [
        OneHotEncoder(),
        OneHotEncoder(sparse_output=False),
        OrdinalEncoder(),
        KBinsDiscretizer(3, encode="ordinal", quantile_method="averaged_inverted_cdf"),
        Binarizer(),
    ],
    ids=identifier,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
def test_discrete_values_have_no_density(step):
    X = np.round(np.random.RandomState(0).uniform(size=(60, 2)), 1)
    model = make_generative_pipeline(step, GaussianKDE(1.0)).fit(X)
    message = r"\) returns discrete values.*cannot score.*GenerativeClassifier"
    with pytest.raises(ValueError, match=message) as raised:
        model.score_samples(X)
    assert "register_log_det" not in str(raised.value)


@pytest.mark.parametrize(
    ("step", "change"),
    [
        (SplineTransformer(), "14 columns for 2"),
        (PolynomialFeatures(2), "6 columns for 2"),
        (TruncatedSVD(1), "1 columns for 2"),
        (FactorAnalysis(1), "1 columns for 2"),
        (SparsePCA(1, max_iter=2), "1 columns for 2"),
        (ColumnTransformer([("one", OneHotEncoder(), [0])]), "columns for 2"),
        (Normalizer(), "loses a dimension"),
    ],
    ids=identifier,
)
def test_a_change_of_the_dimension_has_no_determinant(step, change):
    X = rows(60, 2)
    model = make_generative_pipeline(step, GaussianKDE(1.0)).fit(X)
    with pytest.raises(ValueError, match=f"{change}.*reduce them with PCA") as raised:
        model.score_samples(X)
    assert "register_log_det" not in str(raised.value)


def test_a_registered_step_is_scored():
    X = rows(60, 2)
    register_log_det(
        Tripler, lambda step, X: np.full(len(X), 2 * np.log(3.0)), bounds=(-6, 6)
    )
    model = make_generative_pipeline(Tripler(), GaussianKDE()).fit(X)
    inner = X[np.abs(X).max(axis=1) < 2]
    density = GaussianKDE().fit(np.clip(3 * X, -6, 6))
    mass = mass_inside(density, (np.full(2, -6.0), np.full(2, 6.0)))
    expected = density.score_samples(3 * inner) + 2 * np.log(3) - np.log(mass)
    np.testing.assert_allclose(model.score_samples(inner), expected, atol=1e-9)
    assert np.abs(model.sample(500, random_state=0)).max() < 2


def test_a_registered_function_is_scored():
    X = positive(60, 2)
    step = FunctionTransformer(cube_root, lambda Y: Y**3)
    model = make_generative_pipeline(step, GaussianKDE()).fit(X)
    with pytest.raises(ValueError, match="register_log_det"):
        model.score_samples(X)
    register_log_det(
        cube_root, lambda X: -np.log(3 * np.cbrt(X) ** 2).sum(axis=1), bounds=(0, 9)
    )
    model.fit(X)
    expected = [numerical_log_det(np.cbrt, x) for x in X]
    Y = np.cbrt(X)
    expected += GaussianKDE().fit(Y).score_samples(Y) - np.log(model._mass)
    np.testing.assert_allclose(model.score_samples(X), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, abs), "'transformer' argument of register_log_det must be a class"),
        ((abs, 3), "'log_det' argument of register_log_det must be callable. Got 3"),
        (
            (abs, abs, (2, 1)),
            r"'bounds' argument .* two numbers in increasing order.*\(2, 1\)",
        ),
        ((Doubler, abs, "wide"), "'bounds' argument .* Got 'wide' instead"),
    ],
)
def test_bad_registrations_are_named(arguments, message):
    *positional, bounds = arguments if len(arguments) == 3 else (*arguments, None)
    with pytest.raises(ValueError, match=message):
        register_log_det(*positional, bounds=bounds)


def test_a_function_without_its_inverse_cannot_be_run_back():
    model = make_generative_pipeline(FunctionTransformer(np.log), GaussianKDE())
    model.fit(positive(60, 2))
    assert np.isfinite(model.score(positive(60, 2)))
    with pytest.raises(ValueError, match="'inverse_func' parameter"):
        model.sample(3)


def test_a_function_with_arguments_may_be_another_function():
    step = FunctionTransformer(np.log, np.exp, kw_args={"where": True})
    model = make_generative_pipeline(step, GaussianKDE()).fit(positive(60, 2))
    with pytest.raises(ValueError, match="is not known"):
        model.score(positive(60, 2))


def test_a_step_without_an_inverse_cannot_be_run_back():
    model = make_generative_pipeline(Normalizer(), GaussianKDE()).fit(rows(60, 2))
    with pytest.raises(ValueError, match=r"Normalizer\(\), which has no 'inverse_tr"):
        model.sample(3)


# -- searches ------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "density",
    [
        GaussianKDE(),
        EMGaussianMixture(2, random_state=0),
        thorough(SGDGaussianMixture(2, random_state=0)),
        thorough(AutoEncoder(1, **SMALL)),
        VAE(1, **QUICK),
        thorough(SWAE(1, **SMALL)),
    ],
    ids=name,
)
def test_searches_over_components(density):
    X = rows(90, 4)
    model = GenerativePipeline([("pca", PCA()), ("density", density)])
    search = GridSearchCV(model, {"pca__n_components": [2, 3]}, cv=2)
    search.fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.score(X) == pytest.approx(search.best_estimator_.score(X))


def test_searches_over_the_density_itself_pick_the_best():
    rng = np.random.RandomState(0)
    A = rng.standard_normal((2, 6)) * 5
    Z = rng.standard_normal((400, 2)) + 6 * rng.randint(0, 2, (400, 1))
    X = Z @ A + 0.1 * rng.standard_normal((400, 6))
    model = GenerativePipeline([("pca", PCA(2)), ("density", GaussianKDE())])
    choices = [GaussianKDE(), EMGaussianMixture(), EMGaussianMixture(2, random_state=0)]
    grid = {"pca__n_components": [1, 2, 5], "density": choices}
    search = GridSearchCV(model, grid).fit(X)
    assert search.best_params_["pca__n_components"] == 2
    assert search.best_params_["density"] is choices[2]


# -- manners of a pipeline -----------------------------------------------------------


def test_fitting_leaves_the_steps_as_they_are():
    steps = [("scale", StandardScaler()), ("kde", GaussianKDE())]
    model = GenerativePipeline(steps).fit(rows(60, 2))
    assert not hasattr(steps[0][1], "scale_")
    assert model.steps is steps
    assert model.named_steps["scale"] is model.steps_[0][1] is model[0]
    assert model.named_steps.kde is model["kde"] is model[-1]
    assert len(model) == 2
    unfitted = clone(model)
    assert unfitted.named_steps["scale"] is unfitted.steps[0][1]


@pytest.mark.parametrize(
    "step",
    [
        StandardScaler(copy=False),
        PCA(copy=False),
        PowerTransformer(copy=False),
        make_pipeline(StandardScaler(copy=False), MinMaxScaler(copy=False)),
        make_pipeline("passthrough", make_pipeline(PowerTransformer(copy=False))),
    ],
)
@pytest.mark.parametrize("container", [np.array, pd.DataFrame, pl.DataFrame])
def test_steps_that_work_in_place_leave_the_rows_as_they_are(step, container):
    X = container(rows(60, 2))
    if container is pd.DataFrame:
        X.columns = ["width", "height"]
    before = np.array(X)
    model = make_generative_pipeline(step, StandardScaler(copy=False), GaussianKDE())
    scores = model.fit(X).score_samples(X)
    model.transform(X)
    np.testing.assert_array_equal(np.array(X), before)
    own = [name for name in step.get_params() if name.split("__")[-1] == "copy"]
    copying = clone(step).set_params(**dict.fromkeys(own, True))
    density = make_generative_pipeline(copying, GaussianKDE()).fit(X)
    np.testing.assert_allclose(scores, density.score_samples(X), atol=1e-9)


def test_slices_are_pipelines():
    X = rows(60, 3)
    model = make_generative_pipeline(StandardScaler(), PCA(2), GaussianKDE()).fit(X)
    front, back = model[:2], model[1:]
    assert type(front) is Pipeline
    assert type(back) is GenerativePipeline
    Z = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(model[:1].transform(X), Z)
    log_det = -np.log(model[0].scale_).sum()
    np.testing.assert_allclose(
        back.score_samples(Z) + log_det, model.score_samples(X), atol=1e-12
    )
    assert back.sample(3).shape == (3, 3)
    assert type(clone(model)[1:]) is GenerativePipeline
    with pytest.raises(ValueError, match="step of 1"):
        model[::2]


def test_pipelines_within_pipelines_are_taken_apart():
    X = rows(60, 3)
    flat = make_generative_pipeline(StandardScaler(), PCA(2), GaussianKDE()).fit(X)
    for nested in (
        make_generative_pipeline(
            make_pipeline(StandardScaler(), PCA(2)), GaussianKDE()
        ),
        # scikit-learn's own would score in the units of its last step.
        make_generative_pipeline(
            StandardScaler(), make_pipeline(PCA(2), GaussianKDE())
        ),
        make_generative_pipeline(
            StandardScaler(), make_generative_pipeline(PCA(2), GaussianKDE())
        ),
    ):
        nested.fit(X)
        np.testing.assert_allclose(nested.score_samples(X), flat.score_samples(X))
        assert nested.sample(3, random_state=0).shape == (3, 3)


@pytest.mark.parametrize(
    "density", [KernelDensity(bandwidth=0.5), GaussianMixture(2, random_state=0)]
)
def test_densities_of_scikit_learn_serve(density):
    X = rows(100, 3)
    model = make_generative_pipeline(PCA(2, whiten=True), density).fit(X)
    first = model.sample(2000, random_state=0)
    np.testing.assert_array_equal(first, model.sample(2000, random_state=0))
    assert not np.isin(model.sample(2000, random_state=1), first).any()
    assert abs(np.corrcoef(first[1:, 0], first[:-1, 0])[0, 1]) < 0.1
    np.testing.assert_allclose(first.mean(axis=0), X.mean(axis=0), atol=0.3)
    assert model.score(X) == pytest.approx(model.score(first), abs=0.6)
    with pytest.raises(AttributeError, match="has no 'transform'"):
        model.transform(X)
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    model.sample(5)
    np.testing.assert_array_equal(before, np.random.get_state()[1])


def test_what_the_last_step_predicts_is_predicted():
    X = rows(60, 3)
    model = make_generative_pipeline(
        StandardScaler(), EMGaussianMixture(2, random_state=0)
    ).fit(X)
    np.testing.assert_array_equal(
        model.predict(X), model[-1].predict(model[0].transform(X))
    )
    np.testing.assert_allclose(model.predict_proba(X), model.transform(X))
    assert model.predict_proba(X.astype(np.float32)).dtype == np.float32
    assert not hasattr(make_generative_pipeline(GaussianKDE()), "predict")


def test_transformers_are_cached(tmp_path):
    X = rows(60, 3)
    model = make_generative_pipeline(PCA(2), GaussianKDE(), memory=str(tmp_path))
    first = model.fit(X).score_samples(X)
    assert list(tmp_path.rglob("*.pkl"))
    np.testing.assert_array_equal(clone(model).fit(X).score_samples(X), first)


@pytest.mark.parametrize("library", [pd, pl])
@over(PIPELINES)
def test_steps_know_the_names_of_columns(model, library):
    X = rows(60, 2)
    frame = library.DataFrame(dict(zip(["width", "height"], X.T, strict=True)))
    model = clone(model).fit(frame)
    assert model[0].feature_names_in_.tolist() == ["width", "height"]
    np.testing.assert_allclose(
        model.score_samples(frame),
        clone(model).fit(X).score_samples(X),
        rtol=1e-4 if model[-1].__class__ is VAE else 1e-12,  # trained in float32
    )
    np.testing.assert_array_equal(model[:1].transform(frame), model[0].transform(frame))
    assert model.sample(3).shape == (3, 2)


@pytest.mark.parametrize("container", ["pandas", "polars"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_output_can_be_set_before_and_after_fitting(container, when):
    X = rows(60, 2)
    model = make_generative_pipeline(StandardScaler(), PCA(1), GaussianKDE())
    expected = clone(model).fit(X).score_samples(X)
    if when == "before":
        model.set_output(transform=container).fit(X)
    else:
        model.fit(X).set_output(transform=container)
    library = {"pandas": pd, "polars": pl}[container]
    assert isinstance(model.transform(X), library.DataFrame)
    if when == "before":
        assert isinstance(model[:2].transform(X), library.DataFrame)
    np.testing.assert_allclose(model.score_samples(X), expected, atol=1e-12)
    assert list(model.transform(X).columns) == ["pca0"]


def test_parameters_of_steps_are_passed_on():
    X, weights = rows(60, 2), np.arange(60.0)
    model = make_generative_pipeline(StandardScaler(), GaussianKDE())
    model.fit(
        X,
        standardscaler__sample_weight=weights,
        gaussiankde__sample_weight=weights,
    )
    scaler = StandardScaler().fit(X, sample_weight=weights)
    kde = GaussianKDE().fit(scaler.transform(X), sample_weight=weights)
    expected = kde.score_samples(scaler.transform(X)) - np.log(scaler.scale_).sum()
    np.testing.assert_allclose(model.score_samples(X), expected, atol=1e-12)
    with pytest.raises(ValueError, match=r"'step__parameter' .* Got 'weights' instead"):
        model.fit(X, weights=weights)


WEIGHED = [
    (StandardScaler(), GaussianKDE()),
    (StandardScaler(), EMGaussianMixture(2, random_state=0)),
    (MinMaxScaler(), StandardScaler(), EMGaussianMixture()),
    ("passthrough", MaxAbsScaler(), GaussianKDE("silverman")),
    (FunctionTransformer(np.arcsinh), GaussianKDE()),
    (make_pipeline(MinMaxScaler(), StandardScaler()), GaussianKDE()),
    (StandardScaler(), make_generative_pipeline(StandardScaler(), GaussianKDE())),
    (StandardScaler(), make_pipeline(StandardScaler(), EMGaussianMixture())),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("steps", WEIGHED, ids=range(len(WEIGHED)))
@pytest.mark.parametrize("constant", [False, True])
def test_weights_count_rows_in_every_step(steps, constant):
    X = rows(60, 3) * [1.0, 5.0, not constant]
    weights = np.random.RandomState(1).randint(0, 4, 60)
    model = make_generative_pipeline(*steps)
    expected = model.fit(np.repeat(X, weights, axis=0)).score_samples(X)
    scores = model.fit(X, sample_weight=weights).score_samples(X)
    np.testing.assert_allclose(scores, expected, rtol=1e-8, atol=1e-8)
    scores = model.fit(X, np.arange(60), sample_weight=weights).score_samples(X)
    np.testing.assert_allclose(scores, expected, rtol=1e-8, atol=1e-8)
    # Of importance weights only the ratios count.
    first, second = (
        model.fit(X, sample_weight=scale * (weights + 0.5)).score(X)
        for scale in (1.0, 1e-9)
    )
    assert first == pytest.approx(second, rel=1e-6)


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ((PCA(2), GaussianKDE()), r"PCA\(n_components=2\)"),
        ((StandardScaler(), RobustScaler(), GaussianKDE()), r"RobustScaler\(\)"),
        ((make_pipeline(StandardScaler(), PCA()), GaussianKDE()), r"PCA\(\)"),
        ((StandardScaler(), SGDGaussianMixture()), r"SGDGaussianMixture\(\)"),
        ((make_generative_pipeline(PCA(1), GaussianKDE()),), r"PCA\(n_components=1\)"),
    ],
)
def test_a_step_that_takes_no_weights_is_named(steps, named):
    model = make_generative_pipeline(*steps)
    message = f"'sample_weight' argument of .*the step {named} takes no weights"
    with pytest.raises(ValueError, match=message):
        model.fit(rows(60, 2), sample_weight=np.ones(60))


def test_metadata_are_routed():
    X, weights = rows(60, 2), np.arange(60.0)
    plain = make_generative_pipeline(StandardScaler(), GaussianKDE())
    plain.fit(
        X, standardscaler__sample_weight=weights, gaussiankde__sample_weight=weights
    )
    with config_context(enable_metadata_routing=True):
        model = make_generative_pipeline(
            StandardScaler().set_fit_request(sample_weight=True),
            GaussianKDE()
            .set_fit_request(sample_weight=True)
            .set_score_request(sample_weight=False),
        )
        model.fit(X, sample_weight=weights)
        np.testing.assert_array_equal(model.score_samples(X), plain.score_samples(X))
        search = GridSearchCV(model, {"gaussiankde__bandwidth": [0.5, 1.0]}, cv=2)
        search.fit(X, sample_weight=weights)
        assert np.isfinite(search.best_score_)


def test_progress_is_shown_through_the_steps(capsys):
    model = make_generative_pipeline(StandardScaler(), EMGaussianMixture(2))
    model.set_callbacks(ProgressBar()).fit(rows(60, 2))
    assert "EMGaussianMixture" in capsys.readouterr().out


@over(PIPELINES)
def test_the_html_view_shows_the_steps(model):
    for shown in (clone(model), clone(model).fit(rows(60, 2))):
        html = shown._repr_html_()
        assert type(model.steps[-1][1]).__name__ in html
        assert "GenerativePipeline" in html


def test_parameters_are_nested():
    model = make_generative_pipeline(PCA(2), GaussianKDE())
    model.set_params(pca__n_components=1, gaussiankde__bandwidth=0.3)
    assert model.get_params()["pca__n_components"] == 1
    model.set_params(gaussiankde=EMGaussianMixture(3), pca="passthrough")
    assert model.fit(rows(60, 2)).transform(rows(3, 2)).shape == (3, 3)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        again.score_samples(rows(3, 2)), model.score_samples(rows(3, 2))
    )


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "'steps' parameter of GenerativePipeline must be a list"),
        ("kde", "'steps' parameter .* Got 'kde' instead"),
        ([GaussianKDE()], "'steps' parameter .* pairs"),
        ([("pca", PCA())], r"must be a density, with .* Got PCA\(\) instead"),
        ([("kde", GaussianKDE)], "must be a density"),
        (
            [("a", 3), ("kde", GaussianKDE())],
            "step 'a' of .* must be a transformer.* Got 3",
        ),
        ([("a", PCA()), ("a", GaussianKDE())], "not unique"),
    ],
)
def test_bad_steps_are_named(steps, message):
    with pytest.raises((ValueError, TypeError), match=message):
        GenerativePipeline(steps).fit(rows(9, 2))


def test_a_pipeline_of_nothing_is_refused():
    with pytest.raises(ValueError, match="Got no steps"):
        make_generative_pipeline()


def test_ties_are_told_of_once():
    X = np.round(rows(200, 2))
    model = make_generative_pipeline(StandardScaler(), GaussianKDE())
    with pytest.warns(UndefinedMetricWarning) as caught:
        model.fit(X)
    assert len(caught) == 1
    model.fit(dequantize(X, random_state=0))


@over(PIPELINES[:3])
def test_draws_follow_the_density_of_a_pipeline(model):
    model = clone(model).fit(rows(150, 1))
    draws = np.sort(model.sample(20_000, random_state=0)[:, 0])
    x = np.linspace(draws[0] - 3, draws[-1] + 3, 4001)
    cdf = np.cumsum(np.exp(model.score_samples(x[:, None]))) * (x[1] - x[0])
    error = np.interp(draws, x, cdf) - (np.arange(draws.size) + 0.5) / draws.size
    assert kstwobign.sf(np.abs(error).max() * np.sqrt(draws.size)) > 1e-3


# -- what planted faults showed to be untested ---------------------------------------


class OwnScaler(StandardScaler):
    pass


def test_a_subclass_of_a_known_transformer_is_scored():
    X = rows(60, 2)
    expected = make_generative_pipeline(StandardScaler(), GaussianKDE()).fit(X)
    model = make_generative_pipeline(OwnScaler(), GaussianKDE()).fit(X)
    np.testing.assert_array_equal(model.score_samples(X), expected.score_samples(X))


def square_root(X):
    return np.sqrt(X)


def test_bounds_of_a_registered_function_cut_and_renormalise():
    register_log_det(
        square_root, lambda X: -np.log(4 * X).sum(axis=1) / 2, bounds=(0, np.inf)
    )
    X = np.random.RandomState(0).uniform(size=(100, 1)) ** 2
    step = FunctionTransformer(square_root, np.square)
    model = make_generative_pipeline(step, GaussianKDE()).fit(X)
    Y = np.sqrt(X)
    density = GaussianKDE().fit(Y)
    mass = mass_inside(density, (0.0, np.inf))
    assert mass < 0.95
    expected = density.score_samples(Y) - np.log(2 * Y[:, 0]) - np.log(mass)
    np.testing.assert_allclose(model.score_samples(X), expected, atol=1e-9)


def test_rows_below_the_least_quantile_have_no_density():
    X = rows(100, 2)
    step = QuantileTransformer(n_quantiles=20, output_distribution="normal")
    model = make_generative_pipeline(step, GaussianKDE()).fit(X)
    below = np.array([X[:, 0].min() - 1, X[:, 1].mean()])
    assert model.score_samples([below]) == -np.inf


@pytest.mark.parametrize("output", ["uniform", "normal"])
def test_the_range_of_quantiles_is_what_they_reach(output):
    step = QuantileTransformer(n_quantiles=20, output_distribution=output)
    step.fit(rows(100, 2))
    lower, upper = change_of(step).bounds(step)
    reached = step.transform([[-1e9, -1e9], [1e9, 1e9]])
    np.testing.assert_allclose([lower, upper], reached, rtol=1e-8)


class Counted(KernelDensity):
    """A density that counts its draws."""

    n_drawn = 0

    def sample(self, n_samples=1, random_state=None):
        type(self).n_drawn += n_samples
        return super().sample(n_samples, random_state)


def test_the_mass_of_other_densities_is_known_to_a_thousandth_of_a_nat():
    step = FunctionTransformer(np.exp, np.log)
    model = make_generative_pipeline(step, Counted(bandwidth=0.3)).fit(rows(60, 1))
    mass, n = model._mass, Counted.n_drawn
    assert 0.5 < mass < 1
    assert n == 2**16 or (1 - mass) / (mass * n) < 1e-6


def test_two_bounded_ranges_have_the_mass_of_both():
    X = rows(100, 1)
    model = make_generative_pipeline(
        MinMaxScaler(clip=True), FunctionTransformer(np.exp, np.log), GaussianKDE()
    ).fit(X)
    edges = np.linspace(X.min(), X.max(), 2001)
    middles = (edges[1:] + edges[:-1])[:, None] / 2
    mass = np.exp(model.score_samples(middles)).sum() * (edges[1] - edges[0])
    assert mass == pytest.approx(1, abs=0.004)


def test_fitting_leaves_the_density_as_it_is():
    density = GaussianKDE()
    model = make_generative_pipeline(StandardScaler(), density).fit(rows(60, 2))
    assert not hasattr(density, "X_train_")
    assert model[-1] is not density


def test_output_that_is_set_after_fitting_is_that_of_the_steps():
    X = rows(60, 2)
    model = make_generative_pipeline(StandardScaler(), PCA(1), GaussianKDE()).fit(X)
    model.set_output(transform="pandas")
    assert isinstance(model[:1].transform(X), pd.DataFrame)
    assert isinstance(model[0].transform(X), pd.DataFrame)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_the_mass_in_a_box_is_the_share_of_a_mixtures_own_draws(kind):
    density = EMGaussianMixture(2, covariance_type=kind, random_state=0)
    density.fit(3 * rows(200, 2))
    bounds = np.array([-np.inf, 0.5]), np.array([6.0, 12.0])
    draws = density.sample(50_000, random_state=0)
    share = ((draws > bounds[0]) & (draws < bounds[1])).all(axis=1).mean()
    assert mass_inside(density, bounds) == pytest.approx(share, abs=0.01)


class Seeing(Doubler):
    """Notes the libraries of the rows that it is given."""

    seen = []  # noqa: RUF012

    def fit(self, X, y=None):
        self.feature_names_in_ = np.array(X.columns, dtype=object)
        return super().fit(X)

    def transform(self, X):
        self.seen.append(type(X).__module__.partition(".")[0])
        return super().transform(X)


@pytest.mark.parametrize("library", [pd, pl])
def test_steps_see_the_library_of_the_rows(library):
    frame = library.DataFrame(dict(zip("ab", rows(60, 2).T, strict=True)))
    Seeing.seen.clear()
    register_log_det(Seeing, lambda step, X: np.full(len(X), 2 * np.log(2.0)))
    model = make_generative_pipeline(Seeing(), GaussianKDE()).fit(frame)
    model.score_samples(frame)
    assert set(Seeing.seen) == {library.__name__}
