"""Dask rows: fits by sums that the workers make, and lazy answers of all models."""

import pickle
import subprocess
import sys
from contextlib import contextmanager
from functools import cache, partial

import numpy as np
import pytest
from estimators import WITH_SCORES, over, thorough
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")

from skgen import EMGaussianMixture, SGDGaussianMixture  # noqa: E402
from skgen.mixture._restarts import level_sizes  # noqa: E402

FITTED = ("weights_", "means_", "covariances_", "lower_bound_", "n_iter_", "converged_")
ANSWERS = ("score_samples", "predict", "predict_proba", "transform")

# More rows than the sample that starts are found in.
MANY = 17_000


@pytest.fixture(autouse=True)
def synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


def rows(n, d=3, dtype=np.float64):
    rng = np.random.RandomState(0)
    centres = 1.5 * rng.standard_normal((3, d))
    X = rng.standard_normal((n, d)) + centres[rng.randint(0, 3, n)]
    return X.astype(dtype)


def weights(n):
    return np.random.RandomState(1).uniform(0.01, 2.0, n)


def mixture(**parameters):
    return EMGaussianMixture(3, **{"tol": 1e-2, "random_state": 0} | parameters)


def start(d=3):
    return {
        "weights_init": np.full(3, 1 / 3),
        "means_init": np.random.RandomState(2).standard_normal((3, d)),
        "precisions_init": np.tile(np.eye(d), (3, 1, 1)),
    }


def check_same(one, other):
    for name in FITTED:
        given, expected = getattr(one, name), getattr(other, name)
        assert_allclose(given, expected, rtol=1e-9, atol=1e-9, err_msg=name)


@contextmanager
def computations(fails_at=None, error=AssertionError):
    """Collect what computations bring to the client; let one of them fail."""
    brought = []

    def get(graph, keys, **options):
        if len(brought) == fails_at:
            raise error("computed")
        brought.append(dask.get(graph, keys))
        return brought[-1]

    with dask.config.set(scheduler=get):
        yield brought


# -- the fit -----------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_fit_equals_the_fit_in_memory(covariance_type, dtype, weighted):
    X, w = rows(MANY, dtype=dtype), weights(MANY) if weighted else None
    assert level_sizes(MANY, 3, 3)
    lazy_w = da.from_array(w, chunks=2_900) if weighted else None
    lazy_X = da.from_array(X, chunks=((4_000, 0, 5_000, 8_000), (2, 1)))
    model = mixture(covariance_type=covariance_type)
    model.fit(lazy_X, sample_weight=lazy_w)
    in_memory = mixture(covariance_type=covariance_type).fit(X, sample_weight=w)
    check_same(model, in_memory)
    assert model.n_iter_ > 1
    assert model.sample(5).dtype == dtype


@pytest.mark.parametrize("n", [60, MANY])
@pytest.mark.parametrize("init", ["kmeans", "k-means++", "random", "random_from_data"])
def test_starts_are_those_in_memory(init, n):
    parameters = {"init_params": init, "n_init": 2, "tol": 10.0}
    X = rows(n)
    model = mixture(**parameters).fit(da.from_array(X, chunks=(n // 3, 3)))
    check_same(model, mixture(**parameters).fit(X))


@pytest.mark.parametrize("n_blocks", [1, 2, 7, 8, 9, thorough(65)])
def test_sums_of_any_number_of_blocks(n_blocks):
    X, w = rows(650), weights(650)
    ends = np.sort(np.random.RandomState(n_blocks).randint(0, 651, n_blocks - 1))
    sizes = tuple(np.diff([0, *ends, 650]).tolist())
    model = mixture(**start()).fit(
        da.from_array(X, chunks=(sizes, 3)), sample_weight=da.from_array(w, chunks=100)
    )
    check_same(model, mixture(**start()).fit(X, sample_weight=w))


def test_rows_of_weight_zero_are_absent():
    X, w = rows(600), weights(600)
    w[100:300] = 0.0  # one block whole, and parts of others
    w[350:360] = 0.0
    model = mixture().fit(
        da.from_array(X, chunks=(75, 3)), sample_weight=da.from_array(w, chunks=75)
    )
    check_same(model, mixture().fit(X[w > 0], sample_weight=w[w > 0]))
    model.fit(da.from_array(X, chunks=(75, 3)), sample_weight=w)
    check_same(model, mixture().fit(X, sample_weight=w))


def test_large_blocks_are_summed_in_parts(monkeypatch):
    monkeypatch.setattr("skgen.rows._source._BLOCK", 100)
    X, w = rows(600), weights(600)
    w[100:300] = 0.0
    model = mixture().fit(
        da.from_array(X, chunks=(250, 3)), sample_weight=da.from_array(w, chunks=300)
    )
    check_same(model, mixture().fit(X, sample_weight=w))


def test_unknown_chunk_sizes():
    X, w = rows(2_000), weights(2_000)
    lazy, lazy_w = da.from_array(X, chunks=(300, 2)), da.from_array(w, chunks=300)
    kept = lazy[:, 0] > 0
    model = mixture().fit(lazy[kept], sample_weight=lazy_w[kept])
    in_memory = mixture().fit(X[X[:, 0] > 0], sample_weight=w[X[:, 0] > 0])
    check_same(model, in_memory)
    answers = model.transform(lazy[kept])
    assert np.isnan(answers.shape[0])
    assert_allclose(answers.compute(), in_memory.transform(X[X[:, 0] > 0]), atol=1e-9)
    check_same(model.fit(lazy[kept], sample_weight=3), mixture().fit(X[X[:, 0] > 0]))


def test_dataframe():
    X, w = rows(2_000), weights(2_000)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    lazy = dd.from_pandas(frame, npartitions=6)
    lazy_w = dd.from_pandas(pd.Series(w), npartitions=6)
    model = mixture().fit(lazy, sample_weight=lazy_w)
    in_memory = mixture().fit(frame, sample_weight=w)
    check_same(model, in_memory)
    assert_array_equal(model.feature_names_in_, ["a", "b", "c"])
    for method in ANSWERS:
        answer = getattr(model, method)(lazy)
        assert isinstance(answer, da.Array)
        assert_allclose(answer.compute(), getattr(model, method)(frame), atol=1e-12)
    expected = model.score(frame, sample_weight=w)
    assert model.score(lazy, sample_weight=lazy_w) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(lazy.rename(columns={"a": "z"}))
    with pytest.raises(ValueError, match=r"'sample_weight' .* unknown sizes"):
        mixture().fit(lazy, sample_weight=w)


TYPES = ["int64", "Int64", "Float64", "double[pyarrow]", "float32", "mixed"]


@pytest.mark.parametrize("types", TYPES)
def test_data_types_of_dataframes(types):
    frame = pd.DataFrame(np.rint(1e3 * rows(500)), columns=["a", "b", "c"])
    mixed = {"a": "int16", "b": "float32", "c": "float32"}
    frame = frame.astype(mixed if types == "mixed" else types)
    lazy = dd.from_pandas(frame, npartitions=3)
    model, in_memory = mixture().fit(lazy), mixture().fit(frame)
    check_same(model, in_memory)
    answer, expected = model.score_samples(lazy), in_memory.score_samples(frame)
    assert answer.dtype == answer.compute().dtype == expected.dtype
    assert_allclose(answer.compute(), expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Most values occur more than once")
@pytest.mark.parametrize("dtype", [np.int8, np.int64, object, ">f8"])
def test_data_types_of_arrays(dtype):
    X = np.rint(10 * rows(500)).astype(np.int8) + rows(500) * (dtype in (object, ">f8"))
    lazy = da.from_array(X.astype(dtype), chunks=(99, 3))
    model = mixture(**start()).fit(lazy)
    check_same(model, mixture(**start()).fit(da.from_array(X.astype(float))))
    assert model.sample(2).dtype == np.float64
    assert model.score_samples(lazy).compute().dtype == np.float64


def test_warm_start_and_fits_of_one_estimator():
    X = rows(2_000)
    lazy = da.from_array(X, chunks=(300, 3))
    model = mixture(warm_start=True, tol=1e-1).fit(lazy).set_params(tol=1e-4).fit(lazy)
    in_memory = mixture(warm_start=True, tol=1e-1).fit(X).set_params(tol=1e-4).fit(X)
    check_same(model, in_memory)
    assert_array_equal(model.fit_predict(lazy).compute(), in_memory.fit_predict(X))
    codes = model.fit_transform(lazy)
    assert isinstance(codes, da.Array)
    assert_allclose(codes.compute(), in_memory.fit_transform(X), atol=1e-9)


def test_tasks_start_no_threads(monkeypatch):
    def pool(n):
        raise AssertionError("threads")

    X = rows(200_000, 8)
    expected = mixture(**start(8), tol=9.0).fit(X)
    lazy = da.from_array(X, chunks=(100_000, 8))
    monkeypatch.setattr("skgen._threads.ThreadPoolExecutor", pool)
    monkeypatch.setattr("skgen._threads.most_threads", lambda: 4)
    with dask.config.set(scheduler="threads"):
        check_same(mixture(**start(8), tol=9.0).fit(lazy), expected)
        expected.predict(lazy).compute()
    with pytest.raises(AssertionError, match="threads"):
        expected.predict(X)


# -- what travels ------------------------------------------------------------------


def test_rows_are_never_gathered():
    n, d = 200_000, 4
    X = rows(n, d)
    lazy = da.from_array(X, chunks=(5_000, d))
    with computations() as brought:
        model = mixture(max_iter=2, tol=9.0).fit(lazy)
    sizes = sorted(len(pickle.dumps(result)) for result in brought)
    assert sizes[-1] < 8 * (d + 2) * level_sizes(n, d, 3)[-1] + 2_000 < X.nbytes / 5
    assert sizes[-2] < 5_000  # all but the sample are sums
    with computations() as brought:
        model.score(lazy)
        model.bic(lazy, sample_weight=da.ones(n, chunks=5_000))
    assert len(brought) == 2
    assert max(len(pickle.dumps(result)) for result in brought) < 5_000


def test_fitted_estimator_travels_without_dask():
    lazy = da.from_array(rows(500), chunks=(100, 3))
    model = mixture().fit(lazy)
    assert b"dask" not in pickle.dumps(model)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(lazy).compute(), model.predict(rows(500)))


@pytest.mark.process
def test_dask_is_not_imported_without_need():
    code = (
        "import sys, numpy as np; from skgen import EMGaussianMixture as EM; "
        "EM().fit(np.eye(5)[:, :2] + np.arange(5)[:, None] / 7).predict(np.eye(2)); "
        "sys.exit('dask' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=300, check=False)
    assert done.returncode == 0


# -- answers -----------------------------------------------------------------------


def fitted(kind, dtype=np.float64):
    X = rows(400, dtype=dtype)
    if kind is SGDGaussianMixture:
        return SGDGaussianMixture(3, random_state=0).partial_fit(X)
    return mixture().fit(X)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", [EMGaussianMixture, SGDGaussianMixture])
@pytest.mark.parametrize("method", ANSWERS)
def test_answers_are_lazy_dask_arrays(kind, method, dtype):
    X, model = rows(1_000, dtype=dtype), fitted(kind, dtype)
    lazy = da.from_array(X, chunks=((300, 0, 700), 2))
    with computations(fails_at=0):
        answer = getattr(model, method)(lazy)
    expected = getattr(model, method)(X)
    assert isinstance(answer, da.Array)
    assert answer.shape == expected.shape
    assert answer.chunks[0] == (300, 0, 700)
    assert answer.dtype == answer._meta.dtype == expected.dtype
    computed = answer.compute()
    assert computed.dtype == expected.dtype
    assert_allclose(computed, expected, rtol=1e-6 if dtype == np.float32 else 1e-12)
    assert_allclose(answer[:10].compute(), expected[:10], rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("method", ["score", "bic", "aic"])
def test_figures_are_computed(method, weighted):
    X, model = rows(1_000), fitted(EMGaussianMixture)
    w = weights(1_000) if weighted else None
    lazy_w = da.from_array(w, chunks=333) if weighted else None
    lazy = da.from_array(X, chunks=(300, 3))
    figure = getattr(model, method)(lazy, sample_weight=lazy_w)
    assert type(figure) is float
    expected = getattr(model, method)(X, sample_weight=w)
    assert figure == pytest.approx(expected, rel=1e-12)


ROW_WISE = (*ANSWERS, "predict_log_proba", "decision_function", "inverse_transform")


@cache
def fitted_to(model, in_frame):
    """Return a model of 60 rows, fitted to an array or to a dataframe."""
    X, y = rows(60), np.arange(60) % 2
    return clone(model).fit(pd.DataFrame(X, columns=list("abc")) if in_frame else X, y)


def on_dask(X, in_frame):
    """Return rows in memory as a model was fitted to, and on Dask in two blocks."""
    if in_frame:
        X = pd.DataFrame(X, columns=list("abc")[: X.shape[1]])
        return X, dd.from_pandas(X, npartitions=2)
    return X, da.from_array(X, chunks=(X.shape[0] // 2, 1))


@pytest.mark.parametrize("dtype", [np.float64, thorough(np.float32)])
@pytest.mark.parametrize("in_frame", [False, True])
@over(WITH_SCORES)
def test_every_model_answers_lazily(model, in_frame, dtype):
    model = fitted_to(model, in_frame)
    for method in filter(partial(hasattr, model), ROW_WISE):
        X = rows(20).astype(dtype)
        if method == "inverse_transform":
            X = np.asarray(model.transform(on_dask(X, in_frame)[0]))
        X, lazy = on_dask(X, in_frame and method != "inverse_transform")
        with computations(fails_at=0):
            answer = pickle.loads(pickle.dumps(getattr(model, method)(lazy)))
        expected, found = getattr(model, method)(X), answer.compute()
        assert isinstance(answer, da.Array)
        assert answer.shape[1:] == expected.shape[1:]
        assert answer.dtype == found.dtype == expected.dtype
        if expected.dtype.kind == "f":
            assert_allclose(found, expected, rtol=1e-6, atol=1e-10)
        else:
            assert_array_equal(found, expected)


@over([model for model in WITH_SCORES if hasattr(model, "score")])
def test_scores_are_the_scores_in_memory(model):
    model = fitted_to(model, False)
    (X, lazy), w = on_dask(rows(20), False), weights(20)
    y, lazy_y = (np.arange(20) % 2, da.arange(20, chunks=7) % 2)
    expected = model.score(X, y, sample_weight=w)
    found = model.score(lazy, lazy_y, sample_weight=da.from_array(w, chunks=20))
    assert type(found) is float
    assert found == pytest.approx(expected, rel=1e-10)


@over(WITH_SCORES)
def test_lazy_answers_are_of_the_model_at_the_time(model):
    X, y = rows(60), np.arange(60) % 2
    again, lazy = clone(model).fit(X, y), on_dask(X, False)[1]
    answer, expected = again.score_samples(lazy), again.score_samples(X)
    if hasattr(again, "partial_fit"):
        again.partial_fit(2 * X)  # trains the same net
    else:
        again.fit(2 * X, y)
    assert np.abs(again.score_samples(X) - expected).max() > 1e-3
    assert_allclose(answer.compute(), expected, rtol=1e-10)


@pytest.mark.parametrize("in_frame", [thorough(False), True])
@over(WITH_SCORES)
def test_lazy_answers_name_what_is_wrong(model, in_frame):
    model, X = fitted_to(model, in_frame), rows(20)
    X[13, 1] = np.inf
    column = "'b'" if in_frame else "1"
    answer = model.score_samples(on_dask(X, in_frame)[1])
    with pytest.raises(
        ValueError, match=f"Input X contains infinity.* in column {column}"
    ):
        answer.compute()
    few = on_dask(X, in_frame)[1][["a", "b"]] if in_frame else LAZY[:, :2]
    with pytest.raises(ValueError, match=r"2 features|feature names should match"):
        model.score_samples(few)
    with pytest.raises(ValueError, match="not fitted"):
        clone(model).score_samples(LAZY)


def test_missing_names_are_mentioned_once():
    model, X = fitted_to(WITH_SCORES[1], True), LAZY.compute()
    for answer in (model.score, lambda X: np.asarray(model.transform(X))):
        for given in (X, LAZY):
            with pytest.warns(UserWarning, match="valid feature names") as warned:
                answer(given)
            assert len(warned) == 1


def test_latents_on_dask_are_checked():
    model = fitted_to(WITH_SCORES[1], False)
    with pytest.raises(ValueError, match=r"'Z' argument .* 3 columns.* Got 2 columns"):
        model.inverse_transform(LAZY[:, :2])
    with pytest.raises(ValueError, match="must hold numbers only"):
        model.inverse_transform(LAZY.astype("U5"))


def test_set_output_does_not_compute():
    lazy = da.from_array(rows(400), chunks=(100, 3))
    model = fitted(EMGaussianMixture).set_output(transform="pandas")
    assert isinstance(model.transform(rows(5)), pd.DataFrame)
    with computations(fails_at=0):
        assert isinstance(model.transform(lazy), da.Array)
    assert isinstance(model.fit_transform(lazy), da.Array)
    assert isinstance(model.fit_transform(rows(400)), pd.DataFrame)


def test_later_fits_do_not_change_answers():
    lazy = da.from_array(rows(400), chunks=(100, 3))
    model = fitted(SGDGaussianMixture)
    answer, expected = model.score_samples(lazy), model.score_samples(rows(400))
    model.means_[:] += 1.0
    model.partial_fit(rows(400) + 1)
    assert np.abs(model.score_samples(rows(400)) - expected).max() > 1e-3
    assert_allclose(answer.compute(), expected, rtol=1e-12)


# -- errors ------------------------------------------------------------------------

LAZY = da.from_array(rows(60), chunks=(10, 3))


def spoiled(value):
    X = rows(60)
    X[45, 1] = value
    return da.from_array(X, chunks=(10, 3))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (spoiled(np.inf), "Input X contains infinity"),
        (spoiled(1e200), "The 'X' argument of EMGaussianMixture must lie within"),
        (LAZY[:, 0], "'X' .* two-dimensional.* Got shape \\(60,\\) instead"),
        (LAZY[LAZY > 0], "two-dimensional"),
        (LAZY[:, :0], "0 feature"),
        (LAZY[:0], "0 sample"),
        (LAZY[LAZY[:, 0] > 99], "0 sample"),
        (LAZY[:1], "at least 2 rows"),
        (LAZY[:2], "'n_components' .* n_samples = 2. Got 3 instead"),
        (LAZY.astype(complex), "Complex data"),
        (LAZY.astype("U5"), "must hold numbers only"),
        (dask.delayed(rows)(60), "a Dask array or dataframe.* Got Delayed"),
    ],
)
def test_errors_of_rows(X, message):
    model = mixture().fit(rows(50, 2))
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.fit(X)
    assert vars(model) == before


def test_text_in_a_dataframe_is_an_error():
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": ["x", "y", "z", "u"]})
    with pytest.raises(ValueError, match="must hold numbers only"):
        mixture().fit(dd.from_pandas(frame, npartitions=2))


def of_60(value=1.0):
    w = np.ones(60)
    w[45] = value
    return da.from_array(w, chunks=20)


@pytest.mark.parametrize(
    ("sample_weight", "message"),
    [
        (of_60(np.nan), "sample_weight contains NaN"),
        (of_60(-1.0), "'sample_weight' .* nowhere negative. Got -1.0 instead"),
        (0 * of_60(), "weight of zero for every row"),
        (0, "weight of zero for every row"),
        (of_60()[:59], "an array of shape \\(60,\\). Got shape \\(59,\\) instead"),
        (np.ones(59), "an array of shape \\(60,\\)"),
        (LAZY, "'sample_weight' .* one-dimensional"),
        (of_60()[of_60() > 0], "in 6 blocks like 'X'.* Got 3 blocks"),
        (of_60().rechunk(10)[of_60().rechunk(10) != of_60(2.0)], "same lengths as"),
        (da.full(60, 1e308, chunks=10), "of a finite sum"),
        (da.full(60, 1.5e307, chunks=10), "of a finite sum. Got inf instead"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_errors_of_weights(sample_weight, message):
    with pytest.raises(ValueError, match=message):
        mixture().fit(LAZY, sample_weight=sample_weight)


@pytest.mark.parametrize("value", [np.inf, 1e200])
def test_a_row_of_weight_zero_is_checked(value):
    w = of_60(0.0)
    with pytest.raises(ValueError, match=r"in column 1|must lie within"):
        mixture().fit(spoiled(value), sample_weight=w)
    with pytest.raises(ValueError, match=r"in column 1|must lie within"):
        mixture().fit(spoiled(value).compute(), sample_weight=w.compute())


@pytest.mark.parametrize("method", ANSWERS)
def test_errors_of_answers(method):
    answer = getattr(fitted(EMGaussianMixture), method)
    with pytest.raises(ValueError, match="X has 2 features, but EMGaussianMixture"):
        answer(LAZY[:, :2])
    lazy = answer(spoiled(np.inf))  # known to nobody yet
    with pytest.raises(ValueError, match=r"Input X contains infinity.* in column 1"):
        lazy.compute()
    with pytest.raises(ValueError, match="not fitted"):
        getattr(mixture(), method)(LAZY)


def test_an_interrupted_fit_leaves_what_was_fitted():
    model = mixture().fit(LAZY)
    before = dict(vars(model))
    with computations(fails_at=4, error=KeyboardInterrupt) as brought:
        with pytest.raises(KeyboardInterrupt):
            model.fit(LAZY[10:])
    assert len(brought) == 4
    assert vars(model) == before


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.array", None)
    hint = r'^Dask input needs dask\. Install with: pip install ".+\[dask\]"$'
    with pytest.raises(ImportError, match=hint):
        mixture().fit(LAZY)


def test_answers_for_rows_whose_squares_overflow_are_refused():
    model = fitted(EMGaussianMixture)
    lazy = model.score_samples(spoiled(1e160))
    with pytest.raises(ValueError, match=r"'X' argument .* must lie within 1e\+150"):
        lazy.compute()


def test_one_weight_for_all_rows_counts():
    model, X = fitted(EMGaussianMixture), rows(60)
    lazy = da.from_array(X, chunks=(20, 3))
    for weight in (0.5, 3.0):
        expected = model.bic(X, sample_weight=weight)
        assert model.bic(lazy, sample_weight=weight) == pytest.approx(expected)


def test_columns_of_a_dataframe_with_infinity_are_named():
    frame = pd.DataFrame(rows(60), columns=["width", "height", "age"])
    table = dd.from_pandas(frame, npartitions=3)
    model = mixture().fit(table)
    frame.loc[45, "height"] = np.inf
    bad = dd.from_pandas(frame, npartitions=3)
    message = "^Input X contains infinity.* in column 'height'"
    for answer in (mixture().fit, lambda X: model.transform(X).compute()):
        with pytest.raises(ValueError, match=message):
            answer(bad)


def test_importance_weights_on_dask_are_worth_as_many_rows_as_in_memory():
    X, w = rows(120), weights(120)
    lazy = da.from_array(X, chunks=(50, 3))
    model = mixture().fit(X, sample_weight=w)
    for weighting in (da.from_array(w, chunks=50), w, 3e20 * w):
        assert mixture().fit(lazy, sample_weight=weighting)._spread.weight == (
            pytest.approx(w.sum() ** 2 / (w @ w), rel=1e-12)
        )
        for figure in (model.bic, model.aic, model.score):
            expected = figure(X, sample_weight=1e200 * w)
            assert figure(lazy, sample_weight=weighting) == pytest.approx(expected)


def test_underflow_in_blocks_is_no_error_whatever_the_caller_raises():
    X = rows(120)
    X[::2] += 50
    lazy = da.from_array(X, chunks=(50, 3))
    with np.errstate(all="raise"):
        model = mixture().fit(lazy)
        assert_allclose(model.score(lazy), model.score(X))
        assert_allclose(model.predict_proba(lazy).compute(), model.predict_proba(X))
