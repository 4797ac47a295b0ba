"""Dataframes in and out of single models, and errors that name their columns."""

import datetime
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from estimators import rows
from sklearn import config_context
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

from skgen import (
    SWAE,
    VAE,
    AutoEncoder,
    DensityDisplay,
    DensityOutlierDetector,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    GenerativePipeline,
    NormalizingFlow,
    SGDGaussianMixture,
    dequantize,
    make_generative_pipeline,
)

SMALL = {"hidden_layer_sizes": (4,), "max_epochs": 3, "random_state": 0}
MODELS = [
    GaussianKDE(random_state=0),
    EMGaussianMixture(2, random_state=0),
    SGDGaussianMixture(2, max_epochs=3, random_state=0),
    AutoEncoder(1, **SMALL),
    VAE(1, **SMALL),
    SWAE(1, **SMALL),
]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
KDE = GaussianKDE(random_state=0)


def frame(n=60, **more):
    index = pd.Index([f"row {i}" for i in range(n)])
    X = pd.DataFrame(rows(n, 2), columns=["width", "height"], index=index)
    return X.assign(**more)


# -- dataframes out ------------------------------------------------------------


@every_model
def test_samples_and_means_are_dataframes_where_set_output_asks(model):
    X = frame()
    plain = clone(model).fit(X)
    model = clone(model).set_output(transform="pandas").fit(X)
    drawn, latent = model.sample(4), model.transform(X)
    means = model.inverse_transform(latent)
    assert isinstance(plain.sample(4), np.ndarray)
    assert isinstance(plain.inverse_transform(latent), np.ndarray)
    pd.testing.assert_frame_equal(
        drawn, pd.DataFrame(plain.sample(4), columns=["width", "height"])
    )
    assert means.columns.tolist() == ["width", "height"]
    assert means.index.equals(X.index)
    np.testing.assert_array_equal(means, plain.inverse_transform(latent))
    assert isinstance(model.score_samples(drawn), np.ndarray)


@every_model
def test_samples_and_means_are_polars_where_set_output_asks(model):
    X = pl.DataFrame(rows(60, 2), schema=["width", "height"])
    model = clone(model).set_output(transform="polars").fit(X)
    for answer in (model.sample(4), model.inverse_transform(model.transform(X))):
        assert isinstance(answer, pl.DataFrame)
        assert answer.columns == ["width", "height"]


def test_a_global_option_asks_as_well_and_set_output_overrules_it():
    model = clone(KDE).fit(frame())
    with config_context(transform_output="polars"):
        assert isinstance(model.sample(), pl.DataFrame)
        model.set_output(transform="default")
        assert isinstance(model.sample(), np.ndarray)
        assert isinstance(model.inverse_transform(frame()), np.ndarray)


def test_a_clone_keeps_the_container():
    model = clone(clone(KDE).set_output(transform="pandas")).fit(frame())
    assert isinstance(model.sample(), pd.DataFrame)


def test_without_names_answers_are_arrays():
    model = clone(KDE).set_output(transform="pandas").fit(rows(60, 2))
    assert isinstance(model.sample(), np.ndarray)
    assert isinstance(model.inverse_transform(frame()), np.ndarray)


def test_dataframes_keep_single_precision():
    model = clone(KDE).set_output(transform="pandas").fit(frame().astype(np.float32))
    assert set(model.sample(3).dtypes) == {np.dtype(np.float32)}


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_estimators_that_hold_such_models_go_on_working(kind):
    X, y = frame(), np.arange(60) % 2
    with config_context(transform_output=kind):
        density = EMGaussianMixture(2, random_state=0)
        pipeline = GenerativePipeline([("kde", clone(KDE))]).fit(X)
        assert np.isfinite(pipeline.score(X))
        assert np.shape(pipeline.inverse_transform(pipeline.transform(X))) == (60, 2)
        classifier = GenerativeClassifier(density).fit(X, y)
        assert np.shape(classifier.sample(5, random_state=0)) == (5, 2)
        model = AutoEncoder(1, latent_density=density, **SMALL).fit(X)
        assert np.isfinite(model.score(X))
        assert np.shape(model.sample(3)) == (3, 2)
        DensityDisplay.from_estimator(model, X, n_draws=50, grid_resolution=5)


# -- columns that are refused --------------------------------------------------

DATES = pd.date_range("2026-01-01", periods=60)
CITIES = ["Paris", "Rome", "Oslo"] * 20
REFUSED = {
    "text": (frame(city=CITIES), "text in column 'city' (for example 'Paris')"),
    "text in two": (
        frame(a=CITIES, b=CITIES),
        "text in columns 'a' and 'b' (for example 'Paris')",
    ),
    "text in many": (
        pd.DataFrame(dict.fromkeys("abcdefgh", CITIES)),
        "text in columns 'a', 'b', 'c', 'd', 'e' and 3 more (for example 'Paris')",
    ),
    "strings": (
        frame(city=pd.array(CITIES, dtype="string")),
        "text in column 'city' (for example 'Paris')",
    ),
    "long text": (
        frame(note=["x" * 99] * 60),
        f"text in column 'note' (for example '{'x' * 39}...')",
    ),
    "dates": (frame(when=DATES), "dates or times in column 'when'"),
    "dates with a zone": (
        frame(when=DATES.tz_localize("UTC")),
        "dates or times in column 'when'",
    ),
    "periods": (frame(when=DATES.to_period("D")), "dates or times in column 'when'"),
    "durations": (frame(t=DATES - DATES[0]), "dates or times in column 't'"),
    "dates alone": (pd.DataFrame({"when": DATES}), "dates or times in column 'when'"),
    "text and dates": (
        frame(when=DATES, city=CITIES),
        "dates or times in column 'when' and text in column 'city' (for example",
    ),
    "categories": (
        frame(city=pd.Categorical(CITIES)),
        "categories in column 'city' (for example 'Paris')",
    ),
    "numbers as names": (
        pd.DataFrame({0: rows(60, 1)[:, 0], 1: CITIES}),
        "text in column 1 (for example 'Paris')",
    ),
    "polars text": (
        pl.DataFrame({"a": rows(60, 1)[:, 0], "city": CITIES}),
        "text in column 'city' (for example 'Paris')",
    ),
    "polars dates": (
        pl.DataFrame({"a": [1.0, 2.0], "when": [datetime.date(2026, 1, 1)] * 2}),
        "dates or times in column 'when'",
    ),
    "polars categories": (
        pl.DataFrame({"a": pl.Series(CITIES, dtype=pl.Categorical)}),
        "categories in column 'a' (for example 'Paris')",
    ),
    "objects": (
        np.array([[1.0, "a"]] * 9, dtype=object),
        "text in column 1 (for example 'a')",
    ),
    "strings in an array": (np.array([["1", "b"]]), "text in column 1 (for example"),
    "bytes": (np.array([[b"a"]]), "text in column 0 (for example b'a')"),
    "timestamps": (
        np.array([[1.0, pd.Timestamp("2026-01-01")]], dtype=object),
        "dates or times in column 1",
    ),
    "an array of dates": (DATES.to_numpy()[:, None], "dates or times in column 0"),
    "huge integers": (
        np.array([[1, 10**400]], dtype=object),
        "integers beyond the range of floating-point numbers in column 1",
    ),
    "dictionaries": (
        np.array([[1.0, {}]], dtype=object),
        "values of type dict in column 1 instead: float() argument must be a string or",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_columns_without_numbers_are_named(kind):
    X, got = REFUSED[kind]
    with pytest.raises(ValueError, match="GaussianKDE") as caught:
        clone(KDE).fit(X)
    rule = "The 'X' argument of GaussianKDE.fit must hold numbers only. Got "
    assert str(caught.value).startswith(rule + got)


def test_complex_columns_are_named():
    with pytest.raises(ValueError, match=r"Complex data not supp.*column 'a' inst"):
        clone(KDE).fit(frame(a=rows(60, 1)[:, 0] * 1j))


@pytest.mark.parametrize("container", [pd.DataFrame, pl.DataFrame])
def test_columns_with_nan_or_infinity_are_named(container):
    table = dict(zip("abc", rows(60, 3).T, strict=True))
    model = clone(KDE).fit(container(table))
    flow = NormalizingFlow()  # which takes no missing values
    for value, words, methods in (
        (np.nan, "NaN", [flow.fit, dequantize]),
        (np.inf, "infinity", [clone(KDE).fit, model.score_samples, model.transform]),
    ):
        bad = container(table | {"b": np.where(table["b"] > 1, value, table["b"])})
        for method in methods:
            with pytest.raises(ValueError, match=rf"^Input X .* {words}.* column 'b'"):
                method(bad)


def test_columns_of_an_array_with_nan_are_numbered(monkeypatch):
    monkeypatch.setattr("skgen._columns._SEARCHED", 7)  # a few rows at a time
    X = rows(60, 3)
    X[40, 2] = X[59, 0] = np.nan
    X[3, 1] = np.inf
    flow = NormalizingFlow()
    with pytest.raises(ValueError, match=r"contains NaN in columns 0 and 2\. Normal"):
        flow.fit(X)
    with pytest.raises(ValueError, match=r"^Input X contains NaN in columns 0 and 2\."):
        flow.fit(X.astype(object))
    with pytest.raises(ValueError, match=r"^Input X contains NaN in columns 0 and 2\."):
        dequantize(X)


def test_nullable_columns_with_missing_values_are_named():
    X = frame(a=pd.array([1.5, None] * 30, dtype="Float64"))
    with pytest.raises(
        ValueError, match=r"contains NaN in column 'a'.*GenerativeImputer"
    ):
        NormalizingFlow().fit(X)


@pytest.mark.parametrize("container", [pd.DataFrame, pl.DataFrame])
def test_columns_without_any_value_are_named(container):
    X = container({"a": rows(60, 1)[:, 0], "b": np.full(60, np.nan)})
    with pytest.raises(ValueError, match=r"GaussianKDE.fit .* only NaN in \[b\]"):
        clone(KDE).fit(X)
    X = frame(c=np.array([pd.NA] * 60, dtype=object))
    with pytest.raises(ValueError, match=r"only NaN in \[c\]"):
        clone(KDE).fit(X)


@pytest.mark.parametrize("container", [pd.Series, pd.array, pl.Series, list])
@pytest.mark.parametrize("dtype", ["Float64", "Int64", "boolean"])
def test_missing_weights_are_named(container, dtype):
    weights = pd.Series([1, None] * 30, dtype=dtype)
    if container in (list, pl.Series):
        weights = container([1.0, None] * 30)
    elif container is pd.array:
        weights = weights.array
    with pytest.raises(ValueError, match=r"sample_weight(' argument .*| contains )"):
        clone(KDE).fit(frame(), sample_weight=weights)


def test_booleans_numbers_in_strings_and_in_categories_are_numbers():
    x = rows(60, 1)[:, 0]
    X = frame(a=x > 1, b=[str(value) for value in x], c=pd.Categorical(x**2))
    with pytest.warns(match=r"in the columns \[a\]"):
        model = clone(KDE).fit(X)
    assert np.isfinite(model.score(X))


def test_other_errors_about_rows_stay_as_they_are():
    model = clone(KDE).fit(frame())
    bad = frame(city=CITIES)
    with pytest.raises(ValueError, match="feature names"):
        model.score_samples(bad)  # before the values are looked at
    with pytest.raises(ValueError, match="Expected 2D array"):
        model.fit([1.0, 2.0])


def test_text_among_latents_and_weights_is_named():
    model = clone(KDE).fit(frame())
    with pytest.raises(ValueError, match=r"'Z' argument of .*inverse_transform must"):
        model.inverse_transform(pd.DataFrame({"a": CITIES, "b": CITIES}))
    with pytest.raises(ValueError, match=r"Got text \(for example 'a'\) instead\."):
        model.fit(frame(), sample_weight=["a"] * 60)


@pytest.mark.parametrize(
    ("X", "column"),
    [
        (pd.DataFrame({"a": [1.0, 2.0], "b": [[1.0], [2.0]]}), "list in column 'b'"),
        (pl.DataFrame({"a": [1.0, 2.0], "b": [[1.0], [2.0]]}), "Series in column 'b'"),
        (np.array([[1.0, (2, 3)]], dtype=object), "tuple in column 1"),
        ([[1.0, [2.0, 3.0]], [1.0, 2.0]], "list in column 1"),
    ],
    ids="pandas polars objects lists".split(),
)
def test_columns_of_sequences_are_named(X, column):
    with pytest.raises(ValueError, match=f"of type {column} instead: [^.]*sequence"):
        clone(KDE).fit(X)


@pytest.mark.parametrize(
    ("X", "got"),
    [
        (pl.DataFrame({"a": [1.0, 2.0]}).lazy(), "type LazyFrame"),
        ({"a": [1.0, 2.0]}, "type dict"),
        (iter([[1.0], [2.0]]), "type list_iterator"),
        ({1.0, 2.0}, "type set"),
        ("t.csv", r"text \(for example 't.csv'\)"),
    ],
    ids="lazy dict iterator set path".split(),
)
@pytest.mark.parametrize("method", ["fit", "score_samples", "transform"])
@pytest.mark.filterwarnings("ignore:Determining the column names")  # of scikit-learn
def test_what_is_no_array_is_named(X, got, method):
    model = clone(KDE).fit([[1.0], [2.0]])
    with pytest.raises(
        ValueError, match=f"must hold numbers only. Got .*{got} instead"
    ):
        getattr(model, method)(X)


def test_rows_of_different_lengths_are_the_error_of_numpy():
    with pytest.raises(ValueError, match=r"^setting an array .* inhomogeneous shape"):
        clone(KDE).fit([[1.0, 2.0], [3.0]])


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


LAYOUTS = {
    "columns": np.asfortranarray,
    "strided": lambda X: np.repeat(np.repeat(X, 2, 0), 2, 1)[::2, ::2],
    "backwards": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "read only": read_only,
    "big-endian": lambda X: X.astype(">f8"),
    "long": lambda X: X.astype(np.longdouble),
    "objects": lambda X: X.astype(object),
    "strings": lambda X: X.astype(str),
    "lists": np.ndarray.tolist,
    "nullable": lambda X: pd.DataFrame(X).astype("Float64").rename(columns=str),
    "the same name for groups": lambda X: pd.DataFrame(X, columns=[["u", "u"], [0, 1]]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "model",
    [
        KDE,
        EMGaussianMixture(2, random_state=0),
        make_generative_pipeline(StandardScaler(), KDE),
        DensityOutlierDetector(KDE),
    ],
    ids=lambda model: type(model).__name__,
)
def test_the_layout_of_rows_changes_no_answer(layout, model):
    X = rows(60, 2)
    expected = clone(model).fit(X).score_samples(X)
    again = LAYOUTS[layout](X)
    scores = clone(model).fit(again).score_samples(again)
    np.testing.assert_allclose(scores, expected, rtol=1e-12, atol=1e-12)


def test_a_dataframe_of_booleans_is_dequantised():
    X = frame() > 1
    noisy = dequantize(X, random_state=0)
    np.testing.assert_array_equal(noisy > 0.5, X)
    assert np.unique(noisy).size == noisy.size


# -- masked arrays and objects that convert silently -----------------------------


def masked(X):
    return np.ma.masked_array(X, np.arange(X.size).reshape(X.shape) % 7 == 3)


@pytest.mark.parametrize(
    "X",
    [
        masked(rows(60, 2)),
        masked(rows(60, 2).astype(np.float32)),
        masked(np.arange(120).reshape(60, 2)),
        list(masked(rows(60, 2))),
        tuple(masked(rows(60, 2))),
    ],
    ids="float64 float32 integers list tuple".split(),
)
def test_masked_values_are_refused_in_every_argument(X):
    got = r"argument of .* must have no masked values\. Got 17 of them"
    model = clone(KDE).fit(rows(60, 2))
    methods = [NormalizingFlow().fit, dequantize]
    if isinstance(X, (list, tuple)):
        methods += [model.score_samples, model.score, model.transform, model.fit]
    for method in methods:
        with pytest.raises(ValueError, match=f"'X' {got}"):
            method(X)
    with pytest.raises(ValueError, match=f"'Z' {got}"):
        model.inverse_transform(X)
    with pytest.raises(ValueError, match=r"'sample_weight' argument of .* Got 1 of"):
        model.fit(rows(3, 2), sample_weight=[1.0, 2.0, np.ma.masked])
    with pytest.raises(ValueError, match=r"'y' argument of .*fit must have no masked"):
        GenerativeClassifier(KDE).fit(rows(60, 2), masked(np.arange(60) % 2))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_masked_values_are_missing_values(dtype):
    X = masked((9 * rows(60, 2)).astype(dtype))
    expected = X.filled(0).astype(np.float32 if dtype == np.float32 else np.float64)
    expected[X.mask] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ties
        model, same = clone(KDE).fit(X), clone(KDE).fit(expected)
    np.testing.assert_array_equal(model.X_train_, same.X_train_)
    scores = model.score_samples(X)
    np.testing.assert_array_equal(scores, model.score_samples(expected))
    da = pytest.importorskip("dask.array")
    lazy = da.ma.masked_array(da.from_array(X.data, 30), da.from_array(X.mask, 30))
    np.testing.assert_allclose(model.score_samples(lazy).compute(), scores, rtol=1e-6)


def test_masked_arrays_without_masked_values_are_arrays():
    X, model = rows(60, 2), clone(KDE)
    scores = model.fit(np.ma.masked_array(X)).score_samples(np.ma.masked_array(X))
    np.testing.assert_array_equal(scores, clone(KDE).fit(X).score_samples(X))
    assert type(scores) is np.ndarray


def test_masked_blocks_are_missing_values(tmp_path):
    X = masked(rows(60, 2))
    expected = EMGaussianMixture().fit(X.filled(np.nan)).means_

    def found(source):
        return EMGaussianMixture().fit(source).means_

    blocks = found(lambda: iter([X[:30], X[30:]]))
    np.testing.assert_allclose(blocks, expected, rtol=1e-6)
    np.save(tmp_path / "X.npy", X.data)
    on_disk = np.ma.masked_array(np.load(tmp_path / "X.npy", mmap_mode="r"), X.mask)
    with config_context(working_memory=0):
        np.testing.assert_allclose(found(on_disk), expected, rtol=1e-6)
    da = pytest.importorskip("dask.array")
    lazy = da.ma.masked_array(da.from_array(X.data, 30), da.from_array(X.mask, 30))
    np.testing.assert_allclose(found(lazy), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "parameters",
    [
        {"weights_init": np.ma.masked_array([0.5, 0.5], [True, False])},
        {"means_init": masked(np.ones((2, 4)))[:, 2:]},
        {"weights_init": np.array([1, 0], dtype="timedelta64[s]")},
        {"means_init": np.ones((2, 2), dtype="datetime64[s]")},
        {"means_init": [[np.timedelta64(1, "s"), 0], [0, 1]]},
        {"precisions_init": np.ones((2, 2, 2), dtype="datetime64[ns]")},
    ],
)
def test_parameters_with_masked_values_or_times_are_named(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=f"'{name}' parameter of"):
        EMGaussianMixture(2, **parameters).fit(rows(60, 2))
    with pytest.raises(ValueError, match=r"'bandwidth' parameter of"):
        GaussianKDE(masked(np.ones(9))[3:5]).fit(rows(60, 2))


@pytest.mark.parametrize("value", [np.datetime64("2020-01-01"), np.timedelta64(3, "s")])
@pytest.mark.parametrize("container", ["list", "objects", "pandas", "dates"])
def test_times_among_objects_are_named(value, container):
    X = [[1.0, value]] * 60
    if container != "list":
        X = np.array(X, dtype=object)
    if container == "pandas":
        X = pd.DataFrame({"1": X[:, 1]}, dtype=object)
    if container == "dates":
        X = [[value, value]] * 60
    for method in (clone(KDE).fit, clone(KDE).fit(rows(60, 2)).inverse_transform):
        with pytest.raises(ValueError, match=r"argument of .*dates or times in col.*1"):
            method(X)


def test_sparse_columns_and_records_are_named():
    sparse = pd.DataFrame({"a": pd.arrays.SparseArray(rows(60, 1)[:, 0])})
    with pytest.raises(ValueError, match=r"'X' argument .* must be dense\."):
        clone(KDE).fit(sparse)
    records = np.zeros(60, dtype=[("a", float), ("b", float)])
    with pytest.raises(ValueError, match=r"'X' argument .* numbers only"):
        clone(KDE).fit(records)
