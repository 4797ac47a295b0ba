"""Imputation by a density: what scikit-learn asks of every imputer, and draws."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from estimators import IMPUTERS, over, rows
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, get_tags

from skgen import EMGaussianMixture, GenerativeImputer
from skgen._warnings import quiet

# Tables of a few rows, as in scikit-learn's tests.
pytestmark = [
    pytest.mark.filterwarnings("ignore:All components .* collapsed"),
    pytest.mark.filterwarnings("ignore:Missing values leave fewer rows"),
]
EMPTY = pytest.mark.filterwarnings("ignore:The columns .* have no observed values")


def incomplete(n_samples, n_features, fraction=0.2, seed=0):
    """Return rows of two clusters with values missing at random."""
    X = rows(n_samples, n_features, seed=seed)
    hidden = np.random.RandomState(seed).uniform(size=X.shape) < fraction
    return np.where(hidden, np.nan, X)


def marked(marker):
    """Return four rows of five features, of which the fourth has no values."""
    return np.array(
        [
            [marker, 2.0, 6.0, marker, 2.5],
            [3.0, marker, 2.0, marker, 3.5],
            [7.0, 4.0, marker, marker, 1.0],
            [2.0, 3.0, 9.0, marker, 8.0],
        ]
    )


# -- what every imputer does -----------------------------------------------------------


@EMPTY
@pytest.mark.parametrize("marker", [np.nan, -1, 0, pd.NA])
@pytest.mark.parametrize("keep_empty_features", [False, True])
def test_the_indicator_follows_the_features(marker, keep_empty_features):
    value = np.nan if marker is pd.NA else marker
    X = marked(value)
    imputer = GenerativeImputer(
        missing_values=marker, keep_empty_features=keep_empty_features
    )
    filled = imputer.fit_transform(X)
    assert imputer.indicator_ is None
    imputer.set_params(add_indicator=True)
    both = imputer.fit_transform(X)
    missing = np.isnan(X) if np.isnan(value) else value == X
    np.testing.assert_array_equal(both[:, -4:], missing[:, :4])
    np.testing.assert_array_equal(imputer.indicator_.features_, [0, 1, 2, 3])
    np.testing.assert_array_equal(both[:, :-4], filled)
    kept = [0, 1, 2, 3, 4] if keep_empty_features else [0, 1, 2, 4]
    assert filled.shape == (4, len(kept))
    seen = ~missing[:, kept]
    np.testing.assert_array_equal(filled[seen], X[:, kept][seen])
    assert np.isfinite(filled).all()
    if keep_empty_features:
        np.testing.assert_array_equal(filled[:, 3], 0)
        other = np.full((1, 5), 7.0)  # values that are observed later are kept
        np.testing.assert_array_equal(imputer.transform(other)[:, :5], other)


@EMPTY
@pytest.mark.parametrize("keep_empty_features", [False, True])
def test_names_of_features(keep_empty_features):
    frame = pd.DataFrame(marked(np.nan), columns=list("abcde"))
    imputer = GenerativeImputer(keep_empty_features=keep_empty_features).fit(frame)
    kept = list("abcde" if keep_empty_features else "abce")
    assert imputer.get_feature_names_out().tolist() == kept
    assert imputer.estimator_.feature_names_in_.tolist() == list("abce")
    imputer.set_params(add_indicator=True).fit(frame)
    added = [f"missingindicator_{name}" for name in "abcd"]
    assert imputer.get_feature_names_out().tolist() == kept + added
    imputer.fit(frame.to_numpy())
    names = imputer.get_feature_names_out()
    assert names.tolist()[:2] == ["x0", "x1"]
    assert names.tolist()[-4:] == [f"missingindicator_x{j}" for j in range(4)]


@pytest.mark.parametrize("library", [pd, pl])
def test_dataframes_in_dataframes_out(library):
    columns = dict(zip("ab", incomplete(60, 2).T, strict=True))
    frame = library.DataFrame(columns)
    imputer = GenerativeImputer(add_indicator=True)
    filled = imputer.set_output(transform=library.__name__).fit_transform(frame)
    assert isinstance(filled, library.DataFrame)
    assert list(filled.columns) == list(imputer.get_feature_names_out())
    plain = GenerativeImputer(add_indicator=True).fit_transform(frame)
    assert isinstance(plain, np.ndarray)
    np.testing.assert_array_equal(filled.to_numpy(), plain)


def test_the_index_of_a_dataframe_is_kept():
    frame = pd.DataFrame(incomplete(60, 2), columns=["a", "b"], index=range(7, 67))
    imputer = GenerativeImputer().set_output(transform="pandas")
    assert imputer.fit_transform(frame).index.equals(frame.index)


@EMPTY
@pytest.mark.parametrize("add_indicator", [False, True])
def test_nullable_integers(add_indicator):
    X = marked(np.nan).round()
    imputer = GenerativeImputer(add_indicator=add_indicator)
    expected = imputer.fit_transform(X)
    frame = pd.DataFrame(X, columns=list("abcde"), dtype="Int16")
    np.testing.assert_allclose(imputer.fit_transform(frame), expected, rtol=1e-12)
    masked = np.ma.masked_invalid(X)
    np.testing.assert_allclose(imputer.fit_transform(masked), expected, rtol=1e-12)


def test_integers_mark_missing_values_of_integers():
    X = np.array([[1, 2], [2, 3], [3, 5], [-1, 4], [4, 6]])
    filled = GenerativeImputer(missing_values=-1).fit_transform(X)
    assert filled.dtype == np.float64
    expected = GenerativeImputer().fit_transform(np.where(X == -1, np.nan, X))
    np.testing.assert_array_equal(filled, expected)


@pytest.mark.parametrize("value", [np.nan, 1.0])
def test_values_that_are_missing_in_fit_or_in_transform_only(value):
    X = np.array([[0, np.nan], [1, 2], [2, 3.5]])
    imputer = GenerativeImputer(add_indicator=True).fit(X)
    filled = imputer.transform([[0, value], [1, 2]])
    assert filled.shape == (2, 3)
    np.testing.assert_array_equal(filled[:, 2], [np.isnan(value), 0])
    # No values are missing in fit.
    imputer.fit([[1.0], [2.0], [4.0]])
    np.testing.assert_allclose(imputer.transform([[3.0], [np.nan]]), [[3], [7 / 3]])


def test_single_precision_stays():
    X = incomplete(80, 3).astype(np.float32)
    for sample in (False, True):
        imputer = GenerativeImputer(add_indicator=True, sample=sample)
        filled = imputer.fit_transform(X)
        assert filled.dtype == np.float32
        np.testing.assert_array_equal(filled[:, :3][~np.isnan(X)], X[~np.isnan(X)])


@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
@pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "check",
    [
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_get_feature_names_out_error",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_set_output_transform_polars",
        "check_global_output_transform_pandas",
        "check_global_set_output_transform_polars",
        "check_dataframe_column_names_consistency",
        "check_inplace_ensure_writeable",
    ],
)
@over(IMPUTERS)
def test_scikit_learn_checks_of_its_own_imputers(model, check):
    getattr(estimator_checks, check)(type(model).__name__, clone(model))


def test_the_training_data_are_not_written_to():
    X = incomplete(60, 3)
    before = X.copy()
    imputer = GenerativeImputer().fit(X)
    imputer.transform(X)
    np.testing.assert_array_equal(X, before)


# -- what a density adds ---------------------------------------------------------------


def test_values_are_imputed_by_the_density():
    X = incomplete(200, 3)
    model = EMGaussianMixture(2, random_state=0)
    imputer = GenerativeImputer(model)
    filled = imputer.fit_transform(X)
    np.testing.assert_array_equal(filled, model.fit(X).impute(X))
    assert imputer.estimator_ is not imputer.estimator
    # A row alone, and beside others.
    np.testing.assert_array_equal(imputer.transform(X[7:8])[0], filled[7])


def test_without_a_density_values_are_regressions():
    X = rows(300, 3)
    imputer = GenerativeImputer().fit(X)
    line = LinearRegression().fit(X[:, [0, 2]], X[:, 1])
    hidden = X.copy()
    hidden[:, 1] = np.nan
    expected = line.predict(X[:, [0, 2]])
    # The minimum variance is 1e-6 of the variance.
    np.testing.assert_allclose(imputer.transform(hidden)[:, 1], expected, atol=1e-4)


def test_draws_have_the_variance_of_the_data():
    X = rows(4000, 2)
    hidden = X.copy()
    hidden[::2, 1] = np.nan
    mean = GenerativeImputer().fit_transform(hidden)[::2, 1]
    imputer = GenerativeImputer(sample=True, random_state=0)
    drawn = imputer.fit_transform(hidden)[::2, 1]
    np.testing.assert_array_equal(imputer.transform(hidden)[::2, 1], drawn)
    other = clone(imputer).set_params(random_state=1).fit(hidden)
    assert (other.transform(hidden)[::2, 1] != drawn).all()
    # Five standard errors of 2000 draws; regressions vary less.
    variance, error = X[1::2, 1].var(), 5 * np.sqrt(2 * 2 / 2000)
    assert abs(drawn.var() / variance - 1) < error
    assert mean.var() / variance < 1 - error
    residual = drawn - mean
    assert abs(residual.mean()) < 5 * residual.std() / np.sqrt(2000)


def test_the_density_seeds_the_draws():
    X = incomplete(60, 2)
    density = EMGaussianMixture(random_state=3)
    drawn = GenerativeImputer(density, sample=True).fit_transform(X)
    expected = density.fit(X).sample_conditional(X, random_state=3)[0]
    np.testing.assert_array_equal(drawn, expected)
    tags = get_tags(GenerativeImputer(sample=True))
    assert tags.non_deterministic
    assert tags.input_tags.allow_nan


def test_parameters_of_the_density_are_searched():
    X = incomplete(120, 3)
    y = np.nan_to_num(X).sum(axis=1)
    model = make_pipeline(
        StandardScaler(), GenerativeImputer(IMPUTERS[0].estimator), LinearRegression()
    )
    grid = {"generativeimputer__estimator__n_components": [1, 2]}
    with quiet():
        search = GridSearchCV(model, grid, cv=2).fit(X, y)
    assert search.best_score_ > 0.5
    assert np.isfinite(search.predict(X)).all()


def test_rows_of_weight_zero_are_left_out():
    X, weights = incomplete(90, 3), np.arange(90) % 3.0
    X[weights > 0, 2] = np.nan
    with pytest.warns(UserWarning, match=r"columns \[2\] have no observed values"):
        imputer = GenerativeImputer().fit(X, sample_weight=weights)
    present = weights > 0
    alone = GenerativeImputer().fit(X[present, :2], sample_weight=weights[present])
    np.testing.assert_allclose(
        imputer.transform(X), alone.transform(X[:, :2]), rtol=1e-9
    )


def test_a_frozen_density_imputes_without_a_fit():
    X = incomplete(90, 3)
    density = EMGaussianMixture(random_state=0).fit(rows(90, 3))
    imputer = GenerativeImputer(FrozenEstimator(density)).fit(X)
    np.testing.assert_array_equal(imputer.transform(X), density.impute(X))


# -- errors ----------------------------------------------------------------------------


class CompleteOnly(EMGaussianMixture):
    """A density that can only be fitted to complete rows."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = False
        return tags


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"estimator": KernelDensity()}, "'estimator' .* with 'fit' and 'impute'"),
        ({"estimator": KernelDensity(), "sample": True}, "'sample_conditional'"),
        ({"estimator": EMGaussianMixture}, "'estimator' parameter"),
        ({"estimator": CompleteOnly()}, "fitted to rows with missing values, such as"),
        ({"sample": "yes"}, "'sample' .* True or False"),
        ({"add_indicator": 1}, "'add_indicator'"),
        ({"keep_empty_features": None}, "'keep_empty_features'"),
        ({"missing_values": "?"}, "'missing_values' .* Got '\\?'"),
        ({"missing_values": None}, "'missing_values'"),
        ({"missing_values": np.inf}, "'missing_values'"),
        ({"random_state": -1}, "'random_state' parameter of GenerativeImputer"),
        ({"missing_values": -1}, "Input X contains NaN in column"),
    ],
)
def test_errors_name_the_parameter(parameters, message):
    with pytest.raises(ValueError, match=message):
        GenerativeImputer(**parameters).fit(incomplete(60, 2))


def test_errors_of_rows():
    X = incomplete(60, 2)
    with pytest.raises(ValueError, match=r"must have observed values. Got missing"):
        GenerativeImputer(keep_empty_features=True).fit(np.full((9, 2), np.nan))
    with pytest.raises(TypeError, match="Sparse data"):
        GenerativeImputer().fit(csr_array(np.eye(4)))
    with pytest.raises(ValueError, match="infinity"):
        GenerativeImputer().fit(np.where(np.isnan(X), np.inf, X))
    with pytest.raises(ValueError, match="numbers only"):
        GenerativeImputer().fit([["a", "b"]] * 9)
    imputer = GenerativeImputer()
    with pytest.raises(NotFittedError):
        imputer.transform(X)
    imputer.fit(X)
    with pytest.raises(ValueError, match="2 features"):
        imputer.transform(X[:, :1])
    before = imputer.transform(X)
    with pytest.raises(ValueError, match="observed values"):
        imputer.fit(np.full((9, 3), np.nan))
    np.testing.assert_array_equal(imputer.transform(X), before)
