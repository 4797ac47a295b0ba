"""Dataframes from samples and conditional means; seeds of composed estimators."""

import inspect

import numpy as np
import pandas as pd
import polars as pl
import pytest
from estimators import DETECTORS, PIPELINES, name, rows
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    QuantileTransformer,
    StandardScaler,
)

from skgen import (
    DensityDisplay,
    DensityOutlierDetector,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    GenerativePipeline,
    make_generative_pipeline,
)

LIBRARIES = {"pandas": pd, "polars": pl}
NAMES = ["width", "height", "age"]


def frame(library, X):
    return library.DataFrame(dict(zip(NAMES, X.T, strict=False)))


def scaled_mixture():
    density = EMGaussianMixture(2, random_state=0)
    return make_generative_pipeline(StandardScaler(), PCA(2), density)


def classes(n):
    return np.arange(n) % 2


# -- containers --------------------------------------------------------------------


@pytest.mark.parametrize("container", LIBRARIES)
@pytest.mark.parametrize("how", ["before", "after", "global"])
def test_samples_and_means_of_a_pipeline_are_dataframes(container, how):
    library, X = LIBRARIES[container], rows(60, 3)
    expected = scaled_mixture().fit(X)
    model = scaled_mixture()
    if how == "before":
        model.set_output(transform=container)
    model.fit(frame(library, X))
    if how == "after":
        model.set_output(transform=container)
    with config_context(transform_output=container if how == "global" else "default"):
        draws = model.sample(5, random_state=1)
        Z = model.transform(frame(library, X[:4]))
        means = model.inverse_transform(Z)
        other = model.inverse_transform(np.asarray(Z))
    assert isinstance(draws, library.DataFrame)
    assert isinstance(means, library.DataFrame)
    assert isinstance(other, library.DataFrame)
    assert list(draws.columns) == list(means.columns) == NAMES
    np.testing.assert_allclose(
        np.asarray(draws), expected.sample(5, random_state=1), rtol=1e-12
    )
    np.testing.assert_allclose(
        np.asarray(means), expected.inverse_transform(np.asarray(Z)), rtol=1e-12
    )
    np.testing.assert_array_equal(np.asarray(other), np.asarray(means))


def test_means_keep_the_index_of_their_latents():
    X = frame(pd, rows(60, 3))
    model = scaled_mixture().set_output(transform="pandas").fit(X)
    Z = model.transform(X.iloc[[7, 3]])
    assert model.inverse_transform(Z).index.tolist() == [7, 3]


@pytest.mark.parametrize("container", LIBRARIES)
@pytest.mark.parametrize("own", [False, True])
def test_samples_of_a_classifier_are_dataframes(container, own):
    library, X = LIBRARIES[container], rows(60, 3)
    plain = GenerativeClassifier(EMGaussianMixture()).fit(X, classes(60))
    model = clone(plain)
    if own:
        assert model.set_output(transform=container) is model
    model.fit(frame(library, X), classes(60))
    with config_context(transform_output="default" if own else container):
        draws = model.sample(y=[0, 1, 1], random_state=1)
        again = clone(model).fit(frame(library, X), classes(60)).sample(2)
    assert isinstance(draws, library.DataFrame)
    assert isinstance(again, library.DataFrame)
    assert list(draws.columns) == NAMES
    np.testing.assert_allclose(
        np.asarray(draws), plain.sample(y=[0, 1, 1], random_state=1), rtol=1e-12
    )
    assert type(model.set_output(transform="default").sample()) is np.ndarray
    assert type(model.set_output().sample()) is np.ndarray


def test_a_bad_container_of_a_classifier_is_named():
    model = GenerativeClassifier(GaussianKDE())
    message = (
        r"'transform' argument of GenerativeClassifier.set_output must be .*'spam'"
    )
    with pytest.raises(ValueError, match=message):
        model.set_output(transform="spam")


@pytest.mark.parametrize("container", LIBRARIES)
def test_arrays_without_names_stay_arrays(container):
    X = rows(60, 3)
    pipeline = scaled_mixture().set_output(transform=container).fit(X)
    classifier = GenerativeClassifier(EMGaussianMixture()).fit(X, classes(60))
    with config_context(transform_output=container):
        Z = pipeline.transform(X[:3])
        assert isinstance(Z, LIBRARIES[container].DataFrame)
        for drawn in (
            pipeline.sample(2),
            pipeline.inverse_transform(Z),
            classifier.sample(2),
        ):
            assert type(drawn) is np.ndarray


@pytest.mark.parametrize("container", LIBRARIES)
def test_dataframes_without_a_setting_give_arrays(container):
    X = frame(LIBRARIES[container], rows(60, 3))
    pipeline = scaled_mixture().fit(X)
    classifier = GenerativeClassifier(EMGaussianMixture()).fit(X, classes(60))
    for drawn in (
        pipeline.sample(2),
        pipeline.inverse_transform(pipeline.transform(X)),
        classifier.sample(2),
    ):
        assert type(drawn) is np.ndarray


def test_a_slice_answers_under_the_names_of_its_first_step():
    X = frame(pd, rows(60, 3))
    model = scaled_mixture().set_output(transform="pandas").fit(X)
    assert list(model[1:].sample(3, random_state=0).columns) == NAMES
    assert isinstance(model[1:].transform(X), pd.DataFrame)
    assert isinstance(model[2].sample(3), pd.DataFrame)
    model[1:].set_output(transform="default")
    assert isinstance(model.sample(), pd.DataFrame)


# -- estimators that use draws of others -------------------------------------------


@pytest.mark.parametrize("container", LIBRARIES)
@pytest.mark.parametrize("model", PIPELINES[:4], ids=name)
def test_draws_run_back_through_steps_that_return_dataframes(model, container):
    X = rows(60, 2)
    plain = clone(model).fit(X)
    model = clone(model).set_output(transform=container)
    model.fit(frame(LIBRARIES[container], X))
    draws = model.sample(20, random_state=0)
    assert list(draws.columns) == NAMES[:2]
    # The draws themselves may differ: rounding can flip the sign of an eigenvector.
    np.testing.assert_allclose(
        model.score_samples(draws), plain.score_samples(np.asarray(draws)), atol=1e-3
    )


@pytest.mark.parametrize("container", LIBRARIES)
@pytest.mark.parametrize(
    "step",
    [
        MinMaxScaler(clip=True),
        QuantileTransformer(n_quantiles=20),
        FunctionTransformer(
            np.exp, np.log, check_inverse=False, feature_names_out="one-to-one"
        ),
    ],
    ids=name,
)
def test_draws_outside_of_a_range_are_drawn_again_for_dataframes(step, container):
    X = rows(60, 3)
    density = GaussianMixture(2, random_state=0)
    model = make_generative_pipeline(step, density)
    plain = clone(model).fit(X).sample(40, random_state=0)
    with config_context(transform_output=container):
        model.fit(frame(LIBRARIES[container], X))
        draws = model.sample(40, random_state=0)
    assert isinstance(draws, LIBRARIES[container].DataFrame)
    np.testing.assert_allclose(np.asarray(draws), plain, rtol=1e-9)


@pytest.mark.parametrize("container", LIBRARIES)
@pytest.mark.parametrize(
    "density",
    [
        GaussianKDE(random_state=0),
        KernelDensity(bandwidth=0.5),
        make_generative_pipeline(StandardScaler(), GaussianKDE(random_state=0)),
    ],
    ids=name,
)
def test_classifiers_and_detectors_hold_densities_of_dataframes(density, container):
    X, library = rows(60, 3), LIBRARIES[container]
    for model in (GenerativeClassifier(density), DensityOutlierDetector(density)):
        plain = clone(model).fit(X, classes(60))
        with config_context(transform_output=container):
            model.fit(frame(library, X), classes(60))
            assert type(model.predict(frame(library, X))) is np.ndarray
            scores = model.score_samples(frame(library, X))
        np.testing.assert_allclose(scores, plain.score_samples(X), rtol=1e-9)
    with config_context(transform_output=container):
        model = GenerativeClassifier(density).fit(frame(library, X), classes(60))
        draws = model.sample(6, random_state=0)
    plain = GenerativeClassifier(density).fit(X, classes(60))
    np.testing.assert_allclose(
        np.asarray(draws), plain.sample(6, random_state=0), rtol=1e-9
    )


@pytest.mark.parametrize("container", LIBRARIES)
def test_pipelines_nest_where_steps_return_dataframes(container):
    X, library = rows(60, 3), LIBRARIES[container]
    inner = make_generative_pipeline(PCA(2), EMGaussianMixture(2, random_state=0))
    plain = make_generative_pipeline(StandardScaler(), inner).fit(X)
    theirs = make_pipeline(StandardScaler(), PCA(2), GaussianKDE())
    with config_context(transform_output=container):
        model = clone(plain).fit(frame(library, X))
        draws = model.sample(4, random_state=0)
        means = model.inverse_transform(model.transform(frame(library, X)))
        theirs.fit(frame(library, X))
        back = theirs.inverse_transform(theirs.transform(frame(library, X)))
    np.testing.assert_allclose(
        np.asarray(draws), plain.sample(4, random_state=0), rtol=1e-9
    )
    expected = plain.inverse_transform(plain.transform(X))
    np.testing.assert_allclose(np.asarray(means), expected, rtol=1e-9)
    assert np.asarray(back).shape == X.shape
    assert isinstance(theirs, Pipeline)


def test_displays_draw_from_pipelines_of_dataframes():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    X = frame(pd, rows(60, 3))
    model = scaled_mixture().set_output(transform="pandas").fit(X)
    DensityDisplay.from_estimator(model, X, random_state=0)
    pyplot.close("all")


# -- names of columns --------------------------------------------------------------


def test_functions_of_single_values_keep_the_names_of_columns():
    X = frame(pd, np.exp(rows(60, 3)))
    model = make_generative_pipeline(FunctionTransformer(np.log, np.exp), GaussianKDE())
    model.fit(X)
    assert model.get_feature_names_out().tolist() == NAMES
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)) > 0, True)
    model.set_output(transform="pandas")
    assert list(model.transform(X).columns) == NAMES


def test_unknown_functions_have_latents_with_names_of_their_own():
    step = FunctionTransformer(lambda X: np.log(X), lambda X: np.exp(X))
    model = make_generative_pipeline(step, EMGaussianMixture(2, random_state=0))
    model.fit(np.exp(rows(60, 3)))
    expected = ["emgaussianmixture0", "emgaussianmixture1"]
    assert model.get_feature_names_out().tolist() == expected
    assert model.inverse_transform(np.eye(2)).shape == (2, 3)


@pytest.mark.parametrize("library", [pd, pl])
@pytest.mark.parametrize(
    ("steps", "column"),
    [
        ([FunctionTransformer(np.log, np.exp, check_inverse=False)], "'height'"),
        (
            [
                MinMaxScaler(feature_range=(0, 1)),
                FunctionTransformer(np.log, np.exp),
            ],
            "columns 'width', 'height' and 'age'",
        ),
        ([PCA(1), FunctionTransformer(np.log)], "NaN in column 'pca0'"),
        ([FunctionTransformer(lambda X: np.log(np.asarray(X)))], "column 1"),
    ],
)
def test_a_step_that_returns_no_numbers_names_the_columns(library, steps, column):
    X = np.exp(rows(60, 3))
    X[5, 1] = 0.0
    model = make_generative_pipeline(*steps, GaussianKDE())
    with (
        np.errstate(divide="ignore", invalid="ignore"),
        pytest.raises(ValueError, match=f"fitted to n_samples=60, returns .*{column}"),
    ):
        model.fit(frame(library, X))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("before", [[], [StandardScaler()]], ids=["first", "second"])
def test_tied_quantiles_name_the_column(before):
    X = rows(200, 3)
    X[:, 1] = np.round(X[:, 1])
    step = QuantileTransformer(n_quantiles=20)
    model = make_generative_pipeline(*before, step, GaussianKDE())
    with pytest.raises(ValueError, match="Column 'height' has ties: add noise"):
        model.fit(frame(pd, X)).score(frame(pd, X))
    with pytest.raises(ValueError, match="Column 1 has ties: add noise"):
        model.fit(X).score(X)


# -- seeds -------------------------------------------------------------------------


@pytest.mark.parametrize("model", PIPELINES + DETECTORS, ids=name)
def test_composed_estimators_have_no_seed_of_their_own(model):
    assert "random_state" not in inspect.signature(type(model)).parameters
    for one in (clone(model), clone(model).fit(rows(60, 2))):
        assert not hasattr(one, "random_state")
        assert "random_state" not in vars(one)
    with pytest.raises(ValueError, match="Invalid parameter 'random_state'"):
        clone(model).set_params(random_state=0)


def test_a_classifier_has_no_seed_of_its_own():
    model = GenerativeClassifier(GaussianKDE(random_state=0))
    assert not hasattr(model, "random_state")
    model.fit(rows(60, 2), classes(60))
    assert not hasattr(model, "random_state")


@pytest.mark.parametrize(
    "last",
    [
        GaussianKDE(),
        GaussianMixture(2),
        make_pipeline(StandardScaler(), GaussianKDE()),
        make_generative_pipeline(StandardScaler(), GaussianKDE()),
    ],
    ids=name,
)
def test_draws_of_a_pipeline_follow_the_seed_of_the_last_step(last):
    X = rows(60, 2)
    model = GenerativePipeline([("scale", StandardScaler()), ("last", clone(last))])
    seed = next(p for p in model.get_params() if p.endswith("random_state"))
    model.set_params(**{seed: 3}).fit(X)
    np.testing.assert_array_equal(model.sample(5), model.sample(5))
    np.testing.assert_array_equal(model.sample(5), model.sample(5, random_state=3))
    assert not np.isin(model.sample(5, random_state=4), model.sample(5)).any()
    model.set_params(**{seed: None}).fit(X)
    assert not np.isin(model.sample(5), model.sample(5)).any()


def test_draws_of_a_classifier_follow_the_seed_of_its_density():
    density = make_generative_pipeline(StandardScaler(), GaussianKDE(random_state=3))
    model = GenerativeClassifier(density).fit(rows(60, 2), classes(60))
    np.testing.assert_array_equal(model.sample(5), model.sample(5))
    np.testing.assert_array_equal(model.sample(5), model.sample(5, random_state=3))


def test_a_bad_seed_names_the_estimator_that_has_it():
    density = GaussianKDE(random_state="zero")
    message = "The 'random_state' parameter of GaussianKDE must be"
    for last in (density, make_generative_pipeline(StandardScaler(), density)):
        with pytest.raises(ValueError, match=message):
            make_generative_pipeline(PCA(), last).fit(rows(60, 2))
