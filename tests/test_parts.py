"""NaN means "not observed": marginals, conditionals and imputation, for every model.

Models obey the rules of probability to rounding, here to 1e-9 nats: a conditional of a
model that estimates is a difference of two estimates. Rules are tested for all models
of the tables, mixtures also against integrals on a grid.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
import skops.io
from estimators import (
    AUTOENCODERS,
    DIFFERENT,
    ESTIMATED,
    GRADIENT_MIXTURES,
    MIXTURES,
    PIPELINES,
    SLOW,
    over,
    rows,
)
from scipy.stats import kstest, multivariate_normal, norm
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.utils import get_tags

import skgen
from skgen import EMGaussianMixture, SGDGaussianMixture
from skgen._parts import PartialRows, mixture_cdf, mixture_quantile, patterns
from skgen._warnings import quiet

# Models that answer rows with NaN, and those of them without an error of sampling. A
# VAE stands for the others in the default selection. Pipelines with nonlinear steps do
# not impute means: test_pipeline_parts.py.
PARTIAL = [
    m for m in DIFFERENT if isinstance(m, PartialRows) and m not in PIPELINES[3:]
]
EXACT = [m for m in PARTIAL if m not in ESTIMATED]
exact_model = over(EXACT)
partial_model = over(PARTIAL, [*(m for m in PARTIAL if m not in SLOW), AUTOENCODERS[2]])
EVERY_TYPE = [
    *MIXTURES,
    EMGaussianMixture(2, covariance_type="block", blocks=[[0, 2]], random_state=0),
    *GRADIENT_MIXTURES,
]
every_mixture = over(EVERY_TYPE)

_FITTED = {}


def fitted(model):
    """Return the model fitted to three features, which the test must not change."""
    if id(model) not in _FITTED:
        _FITTED[id(model)] = clone(model).fit(rows(150, 3))
    return _FITTED[id(model)]


def without(X, *features):
    """Return a copy of rows with NaN in some features."""
    X = np.array(X, dtype=float)
    X[:, features] = np.nan
    return X


# -- rules of probability, for every model ---------------------------------------------


@partial_model
def test_marginal_scores_are_those_of_rows_with_missing_values(model):
    model, X = fitted(model), rows(20, 3, seed=1)
    scores = model.score_samples(without(X, 1))
    marginal = model.marginal([2, 0])
    assert marginal.n_features_in_ == 2
    np.testing.assert_allclose(marginal.score_samples(X[:, [2, 0]]), scores, atol=1e-9)
    again = marginal.marginal([1])
    expected = model.score_samples(without(X, 1, 2))
    np.testing.assert_allclose(again.score_samples(X[:, :1]), expected, atol=1e-9)
    assert np.abs(scores - model.score_samples(X)).min() > 1e-3


@partial_model
def test_conditional_and_marginal_are_the_joint_density(model):
    n_rows = 2 if model in ESTIMATED else 12
    model, X = fitted(model), rows(n_rows, 3, seed=1)
    joint = model.score_samples(X)
    given = model.score_samples(without(X, 0, 2))
    for i, x in enumerate(X):
        conditional = model.condition({1: x[1]})
        assert conditional.n_features_in_ == 2
        found = conditional.score_samples(x[None, [0, 2]])[0]
        np.testing.assert_allclose(found, joint[i] - given[i], atol=1e-9)
        # A conditional of a conditional.
        last = conditional.condition([x[0], np.nan])
        found = last.score_samples(x[None, [2]])[0]
        expected = joint[i] - model.score_samples(without(x[None], 2))[0]
        np.testing.assert_allclose(found, expected, atol=1e-9)
    # A row does for a dictionary.
    as_row = model.condition([np.nan, x[1], np.nan])
    np.testing.assert_array_equal(
        as_row.score_samples(X[:, [0, 2]]), conditional.score_samples(X[:, [0, 2]])
    )


@exact_model
def test_marginals_integrate_to_one_and_have_a_distribution_function(model):
    one = fitted(model).marginal(2)
    t = np.linspace(-40, 50, 90_001)
    density, step = np.exp(one.score_samples(t[:, None])), t[1] - t[0]
    np.testing.assert_allclose(density.sum() * step, 1, atol=1e-6)
    below = (np.cumsum(density) - density / 2) * step  # by the trapezoidal rule
    np.testing.assert_allclose(one.cdf(t[::100, None]), below[::100], atol=1e-6)
    draws = one.sample(20_000, random_state=1)
    x = draws[:50]
    np.testing.assert_allclose(one.quantile(one.cdf(x)), x[:, 0], rtol=1e-9)
    assert kstest(draws[:, 0], lambda t: one.cdf(t[:, None])).pvalue > 1e-3


@partial_model
def test_a_row_without_values_has_the_answers_of_the_prior(model):
    model = fitted(model)
    empty = np.full((2, 3), np.nan)
    np.testing.assert_array_equal(model.score_samples(empty), 0)
    draws = model.sample_conditional(empty, 20_000, random_state=0)
    assert draws.shape == (20_000, 2, 3)
    mean = model.sample(40_000, random_state=1).mean(axis=0)
    error = 8 * draws.std(axis=(0, 1)) / 200  # five standard errors of the difference
    assert (np.abs(draws.mean(axis=(0, 1)) - mean) < error).all()
    assert (np.abs(model.impute(empty)[0] - mean) < error).all()


@partial_model
def test_imputed_values_are_means_of_the_conditional_draws(model):
    model, X = fitted(model), without(rows(4, 3, seed=2), 1)
    X[2:, 0] = np.nan
    draws = model.sample_conditional(X, 10_000, random_state=0)
    assert draws.shape == (10_000, 4, 3)
    filled = model.impute(X)
    observed = ~np.isnan(X)
    np.testing.assert_array_equal(filled[observed], X[observed])
    np.testing.assert_array_equal(draws[:, observed], np.tile(X[observed], (10_000, 1)))
    error = 5 * draws.std(axis=0) / 100  # five standard errors
    near = np.abs(draws.mean(axis=0) - filled) < error
    assert near[~observed].all()
    # The draws follow the conditional density.
    alone = model.condition(X[0])
    assert kstest(draws[:, 0, 1], lambda t: alone.cdf(t[:, None])).pvalue > 1e-3


@partial_model
def test_scores_of_values_given_the_others(model):
    model, X = fitted(model), rows(6, 3, seed=1)
    X[0, 1] = np.nan
    found = model.conditional_score_samples(X)
    assert np.isnan(found[0, 1])
    assert np.isnan(found).sum() == 1
    for i, x in enumerate(X):
        for j in np.flatnonzero(~np.isnan(x)):
            rest = np.delete(np.arange(3), j)
            given = {k: x[k] for k in rest if not np.isnan(x[k])}
            conditional = model.condition(given)
            if conditional.n_features_in_ > 1:  # a value of the row is missing
                conditional = conditional.marginal(
                    int(np.searchsorted(sorted({0, 1, 2} - set(given)), j))
                )
            score = conditional.score_samples([[x[j]]])[0]
            np.testing.assert_allclose(found[i, j], score, atol=1e-9)


@partial_model
def test_complete_rows_have_the_same_answers_beside_incomplete_rows(model):
    model, X = fitted(model), rows(20, 3, seed=1)
    mixed = np.vstack([X, without(X[:3], 0), without(X[:3], 1, 2)])
    # Latents of incomplete rows need a fit to them.
    methods = ("score_samples", "transform")
    for method in methods[: 1 + get_tags(model).input_tags.allow_nan]:
        answers = getattr(model, method)(mixed)
        np.testing.assert_allclose(
            answers[:20], getattr(model, method)(X), rtol=1e-12, atol=1e-12
        )
        assert np.isfinite(answers).all()
    alone = [model.score_samples(row[None])[0] for row in mixed]
    np.testing.assert_allclose(model.score_samples(mixed), alone, atol=1e-9)
    with config_context(assume_finite=True):
        np.testing.assert_allclose(model.score_samples(mixed), alone, atol=1e-9)
    single = mixed.astype(np.float32)
    assert model.score_samples(single).dtype == np.float32
    assert model.impute(single).dtype == np.float32
    assert model.sample_conditional(single).dtype == np.float32
    assert np.isfinite(model.score(mixed))


# -- mixtures --------------------------------------------------------------------------


@every_mixture
def test_mixtures_agree_with_integrals_on_a_grid(model):
    model, x = fitted(model), rows(1, 3, seed=3)
    t = np.linspace(-25, 30, 20_001)
    table = np.column_stack([np.full_like(t, x[0, 0]), t, np.full_like(t, x[0, 2])])
    joint = np.exp(model.score_samples(table))
    step = t[1] - t[0]
    mass, hidden = joint.sum() * step, without(x, 1)
    np.testing.assert_allclose(model.score_samples(hidden)[0], np.log(mass), atol=1e-8)
    mean = (t * joint).sum() * step / mass
    np.testing.assert_allclose(model.impute(hidden)[0, 1], mean, atol=1e-8)
    z = (joint @ model.transform(table)) * step / mass  # E[z | x_o]
    np.testing.assert_allclose(model.transform(hidden)[0], z, atol=1e-8)
    np.testing.assert_allclose(model.predict_proba(hidden)[0], z, atol=1e-8)
    assert model.predict(hidden)[0] == z.argmax()
    # Two missing values.
    grid = np.linspace(-25, 30, 401)
    a, b = (part.ravel() for part in np.meshgrid(grid, grid))
    table = np.column_stack([a, b, np.full(a.size, x[0, 2])])
    joint, cell = np.exp(model.score_samples(table)), (grid[1] - grid[0]) ** 2
    mass = joint.sum() * cell
    hidden = without(x, 0, 1)
    np.testing.assert_allclose(model.score_samples(hidden)[0], np.log(mass), atol=1e-5)
    mean = np.array([a @ joint, b @ joint]) * cell / mass
    np.testing.assert_allclose(model.impute(hidden)[0, :2], mean, atol=1e-4)


@every_mixture
def test_parts_of_a_mixture_are_mixtures_of_the_same_class(model):
    model = fitted(model)
    for part in (model.marginal([0, 2]), model.condition({1: 0.5})):
        assert type(part) is type(model)
        assert part.covariance_type == model.covariance_type
        assert part._n_parameters() > 0
        assert np.isfinite(part.bic(rows(30, 2)))
        assert part.sample(3, random_state=0).shape == (3, 2)
        with quiet():
            refitted = clone(part).fit(rows(90, 2))
        assert refitted.means_.shape == part.means_.shape


def test_imputation_by_one_component_is_the_regression():
    X = rows(300, 3)
    model = EMGaussianMixture(reg_covar=0).fit(X)
    line = LinearRegression().fit(X[:, [0, 2]], X[:, 1])
    np.testing.assert_allclose(
        model.impute(without(X, 1))[:, 1], line.predict(X[:, [0, 2]]), rtol=1e-9
    )


def test_marginals_of_one_component_are_normal():
    X = rows(300, 3)
    model = EMGaussianMixture(reg_covar=0).fit(X)
    mean, covariance = X.mean(axis=0), np.cov(X.T, ddof=0)
    expected = multivariate_normal(mean[1:], covariance[1:, 1:]).logpdf(X[:, 1:])
    np.testing.assert_allclose(model.score_samples(without(X, 0)), expected, atol=1e-9)
    one = model.marginal(0)
    expected = norm(mean[0], covariance[0, 0] ** 0.5)
    np.testing.assert_allclose(one.cdf(X[:, :1]), expected.cdf(X[:, 0]), rtol=1e-9)
    q = [0.0, 1e-300, 0.3, 1 - 1e-12, 1.0]
    np.testing.assert_allclose(one.quantile(q), expected.ppf(q), rtol=1e-9)
    assert one.quantile(0.3) == one.quantile(q)[2]


def test_parts_of_nearly_singular_covariances_keep_their_digits():
    # The third feature is the sum of the others up to 1e-6: the covariances alone would
    # leave half of the digits of the conditional variance.
    rng = np.random.RandomState(0)
    X = rng.standard_normal((2000, 2))
    X = np.column_stack([X, X.sum(axis=1) + 1e-6 * rng.standard_normal(2000)])
    model = EMGaussianMixture(reg_covar=0).fit(X)
    line = LinearRegression().fit(X[:, :2], X[:, 2])
    residual = np.std(X[:, 2] - line.predict(X[:, :2]))
    conditional = model.condition({0: 0.3, 1: -1.2})
    deviation = np.sqrt(conditional.covariances_[0, 0, 0])
    np.testing.assert_allclose(deviation, residual, rtol=1e-6)


def test_quantiles_of_components_far_apart():
    weights = np.array([0.5, 0.5, 0.0])
    means, deviations = np.array([-1e6, 1e6, 0.0]), np.array([1e-3, 1e3, 1.0])
    q = np.array([1e-9, 0.25, 0.75, 0.999])
    x = mixture_quantile(q, weights, means, deviations)
    np.testing.assert_allclose(mixture_cdf(x, weights, means, deviations), q, rtol=1e-6)
    expected = [-1e6 + 1e-3 * norm.ppf(2 * q[:2]), 1e6 + 1e3 * norm.ppf(2 * q[2:] - 1)]
    np.testing.assert_allclose(x, np.concatenate(expected), rtol=1e-12)


def test_a_component_far_away_leaves_imputed_values_finite():
    model = EMGaussianMixture.from_parameters(
        [0.5, 0.5], [[0.0, 0.0], [1e150, 1e150]], [np.eye(2), 1e-300 * np.eye(2)]
    )
    np.testing.assert_allclose(model.impute([[0.5, np.nan]]), [[0.5, 0.0]])


# -- patterns and tables ---------------------------------------------------------------


def test_patterns_hold_every_row_once():
    rng = np.random.RandomState(0)
    X = np.where(rng.uniform(size=(500, 11)) < 0.3, np.nan, 1.0)
    found = patterns(X)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([rows for rows, _ in found])), np.arange(500)
    )
    for some, observed in found:
        np.testing.assert_array_equal(
            ~np.isnan(X[some]), np.tile(observed, (some.size, 1))
        )
    assert len({observed.tobytes() for _, observed in found}) == len(found)


def table_model():
    rng = np.random.RandomState(0)
    age = rng.normal(40, 10, 400)
    table = pd.DataFrame({"age": age, "income": 100 * age + rng.normal(0, 300, 400)})
    table["children"] = rng.poisson(2, 400) + rng.uniform(size=400)
    return EMGaussianMixture(2, random_state=0).fit(table), table


def unnamed(model):
    """Return the mixture without names of features."""
    return EMGaussianMixture.from_parameters(
        model.weights_, model.means_, model.covariances_
    )


def test_features_have_names():
    model, table = table_model()
    part = model.marginal(["income", "age"])
    assert part.feature_names_in_.tolist() == ["income", "age"]
    given = model.condition({"age": 40})
    assert given.feature_names_in_.tolist() == ["income", "children"]
    np.testing.assert_allclose(
        given.sample(2000, random_state=0).mean(axis=0)[0], 4000, rtol=0.02
    )
    by_index = model.condition({0: 40})
    np.testing.assert_array_equal(by_index.means_, given.means_)
    row = table.iloc[:1].copy()
    row["income"] = np.nan
    assert model.condition(row).feature_names_in_.tolist() == ["income"]
    model.set_output(transform="pandas")
    filled = model.impute(row)
    assert isinstance(filled, pd.DataFrame)
    assert filled.columns.tolist() == ["age", "income", "children"]


@pytest.mark.parametrize("kind", ["Int64", "object", "masked", "Float32"])
def test_missing_values_of_other_libraries(kind):
    model, table = table_model()
    table = table.round().iloc[:5]
    expected = table.copy()
    expected.iloc[1, 0] = np.nan
    if kind == "masked":
        given = np.ma.array(table.to_numpy(), mask=expected.isna().to_numpy())
        expected, model = (
            expected.to_numpy(),
            EMGaussianMixture.from_parameters(
                model.weights_, model.means_, model.covariances_
            ),
        )
    else:
        given = table.astype({"age": kind})
        given.iloc[1, 0] = pd.NA
        assert given.dtypes["age"] == kind
    scores = model.score_samples(given)
    rtol = 1e-6 if kind == "Float32" else 1e-12
    np.testing.assert_allclose(scores, model.score_samples(expected), rtol=rtol)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.marginal("salary"), "'features' argument .* names or indices"),
        (lambda m: m.marginal([]), "'features' argument"),
        (lambda m: m.marginal([0, "age"]), "at most once"),
        (lambda m: m.marginal(3), "from 0 to 2"),
        (lambda m: m.marginal(-1), "from 0 to 2"),
        (lambda m: m.marginal(None), "'features' argument"),
        (lambda m: m.condition({"salary": 1}), "keys are names or indices"),
        (lambda m: m.condition({}), "at least one"),
        (lambda m: m.condition({0: 1, 1: 2, 2: 3}), "fewer than all 3 features"),
        (lambda m: m.condition({"age": "old"}), "finite numbers"),
        (lambda m: m.condition({"age": np.nan}), "finite numbers"),
        (lambda m: unnamed(m).condition([np.inf, np.nan, 1]), "infinity"),
        (lambda m: unnamed(m).condition(np.zeros((2, 3))), "one row"),
        (lambda m: m.cdf([[1.0]]), r"one feature.*3.*marginal\(feature\)"),
        (lambda m: m.quantile(0.5), "one feature"),
        (lambda m: m.marginal(0).quantile(1.5), "from 0 to 1"),
        (lambda m: m.marginal(0).quantile("half"), "from 0 to 1"),
        (lambda m: unnamed(m).score_samples([[np.inf, np.nan, 1]]), "infinity"),
        (lambda m: unnamed(m).sample_conditional([[1, np.nan, 1]], 0), "'n_samples'"),
    ],
)
def test_errors_name_the_argument(call, message):
    model, _ = table_model()
    with pytest.raises(ValueError, match=message):
        call(model)


def test_parts_can_be_saved():
    model = SGDGaussianMixture(2, random_state=0).fit(rows(150, 3))
    part, X = model.marginal([0, 1]), rows(9, 2)
    loaded = skops.io.loads(skops.io.dumps(part), trusted=skgen.TRUSTED_TYPES)
    for copy in (loaded, pickle.loads(pickle.dumps(part))):
        np.testing.assert_allclose(
            copy.score_samples(X), part.score_samples(X), rtol=1e-12
        )
