"""Bayes' rule over densities, and the rows that a density finds improbable."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from estimators import CLASSIFIERS, DETECTORS, SMALL, WRAPPERS, name, over, rows
from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgen import (
    VAE,
    DensityOutlierDetector,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    GenerativePipeline,
    dequantize,
    make_generative_pipeline,
)

EXACT = {"reg_covar": 0.0}


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return dequantize(X, random_state=0), y


# -- Bayes' rule -------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_independent_features_are_naive_bayes(iris, weighted):
    X, y = iris
    weights = np.random.RandomState(0).uniform(0.5, 2, y.size) if weighted else None
    theirs = GaussianNB(var_smoothing=0).fit(X, y, sample_weight=weights)
    density = EMGaussianMixture(covariance_type="diag", **EXACT)
    ours = GenerativeClassifier(density).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(
        ours.predict_log_proba(X), theirs.predict_log_proba(X), atol=1e-9
    )
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_allclose(ours.priors_, theirs.class_prior_)


def test_normal_densities_are_quadratic_discriminant_analysis(iris):
    X, y = iris
    priors = [0.2, 0.3, 0.5]
    theirs = QuadraticDiscriminantAnalysis(priors=priors).fit(X, y)
    ours = GenerativeClassifier(EMGaussianMixture(**EXACT), priors).fit(X, y)
    joint = [
        np.log(p) + density.score_samples(X)
        for p, density in zip(priors, ours.estimators_, strict=True)
    ]
    total = np.logaddexp.reduce(joint, axis=0)
    np.testing.assert_allclose(ours.score_samples(X), total, rtol=1e-12)
    np.testing.assert_allclose(
        ours.predict_proba(X), np.exp(np.transpose(joint) - total[:, None]), atol=1e-12
    )
    # They divide by n - 1 where EM divides by n.
    assert (ours.predict(X) == theirs.predict(X)).mean() > 0.98
    np.testing.assert_allclose(ours.predict_proba(X).sum(axis=1), 1)


def test_the_marginal_density_integrates_to_one():
    X = np.concatenate([rows(60, 1), rows(60, 1, seed=3) + 4])
    model = GenerativeClassifier(GaussianKDE()).fit(X, np.arange(120) // 60)
    x = np.linspace(-15, 20, 20_001)
    mass = np.exp(model.score_samples(x[:, None])).sum() * (x[1] - x[0])
    assert mass == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "yes"]),
        np.array([False, True]),
        np.array([-7, 12]),
        np.array([1.0, 2.0]),
        np.array(["b", "a"], dtype=object),
        pd.Categorical(["low", "high"]),
    ],
    ids=["text", "bool", "int", "float", "object", "categorical"],
)
def test_classes_are_labels_of_any_type(labels):
    X = np.concatenate([rows(40, 2), rows(40, 2, seed=1) + 9])
    y = np.asarray(labels)[np.arange(80) // 40]
    model = GenerativeClassifier(EMGaussianMixture()).fit(X, y)
    np.testing.assert_array_equal(model.classes_, np.unique(y))
    np.testing.assert_array_equal(model.predict(X), y)
    assert model.score(X, y) == 1
    one = model.sample(3, y[0], random_state=0)
    np.testing.assert_array_equal(model.predict(one), y[[0, 0, 0]])


def test_draws_of_given_classes_come_from_their_densities(iris):
    X, y = iris
    model = GenerativeClassifier(EMGaussianMixture()).fit(X, y)
    for c in range(3):
        draws = model.sample(20_000, c, random_state=0)
        expected = model.estimators_[c]
        np.testing.assert_allclose(draws.mean(axis=0), expected.means_[0], atol=0.03)
        np.testing.assert_allclose(np.cov(draws.T), expected.covariances_[0], atol=0.02)
    labels = np.random.RandomState(0).permutation(np.repeat([0, 2], 500))
    draws = model.sample(y=labels, random_state=1)
    assert draws.shape == (1000, 4)
    assert (model.predict(draws) == labels).mean() > 0.98


def test_draws_of_any_class_follow_the_priors():
    X = np.concatenate([rows(40, 2), rows(40, 2, seed=1) + 30])
    y = np.arange(80) // 40
    model = GenerativeClassifier(EMGaussianMixture(), [0.2, 0.8]).fit(X, y)
    draws = model.sample(10_000, random_state=0)
    assert model.predict(draws).mean() == pytest.approx(0.8, abs=0.015)
    classes = model.predict(draws)
    assert abs(np.corrcoef(classes[1:], classes[:-1])[0, 1]) < 0.03
    assert model.sample().shape == (1, 2)


def test_draws_are_seeded_by_the_density_or_by_the_call(iris):
    X, y = iris
    model = GenerativeClassifier(EMGaussianMixture(random_state=3)).fit(X, y)
    np.testing.assert_array_equal(model.sample(5), model.sample(5))
    np.testing.assert_array_equal(
        model.sample(5, random_state=1), model.sample(5, random_state=1)
    )
    fresh = GenerativeClassifier(EMGaussianMixture()).fit(X, y)
    assert not np.isin(fresh.sample(5), fresh.sample(5)).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, "rose"), r"'y' argument of .* of the classes \[0, 1, 2\]. Got 'rose'"),
        ((3, [0, 1]), r"'y' argument of .* n_samples=3 classes. Got an array of shape"),
        ((2, [0, 7]), r"'y' argument of .* Got 7 instead"),
        ((0,), "'n_samples' argument of GenerativeClassifier.sample"),
    ],
)
def test_bad_draws_are_named(iris, arguments, message):
    model = GenerativeClassifier(EMGaussianMixture()).fit(*iris)
    with pytest.raises(ValueError, match=message):
        model.sample(*arguments)


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ([0.5, 0.4, 0.2], "probabilities that sum to 1"),
        ([-0.5, 1.0, 0.5], "probabilities that sum to 1"),
        ([0.5, 0.5], "one for each class of 3"),
        ("uniform", r"Got 'uniform' instead"),
        ([[0.2, 0.3, 0.5]], "'priors' parameter of GenerativeClassifier"),
    ],
)
def test_bad_priors_are_named(iris, priors, message):
    with pytest.raises(ValueError, match=message):
        GenerativeClassifier(EMGaussianMixture(), priors).fit(*iris)


def test_a_weight_of_two_is_the_row_twice_and_of_zero_the_row_absent(iris):
    X, y = iris
    weights = np.random.RandomState(0).randint(0, 3, y.size)
    weights[y == 1] = 0  # a class without any weight is no class
    model = GenerativeClassifier(GaussianKDE())
    weighted = model.fit(X, y, sample_weight=weights).predict_log_proba(X)
    repeated = clone(model).fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    np.testing.assert_allclose(weighted, repeated.predict_log_proba(X), atol=1e-9)
    assert model.classes_.tolist() == [0, 2]


@pytest.mark.parametrize(
    "density",
    [VAE(1, **SMALL), make_generative_pipeline(PCA(1), GaussianKDE())],
    ids=name,
)
def test_a_density_that_takes_no_weights_is_named(iris, density):
    X, y = iris
    message = (
        r"'sample_weight' argument of GenerativeClassifier.fit must be None, because "
    )
    with pytest.raises(ValueError, match=message + type(density).__name__):
        GenerativeClassifier(density).fit(X, y, sample_weight=np.ones(y.size))


def test_a_row_where_every_density_is_zero_gets_the_priors():
    from sklearn.preprocessing import MinMaxScaler

    density = make_generative_pipeline(MinMaxScaler(clip=True), GaussianKDE())
    X = np.concatenate([rows(40, 2), rows(20, 2, seed=1) + 9])
    model = GenerativeClassifier(density).fit(X, np.arange(60) // 40)
    proba = model.predict_proba([[1e3, 1e3]])
    np.testing.assert_allclose(proba, [[2 / 3, 1 / 3]])
    assert model.score_samples([[1e3, 1e3]]) == -np.inf


def test_the_density_is_searched_for_by_accuracy(iris):
    X, y = iris
    model = GenerativeClassifier(
        GenerativePipeline([("pca", PCA(2)), ("model", GaussianKDE())])
    )
    grid = {
        "estimator__pca__n_components": [1, 3],
        "estimator__model": [GaussianKDE(), EMGaussianMixture(2, random_state=0)],
    }
    search = GridSearchCV(model, grid, cv=3).fit(X, y)
    assert search.best_score_ > 0.93


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_digits_are_told_apart():
    X, y = load_digits(return_X_y=True)
    scores = cross_val_score(GenerativeClassifier(GaussianKDE(5.0)), X, y, cv=3)
    assert scores.mean() > 0.95  # folds of other writers


@pytest.mark.parametrize(
    "density", [KernelDensity(bandwidth=0.5), GaussianMixture(random_state=0)]
)
def test_densities_of_scikit_learn_serve(iris, density):
    X, y = iris
    model = GenerativeClassifier(density).fit(X, y)
    assert model.score(X, y) > 0.95
    assert model.sample(4, random_state=0).shape == (4, 4)


# -- outliers ------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_offset_leaves_the_share_of_training_rows_below_it(share):
    X = rows(200, 2)
    model = DensityOutlierDetector(EMGaussianMixture(), share).fit(X)
    scores = model.score_samples(X)
    assert model.offset_ == pytest.approx(np.percentile(scores, 100 * share))
    assert (model.predict(X) == -1).sum() == pytest.approx(share * 200, abs=1)
    np.testing.assert_array_equal(model.decision_function(X), scores - model.offset_)
    np.testing.assert_array_equal(
        model.predict(X), np.where(scores < model.offset_, -1, 1)
    )
    np.testing.assert_array_equal(scores, EMGaussianMixture().fit(X).score_samples(X))


def test_far_rows_are_outliers():
    X = np.concatenate([rows(200, 2), [[60.0, -60.0], [70.0, 70.0]]])
    for density in (
        GaussianKDE(1.0),
        make_generative_pipeline(StandardScaler(), GaussianKDE()),
    ):
        detector = DensityOutlierDetector(density, contamination=0.02).fit(X)
        assert detector.predict(X)[200:].tolist() == [-1, -1]
        assert detector.predict([[80.0, 0.0], [0.0, 0.0]]).tolist() == [-1, 1]


@pytest.mark.parametrize("share", [0, 0.6, -0.1, "auto", True, np.nan])
def test_a_bad_contamination_is_named(share):
    with pytest.raises(
        ValueError, match="'contamination' parameter of DensityOutlierD"
    ):
        DensityOutlierDetector(GaussianKDE(), share).fit(rows(20, 2))


# -- both --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [GenerativeClassifier, DensityOutlierDetector])
@pytest.mark.parametrize(
    ("density", "message"),
    [
        (PCA, "'estimator' parameter of .* must be a density"),
        (StandardScaler(), r"must be a density, .* Got StandardScaler\(\) instead"),
        (
            make_pipeline(StandardScaler(), GaussianKDE()),
            "a pipeline must be a GenerativePipeline",
        ),
    ],
)
def test_what_is_no_density_is_named(kind, density, message):
    with pytest.raises(ValueError, match=message):
        kind(density).fit(rows(20, 2), np.arange(20) % 2)


@over(WRAPPERS)
@pytest.mark.parametrize("library", [pd, pl])
def test_names_of_columns_are_kept(model, library):
    X, y = rows(60, 2), np.arange(60) % 2
    frame = library.DataFrame(dict(zip(["width", "height"], X.T, strict=True)))
    model = clone(model).fit(frame, y)
    assert model.feature_names_in_.tolist() == ["width", "height"]
    inner = getattr(model, "estimator_", None) or model.estimators_[0]
    assert inner.feature_names_in_.tolist() == ["width", "height"]
    np.testing.assert_allclose(
        model.score_samples(frame),
        clone(model).fit(X, y).score_samples(X),
        rtol=1e-9,
    )
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["height", "width"]])


@over(WRAPPERS)
def test_a_failed_fit_loses_nothing(model):
    X, y = rows(60, 2), np.arange(60) % 2
    model = clone(model).fit(X, y)
    before = model.score_samples(X)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.full((9, 3), np.nan), np.arange(9) % 2)
    np.testing.assert_array_equal(model.score_samples(X), before)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.score_samples(X), before)


@over(WRAPPERS)
def test_progress_and_the_html_view_show_the_density(model, capsys):
    model = clone(model).set_callbacks(ProgressBar())
    model.fit(rows(60, 2), np.arange(60) % 2)
    assert type(model.estimator).__name__ in capsys.readouterr().out
    assert type(model.estimator).__name__ in model._repr_html_()


def test_weights_are_routed(iris):
    X, y = iris
    weights = np.random.RandomState(0).uniform(1, 2, y.size)
    with config_context(enable_metadata_routing=True):
        model = CLASSIFIERS[0]
        routed = clone(model).set_fit_request(sample_weight=True)
        routed.set_score_request(sample_weight=True)
        search = GridSearchCV(routed, {"estimator__reg_covar": [1e-6, 1e-2]}, cv=2)
        search.fit(X, y, sample_weight=weights)
    assert search.best_score_ > 0.9


@over(WRAPPERS)
def test_bad_rows_are_named(model):
    y = np.arange(9) % 2
    with pytest.raises(ValueError, match=r"'X' argument of .* numbers only"):
        clone(model).fit([["a", "b"]] * 9, y)
    with pytest.raises(ValueError, match=r"must lie within 1e.150"):
        clone(model).fit(rows(9, 2) * 1e160, y)


def test_detectors_need_no_draws():
    class OnlyScores(KernelDensity):
        sample = property()

    assert DETECTORS[0]._methods == ("fit", "score_samples")
    model = DensityOutlierDetector(OnlyScores()).fit(rows(60, 2))
    assert set(model.predict(rows(60, 2))) == {-1, 1}


def test_ties_are_told_of_once():
    X, y = np.round(rows(90, 2)), np.arange(90) % 3
    with pytest.warns(UndefinedMetricWarning) as caught:
        GenerativeClassifier(GaussianKDE(1.0)).fit(
            pd.DataFrame(X, columns=["a", "b"]), y
        )
    assert len(caught) == 1
    assert "[a, b]" in str(caught[0].message)
    with pytest.warns(UndefinedMetricWarning) as caught:
        DensityOutlierDetector(GaussianKDE(1.0)).fit(X)
    assert len(caught) == 1


def test_a_detector_leaves_its_density_as_it_is():
    density = GaussianKDE()
    model = DensityOutlierDetector(density).fit(rows(60, 2))
    assert not hasattr(density, "X_train_")
    assert model.estimator_ is not density
