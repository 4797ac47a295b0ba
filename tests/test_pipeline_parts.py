"""Missing values in pipelines: exact where steps act on features or are linear.

The rules of probability of test_parts.py are for linear pipelines too. Here are steps
that bend features, and steps that prevent exact answers.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from estimators import QUICK, over, rows, thorough
from scipy.stats import kstest, multivariate_normal
from sklearn import config_context
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils import get_tags

from skgen import (
    VAE,
    DensityOutlierDetector,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeImputer,
    make_generative_pipeline,
)
from skgen.compose._changes import change_of
from skgen.compose._pipeline_parts import mixture_before, on_features

NAN = np.nan
ARCSINH = FunctionTransformer(np.arcsinh, np.sinh)
LOG = FunctionTransformer(np.log, np.exp)


def mixture(n_components=2):
    return EMGaussianMixture(n_components, random_state=0)


BENT = [
    make_generative_pipeline(LOG, PowerTransformer(), mixture()),
    make_generative_pipeline(RobustScaler(), ARCSINH, mixture()),
    make_generative_pipeline(ARCSINH, StandardScaler(), PCA(2), mixture()),
    make_generative_pipeline(LOG, MinMaxScaler(), MaxAbsScaler(), mixture(1)),
    make_generative_pipeline(ARCSINH, GaussianMixture(2, random_state=0)),
    make_generative_pipeline(LOG, make_generative_pipeline(ARCSINH, mixture())),
]
_FITTED = {}


def fitted(model):
    """Return the model fitted to three positive features, not to be changed."""
    if id(model) not in _FITTED:
        _FITTED[id(model)] = model.fit(positive(200))
    return _FITTED[id(model)]


def positive(n_samples, seed=0):
    return np.exp(rows(n_samples, 3, seed=seed) / 3)


@over(BENT)
def test_marginals_and_conditionals_of_bent_features(model):
    model, X = fitted(model), positive(10, seed=1)
    joint, given = model.score_samples(X), model.score_samples(X * [NAN, 1, NAN])
    marginal = model.marginal([2, 1])
    np.testing.assert_allclose(
        marginal.score_samples(X[:, [2, 1]]), model.score_samples(X * [NAN, 1, 1])
    )
    np.testing.assert_allclose(
        marginal.marginal(1).score_samples(X[:, [1]]), given, atol=1e-9
    )
    for x, whole, part in zip(X, joint, given, strict=True):
        conditional = model.condition({1: x[1]})
        found = conditional.score_samples(x[None, [0, 2]])[0]
        np.testing.assert_allclose(found, whole - part, atol=1e-9)
    empty = np.full((1, 3), NAN)
    assert model.score_samples(empty) == 0
    assert conditional.sample(3, random_state=0).shape == (3, 2)


@over(BENT)
def test_marginals_of_bent_features_are_integrals(model):
    model, X = fitted(model), positive(3, seed=2)
    t = np.exp(np.linspace(-12, 12, 20_001))  # trapezoids in the logarithm
    for x in X:
        table = np.tile(x, (t.size, 1))
        table[:, 1] = t
        density = np.exp(model.score_samples(table))
        table[:, 1] = -t  # of density zero behind a logarithm
        density = density + np.exp(model.score_samples(table))
        mass = np.trapezoid(density * t, np.log(t))
        found = model.score_samples((x * [1, NAN, 1])[None])[0]
        np.testing.assert_allclose(found, np.log(mass), atol=1e-5)


@over(BENT)
def test_draws_and_quantiles_of_bent_features(model):
    model, x = fitted(model), positive(1, seed=3)
    hidden = x * [1, NAN, 1]
    draws = model.sample_conditional(hidden, 4000, random_state=0)
    np.testing.assert_array_equal(draws[:, 0, [0, 2]], np.tile(x[0, [0, 2]], (4000, 1)))
    alone = model.condition(hidden)
    assert kstest(draws[:, 0, 1], lambda t: alone.cdf(t[:, None])).pvalue > 1e-3
    q = np.array([0.001, 0.3, 0.5, 0.999])
    np.testing.assert_allclose(alone.cdf(alone.quantile(q)[:, None]), q, rtol=1e-8)
    assert (np.diff(alone.quantile([0.0, 0.1, 0.9, 1.0])) > 0).all()


def test_values_outside_of_the_domain_of_a_step():
    one = fitted(BENT[3]).marginal(0)
    np.testing.assert_array_equal(
        one.cdf([[-1.0], [0.0], [NAN], [1e120]]), [0, 0, NAN, 1]
    )
    assert one.quantile(0.0) == 0
    assert one.quantile(1.0) == np.inf
    hidden = np.array([[-1.0, NAN, 1.0], [NAN, 1.0, 2.0]])
    scores = fitted(BENT[3]).score_samples(hidden)
    assert scores[0] == -np.inf
    assert np.isfinite(scores[1])


def test_linear_steps_before_normals_are_normals():
    X = rows(400, 4)
    model = make_generative_pipeline(
        RobustScaler(), PCA(2, whiten=True, svd_solver="full"), mixture(1)
    ).fit(X)
    draws = model.sample(200_000, random_state=0)
    steps = [step for _, step in model.steps_]
    normal = mixture_before(steps[:-1], steps[-1]._normal_components())
    mean, covariance = normal.means_[0], normal.covariances_[0]
    error = 5 * np.sqrt(np.diag(covariance) / 200_000)
    assert (np.abs(draws.mean(axis=0) - mean) < error).all()
    np.testing.assert_allclose(
        np.cov(draws.T), covariance, atol=0.02 * np.diag(covariance).max()
    )
    np.testing.assert_allclose(
        model.score_samples(X),
        multivariate_normal(mean, covariance).logpdf(X),
        atol=1e-8,
    )
    part = model.marginal([3, 0])
    assert type(part) is EMGaussianMixture
    # Imputed values are regressions.
    slope = covariance[3, :3] @ np.linalg.inv(covariance[:3, :3])
    expected = mean[3] + (X[:, :3] - mean[:3]) @ slope
    np.testing.assert_allclose(
        model.impute(X * [1, 1, 1, NAN])[:, 3], expected, atol=1e-8
    )


@pytest.mark.parametrize(
    "step",
    [
        StandardScaler(),
        StandardScaler(with_std=False),
        RobustScaler(with_centering=False),
        MinMaxScaler((-1, 3)),
        MaxAbsScaler(),
        FunctionTransformer(),
        PCA(3, whiten=True, svd_solver="full"),
        PCA(2, svd_solver="full"),
    ],
    ids=str,
)
def test_the_matrix_of_a_linear_step(step):
    X = rows(60, 3) * [1, 50, 0.1]
    step.fit(X)
    change, Y = change_of(step), rows(5, min(3, getattr(step, "n_components", 3)))
    shifted = change.invert(step, Y) - change.invert(step, 0 * Y)
    np.testing.assert_allclose(shifted, Y @ change.linear(step), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "step",
    [
        StandardScaler(),
        RobustScaler(),
        MinMaxScaler(clip=True),
        MaxAbsScaler(),
        PowerTransformer(),
        PowerTransformer("box-cox", standardize=False),
        QuantileTransformer(n_quantiles=20, output_distribution="normal"),
        LOG,
    ],
    ids=str,
)
def test_a_step_of_some_features(step):
    X, features = positive(60), np.array([2, 0])
    step.fit(X)
    some = on_features(step, features)
    change, Y = change_of(step), step.transform(X)
    part, Z = X[:, features], some.transform(X[:, features])
    np.testing.assert_allclose(Z, Y[:, features], rtol=1e-12)
    np.testing.assert_allclose(some.inverse_transform(Z), part, rtol=1e-6)
    slopes = change.log_slopes(step, X, Y)
    np.testing.assert_allclose(
        change.log_slopes(some, part, Z), slopes[:, features], rtol=1e-12
    )
    np.testing.assert_allclose(change.log_det(step, X, Y), slopes.sum(axis=1))


# -- fits ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        [StandardScaler()],
        [RobustScaler(), "passthrough"],
        [FunctionTransformer(np.arcsinh, np.sinh)],
        [],
    ],
    ids=str,
)
def test_pipelines_are_fitted_to_incomplete_rows(steps):
    X = rows(300, 3)
    hidden = np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.2, NAN, X)
    model = make_generative_pipeline(*steps, mixture())
    assert get_tags(model).input_tags.allow_nan
    model.fit(hidden)
    complete = make_generative_pipeline(*steps, mixture()).fit(X)
    # Both estimate one density: 0.1 nats is the error of 28 parameters and 300 rows.
    assert abs(model.score(X) - complete.score(X)) < 0.1
    assert model.transform(hidden).shape == (300, 2)
    np.testing.assert_array_equal(
        model.predict(hidden), model.predict_proba(hidden).argmax(axis=1)
    )
    if len(steps) == 1 and isinstance(steps[0], StandardScaler):
        scaler = StandardScaler().fit(hidden)
        np.testing.assert_array_equal(model.steps_[0][1].mean_, scaler.mean_)
        alone = mixture().fit(scaler.transform(hidden))
        np.testing.assert_array_equal(model.steps_[1][1].means_, alone.means_)


@pytest.mark.parametrize(
    "step", [PowerTransformer(), QuantileTransformer(), MinMaxScaler(clip=True)]
)
def test_steps_that_can_truncate_are_not_fitted_to_incomplete_rows(step):
    model = make_generative_pipeline(step, mixture())
    assert not get_tags(model).input_tags.allow_nan
    X = rows(100, 3)
    X[3, 1] = NAN
    with pytest.raises(ValueError, match=f"because of its step {type(step).__name__}"):
        model.fit(X)


@pytest.mark.filterwarnings("ignore:Constant features")
def test_a_constant_column_with_missing_values():
    X = rows(200, 3)
    X[:, 1] = 7.0
    hidden = X.copy()
    hidden[::5, 1] = hidden[1::7, 0] = NAN
    model = make_generative_pipeline(StandardScaler(), mixture()).fit(hidden)
    np.testing.assert_allclose(model.impute(hidden)[:, 1], 7.0, atol=1e-2)
    plain = mixture().fit(hidden)
    np.testing.assert_allclose(
        model.score_samples(X[:9]), plain.score_samples(X[:9]), atol=0.5
    )


def test_pipelines_in_detectors_and_imputers():
    X = rows(200, 3)
    hidden = np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.2, NAN, X)
    density = make_generative_pipeline(StandardScaler(), mixture())
    imputer = GenerativeImputer(density)
    filled = imputer.fit_transform(hidden)
    np.testing.assert_array_equal(filled, density.fit(hidden).impute(hidden))
    detector = DensityOutlierDetector(density).fit(hidden)
    assert 0.05 < (detector.predict(hidden) == -1).mean() < 0.15
    assert np.isfinite(detector.explain(X[:3])).all()


def test_names_and_copies():
    frame = pd.DataFrame(positive(100), columns=["age", "income", "debt"])
    model = make_generative_pipeline(LOG, StandardScaler(), mixture()).fit(frame)
    part = model.marginal(["debt", "age"])
    assert part.feature_names_in_.tolist() == ["debt", "age"]
    given = model.condition({"age": 1.5})
    assert given.feature_names_in_.tolist() == ["income", "debt"]
    hidden = frame.iloc[:5].copy()
    hidden.iloc[:, 1] = NAN
    copy = pickle.loads(pickle.dumps(model))
    for one, table in ((copy, hidden), (pickle.loads(pickle.dumps(given)), frame)):
        other = model if one is copy else given
        table = table if one is copy else table[["income", "debt"]]
        np.testing.assert_array_equal(
            one.score_samples(table), other.score_samples(table)
        )
    # A new fit forgets the parts of the last one.
    doubled = model.fit(2 * frame).score_samples(2 * hidden)
    np.testing.assert_allclose(doubled, copy.score_samples(hidden) - 2 * np.log(2))
    linear = make_generative_pipeline(StandardScaler(), PCA(2), mixture()).fit(frame)
    assert linear.marginal("debt").feature_names_in_.tolist() == ["debt"]


# -- errors name the step --------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "step"),
    [
        (
            (QuantileTransformer(n_quantiles=20), mixture()),
            "QuantileTransformer.* range",
        ),
        ((MinMaxScaler(clip=True), mixture()), r"MinMaxScaler\(clip=True\) .*range"),
        ((PCA(2), ARCSINH, mixture()), r"PCA\(n_components=2\) mixes features"),
        ((PCA(2), KernelDensity(kernel="linear")), r"KernelDensity\(kernel"),
        thorough((PCA(2), VAE(1, **QUICK)), r"PCA\(n_components=2\) mixes features"),
    ],
)
def test_steps_without_exact_answers_are_named(steps, step):
    X = rows(60, 3)
    model = make_generative_pipeline(*steps).fit(X)
    hidden = X[:5] * [1, NAN, 1]
    for answer in (model.score_samples, model.impute, model.sample_conditional):
        with pytest.raises(ValueError, match=f"contains NaN.* because {step}"):
            answer(hidden)
    with pytest.raises(ValueError, match=f"a marginal or conditional.* because {step}"):
        model.marginal([0])
    with pytest.raises(ValueError, match=f"a marginal or conditional.* because {step}"):
        model.condition({0: 1.0})
    np.testing.assert_array_equal(model.impute(X[:5]), X[:5])
    with config_context(assume_finite=True):
        scores = model.score_samples(np.vstack([X[:2], hidden]))
    np.testing.assert_array_equal(np.isnan(scores), [False] * 2 + [True] * 5)


@pytest.mark.parametrize(
    ("steps", "step"),
    [
        ((StandardScaler(), PCA(2), mixture()), r"PCA\(n_components=2\)"),
        ((StandardScaler(), KernelDensity()), r"KernelDensity\(\)"),
        ((Normalizer(), mixture()), r"Normalizer\(\)"),
        ((FunctionTransformer(validate=True), mixture()), "FunctionTransformer"),
    ],
)
def test_steps_that_are_not_fitted_to_missing_values_are_named(steps, step):
    model = make_generative_pipeline(*steps)
    assert not get_tags(model).input_tags.allow_nan
    X = rows(60, 3)
    X[3, 1] = NAN
    with pytest.raises(ValueError, match=f"NaN in column 1.* its step {step}"):
        model.fit(X)
    frame = pd.DataFrame(X, columns=list("abc"))
    with pytest.raises(ValueError, match=f"NaN in column 'b'.* its step {step}"):
        model.fit(frame)


def test_latents_and_means_that_are_not_known():
    X = rows(60, 3)
    model = make_generative_pipeline(PCA(2), mixture()).fit(X)
    for answer in (model.transform, model.predict, model.predict_proba):
        with pytest.raises(ValueError, match=r"contains NaN.* behind PCA"):
            answer(X * [1, NAN, 1])
    with config_context(assume_finite=True):
        assert np.isnan(model.transform(X * [1, NAN, 1])).all()
    bent = make_generative_pipeline(ARCSINH, mixture()).fit(X)
    with pytest.raises(ValueError, match=r"nonlinear step FunctionTransformer.* draws"):
        bent.impute(X * [1, NAN, 1])
    with pytest.raises(ValueError, match=r"only NaN in \[1\]"):
        bent.fit(X * [1, NAN, 1])
    frozen = make_generative_pipeline(
        StandardScaler(), FrozenEstimator(mixture().fit(X))
    )
    assert np.isfinite(frozen.fit(X).score_samples(X * [1, NAN, 1])).all()
    assert np.isfinite(
        make_generative_pipeline(StandardScaler(), GaussianKDE())
        .fit(X)
        .score_samples(X * [1, NAN, 1])
    ).all()
