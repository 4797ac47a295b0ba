"""Features that are constant up to rounding: one decision, shared by all models."""

import numpy as np
import pytest
from estimators import name, over, rows, thorough
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.validation import has_fit_parameter

from skgen import (
    VAE,
    AutoEncoder,
    DensityOutlierDetector,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    SGDGaussianMixture,
    make_generative_pipeline,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning"),
]

# A normal density of two features has one optimum, so that scores can be compared.
SHORT = {"max_epochs": 2, "random_state": 0}
CODES = {"hidden_layer_sizes": (4,), "n_importance_samples": 8, **SHORT}
EXACT = [
    GaussianKDE(),
    GaussianKDE("silverman", covariance_type="diag"),
    GaussianKDE("likelihood", covariance_type="diag"),
    *[
        EMGaussianMixture(covariance_type=shape, **options)
        for shape, options in [
            ("full", {}),
            ("tied", {}),
            ("diag", {}),
            ("block", {"blocks": [[0], [1]]}),
        ]
    ],
    make_generative_pipeline(StandardScaler(), EMGaussianMixture()),
    make_generative_pipeline(MinMaxScaler(), GaussianKDE()),
    make_generative_pipeline(RobustScaler(), PCA(), EMGaussianMixture()),
    make_generative_pipeline(
        MaxAbsScaler(), GaussianKDE("likelihood", covariance_type="full")
    ),
    make_generative_pipeline(PCA(1), EMGaussianMixture()),
    DensityOutlierDetector(EMGaussianMixture()),
]
TRAINED = [
    SGDGaussianMixture(1, **SHORT),
    SGDGaussianMixture(1, covariance_type="lowrank", rank=1, **SHORT),
    AutoEncoder(1, latent_density=EMGaussianMixture(), **CODES),
    VAE(1, **CODES),
]
slow_training = over(TRAINED, default=TRAINED[2:3])

# A value and a number of rows; the first ones are in the default selection.
VALUES = [
    (0.1 + 0.2, 2),
    (14.62, 500),
    (-123456.789, 40),
    (1e-12, 3),
    (1e8 + 0.1, 100),
    (1 / 3, 10_000),
    (6715266981.538051, 10),
    (36743.6, 12),
    (-1e-300, 1000),
    (1929245168.06679, 18),
]
N_DEFAULT = 5


def scores(model, X, weights):
    """Return the log-densities of rows (n, d) under a fit to them, and the labels."""
    given = {} if weights is None else {"sample_weight": weights}
    return clone(model).fit(X, **given).score_samples(X).astype(np.float64)


def jittered(value, n, dtype, steps):
    """Return a column (n,) of a value with up to a number of rounding errors."""
    errors = np.random.RandomState(1).randint(-steps, steps + 1, size=n)
    return dtype(value) + errors.astype(dtype) * np.spacing(dtype(value))


def beside(column):
    """Return rows of a column (n,) and of normal numbers, in the type of the column."""
    other = np.random.RandomState(0).standard_normal(column.size)
    return np.column_stack([column, other]).astype(column.dtype)


def check_constant(model, values, dtype, weighted):
    """Check that columns of a value, and of its rounding errors, are all the same."""
    for value, n in values:
        # The floor has a standard deviation of about 1e-3, and rounding less.
        if np.abs(np.spacing(dtype(value))) > 1e-6 or dtype(value) == 0:
            continue
        weights = None
        if weighted:
            weights = np.random.RandomState(2).uniform(0.5, 2, size=n)
        expected = scores(model, beside(np.ones(n, dtype)), weights)
        for steps in (0, 1, 3):
            X = beside(jittered(value, n, dtype, steps))
            found = scores(model, X, weights)
            np.testing.assert_allclose(found, expected, atol=0.01, err_msg=value)


@pytest.mark.parametrize("model", EXACT, ids=name)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounding_errors_of_a_constant_change_nothing(model, dtype):
    check_constant(model, VALUES[:N_DEFAULT], dtype, weighted=False)


@pytest.mark.thorough
@pytest.mark.parametrize("model", EXACT, ids=name)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("weighted", [False, True])
def test_rounding_errors_of_many_constants_change_nothing(model, dtype, weighted):
    if weighted and not has_fit_parameter(model, "sample_weight"):
        pytest.skip("takes no weights")
    check_constant(model, VALUES[0 if weighted else N_DEFAULT :], dtype, weighted)


@slow_training
@pytest.mark.parametrize("dtype", [np.float64, thorough(np.float32)])
def test_rounding_errors_change_no_training(model, dtype):
    check_constant(model, [(14.62, 60)], dtype, weighted=False)


# Standard deviations from ten rounding errors on, of values (n,) that are exact.
RESOLVED = [
    (1e8, 1e-6, 500, np.float64),
    (1.0, 1e-13, 20, np.float64),
    (1.0, 1e-5, 60, np.float32),
    thorough(14.62, 1e-12, 200, np.float64),
    thorough(1e-12, 1e-22, 40, np.float64),
    thorough(-(2.0**26), 500.0, 30, np.float32),
]


def check_resolved(model, value, deviation, n, dtype):
    """Check that a column far from zero is scored as its differences from there."""
    normal = np.random.RandomState(3).standard_normal(n)
    X = beside((value + deviation * normal).astype(dtype))
    near = X - np.array([value, 0.0], dtype)  # exact
    # A row is rounded by up to 1 / 100 of the standard deviation.
    error = 0.02 + 10 * np.abs(np.spacing(dtype(value))) / deviation
    expected = scores(model, near, None)
    np.testing.assert_allclose(scores(model, X, None), expected, atol=error)


@pytest.mark.parametrize("model", EXACT, ids=name)
@pytest.mark.parametrize(("value", "deviation", "n", "dtype"), RESOLVED)
def test_what_rounding_resolves_is_not_constant(model, value, deviation, n, dtype):
    check_resolved(model, value, deviation, n, dtype)


@slow_training
def test_what_rounding_resolves_is_trained_on(model):
    check_resolved(model, *RESOLVED[0])


def check_wide(model, value, n):
    """Check that rounding errors above the floor are scored as what they are."""
    X = beside(jittered(value, n, np.float32, 3))
    step = np.abs(np.spacing(np.float32(value)))
    near = ((X - np.array([value, 0], np.float32)) / [step, 1]).astype(np.float32)
    expected = scores(model, near, None) - np.log(np.float64(step))
    np.testing.assert_allclose(scores(model, X, None), expected, atol=1e-3)


# Whole numbers of steps in single precision: the floor is far below one step.
WIDE = [
    (1e8 + 0.1, 50),
    (-1e30, 9),
    thorough(1929245168.06679, 400),
    thorough(2.0**24, 3),
    thorough(1e6, 40),
]
EQUIVARIANT = [model for model in EXACT if "PCA(n_components=1)" not in str(model)]


@pytest.mark.parametrize("model", EQUIVARIANT, ids=name)
@pytest.mark.parametrize(("value", "n"), WIDE)
def test_rounding_errors_that_the_floor_does_not_cover_are_variance(model, value, n):
    check_wide(model, value, n)


@slow_training
def test_training_takes_wide_rounding_errors_for_variance(model):
    check_wide(model, *WIDE[0])


@pytest.mark.parametrize("model", EXACT[:6], ids=name)
@pytest.mark.parametrize(("value", "n"), WIDE)
def test_a_single_feature_of_wide_rounding_errors_varies(model, value, n):
    column = jittered(value, n, np.float32, 3)[:, None]
    step = np.abs(np.spacing(np.float32(value)))
    steps = (column - np.float32(value)) / step
    expected = scores(model, steps, None) - np.log(np.float64(step))
    np.testing.assert_allclose(scores(model, column, None), expected, atol=1e-3)


@pytest.mark.parametrize("odd", [0, 1, 4321, -1])
@pytest.mark.parametrize("n", [500, 5000])
def test_every_scaler_finds_the_same_features_constant(odd, n):
    # In 500 rows, the standard deviation of this column is above eight rounding steps.
    X = rows(n, 2)
    X[:, 1] = 14.62
    X[odd % n, 1] += 1e-12
    expected = EMGaussianMixture().fit(X).score(X)
    for scaler in (StandardScaler, RobustScaler, MinMaxScaler, MaxAbsScaler):
        model = make_generative_pipeline(scaler(), EMGaussianMixture())
        assert model.fit(X).score(X) == pytest.approx(expected, abs=1e-3), scaler


def test_a_class_may_have_a_constant_feature():
    X, y = rows(200, 2), np.arange(200) % 2
    for value in (14.62, 1e8 + 0.1):
        tables = []
        for steps in (0, 1):
            X[y == 0, 1] = jittered(value, 100, np.float64, steps)
            X[y == 1, 1] += value
            model = GenerativeClassifier(EMGaussianMixture()).fit(X, y)
            tables.append(model.score_samples(X))
            X[y == 1, 1] -= value
        np.testing.assert_allclose(*tables, atol=0.01)
