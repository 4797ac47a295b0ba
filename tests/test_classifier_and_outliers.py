"""Bayes' rule over densities, and the rows that a density finds improbable."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from estimators import (
    CLASSIFIERS,
    DETECTORS,
    SMALL,
    WRAPPERS,
    name,
    over,
    rows,
    thorough,
)
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ProgressBar
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import has_fit_parameter

from skgen import (
    VAE,
    DensityOutlierDetector,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    GenerativePipeline,
    SGDGaussianMixture,
    dequantize,
    make_generative_pipeline,
)
from skgen.compose._outliers import lower_fence, medcouple, quantiles
from skgen.neural._model import InterruptedFit

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


@pytest.mark.parametrize("scale", [1e-30, 1 / 3, 1e30])
@pytest.mark.parametrize(
    "density", [GaussianKDE(), EMGaussianMixture(2, random_state=0)], ids=name
)
def test_only_ratios_of_importance_weights_count(iris, density, scale):
    X, y = iris
    weights = np.random.RandomState(0).exponential(size=y.size)
    weights[y == 1] = np.rint(1 + weights[y == 1])  # whole in one class alone
    weights[::9] = 0
    found = []
    for w in (weights, scale * weights):
        model = GenerativeClassifier(density).fit(X, y, sample_weight=w)
        detector = DensityOutlierDetector(density).fit(X, sample_weight=w)
        found.append((model.predict_proba(X), detector.offset_))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6, atol=1e-12)
    assert found[0][1] == pytest.approx(found[1][1])


@pytest.mark.parametrize("scale", [1, 1 / 3, np.pi, 1e-9, 1e30])
@pytest.mark.parametrize("rule", ["scott", "silverman", "isj", "likelihood"])
def test_weights_that_balance_classes_count_no_rows(rule, scale):
    # They are 3 and 0.75, or 2 and 0.5 effective rows: whole numbers in one class.
    y = np.repeat([0, 1, 2], [25, 100, 100])
    X = rows(225, 1) + 4 * y[:, None]
    weights = scale * compute_sample_weight("balanced", y)
    balanced = GenerativeClassifier(GaussianKDE(rule)).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(balanced.priors_, 1 / 3)
    for label, density in enumerate(balanced.estimators_):
        expected = GaussianKDE(rule).fit(X[y == label]).bandwidth_
        np.testing.assert_allclose(density.bandwidth_, expected, rtol=1e-9)


def test_boosting_normalises_the_weights(iris):
    X, y = iris
    boosted = AdaBoostClassifier(GenerativeClassifier(GaussianKDE()), n_estimators=3)
    assert boosted.fit(X, y).score(X, y) > 0.9


def test_weights_reach_all_steps_of_a_pipeline(iris):
    X, y = iris
    weights = np.random.RandomState(0).randint(0, 3, y.size)
    density = make_generative_pipeline(StandardScaler(), GaussianKDE())
    model = GenerativeClassifier(density).fit(X, y, sample_weight=weights)
    repeated = np.repeat(X, weights, axis=0)
    expected = clone(model).fit(repeated, np.repeat(y, weights)).predict_proba(X)
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-9)
    detector = DensityOutlierDetector(density).fit(X, sample_weight=weights)
    expected = clone(detector).fit(repeated).offset_
    assert detector.offset_ == pytest.approx(expected)
    boosted = AdaBoostClassifier(GenerativeClassifier(density), n_estimators=3)
    assert boosted.fit(X, y).score(X, y) > 0.9


@pytest.mark.parametrize(
    ("density", "named"),
    [
        (VAE(1, **SMALL), "VAE"),
        (make_generative_pipeline(PCA(1), GaussianKDE()), "PCA"),
        (make_generative_pipeline(StandardScaler(), VAE(1, **SMALL)), "VAE"),
        (make_generative_pipeline(make_pipeline(PCA(1)), GaussianKDE()), "PCA"),
        (make_generative_pipeline(RobustScaler(), GaussianKDE()), "RobustScaler"),
    ],
)
def test_a_density_that_takes_no_weights_is_named(iris, density, named):
    X, y = iris
    message = (
        r"'sample_weight' argument of GenerativeClassifier.fit must be None, because "
    )
    with pytest.raises(ValueError, match=f"{message}{named} takes no weights"):
        GenerativeClassifier(density).fit(X, y, sample_weight=np.ones(y.size))


@pytest.mark.parametrize(
    "density",
    [
        EMGaussianMixture(),
        EMGaussianMixture(3),
        GaussianKDE(),
        GaussianKDE("likelihood"),
        SGDGaussianMixture(2),
        VAE(1, **SMALL),
        GaussianMixture(2),
        make_generative_pipeline(PCA(2), GaussianKDE()),
        make_generative_pipeline(StandardScaler(), EMGaussianMixture()),
        DensityOutlierDetector(EMGaussianMixture()),
    ],
    ids=name,
)
def test_a_class_of_one_row_is_named(density):
    X = np.concatenate([rows(30, 3), rows(30, 3, seed=1) + 4])
    y = np.repeat(["mouse", "rat"], 30).astype(object)
    y[7] = "hedgehog"  # the class that is fitted first
    message = r"density of class 'hedgehog' cannot be fitted to its n_samples=1: .*"
    with pytest.raises(ValueError, match=message + r"[^.]\. Leave out classes"):
        GenerativeClassifier(density).fit(X, y)
    # A parameter is wrong for all classes.
    with pytest.raises(ValueError, match=r"^The 'reg_covar' parameter of EM"):
        GenerativeClassifier(EMGaussianMixture(reg_covar=-1)).fit(X, y)


@pytest.mark.parametrize(
    "density",
    [
        EMGaussianMixture(5),
        SGDGaussianMixture(5, max_epochs=1),
        GaussianMixture(5),
        make_generative_pipeline(StandardScaler(), EMGaussianMixture(5)),
        make_generative_pipeline(PCA(3), SGDGaussianMixture(5, max_epochs=1)),
    ],
    ids=name,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_class_of_fewer_rows_than_components_is_named(density):
    y = np.repeat(["mouse", "rat"], [30, 4])
    message = r"density of class .*rat.* cannot be fitted to its n_samples=4: .*"
    with pytest.raises(ValueError, match=message + r"[^.]\. Leave out classes"):
        GenerativeClassifier(density).fit(rows(34, 3), y)


@pytest.mark.parametrize(
    "density", [GaussianKDE(), EMGaussianMixture(covariance_type="diag")], ids=name
)
@pytest.mark.parametrize(
    "meta",
    [
        lambda model: AdaBoostClassifier(model, n_estimators=3),
        lambda model: CalibratedClassifierCV(model, cv=2),
        lambda model: BaggingClassifier(model, n_estimators=3, random_state=0),
        lambda model: BaggingClassifier(
            model, n_estimators=3, max_samples=30, max_features=1, random_state=0
        ),
        lambda model: StackingClassifier([("model", model)], GaussianNB(), cv=2),
        lambda model: VotingClassifier(
            [("model", model), ("bayes", GaussianNB())], voting="soft"
        ),
        lambda model: OneVsRestClassifier(model),
        SelfTrainingClassifier,
    ],
    ids=["ada", "calibrated", "bags", "small bags", "stack", "vote", "rest", "self"],
)
def test_meta_estimators_of_scikit_learn(meta, density):
    X = rows(120, 2) * 0.3
    y = np.repeat([1, 5, 7], 40)
    X[y == 5] += 4
    X[y == 7] -= 4
    model = meta(GenerativeClassifier(density))
    weights = np.random.RandomState(0).uniform(0.5, 1.5, y.size)
    takes_weights = has_fit_parameter(model, "sample_weight")
    given = {"sample_weight": weights / weights.sum()} if takes_weights else {}
    labels = y.copy()
    if isinstance(model, SelfTrainingClassifier):
        labels[::3] = -1  # not labelled
    assert (model.fit(X, labels, **given).predict(X) == y).mean() > 0.97


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


class Partial(BaseEstimator):
    """Density that is zero below 0, and decreases above."""

    def fit(self, X, y=None, sample_weight=None):
        return self

    def score_samples(self, X):
        x = np.asarray(X)[:, 0]
        return np.where(x < 0, -np.inf, -x)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.105, 0.1, 0.2, 0.5, "auto"])
@pytest.mark.parametrize("n_zero", [0, 1, 10, 19, 99, 100])
def test_rows_of_density_zero_are_outliers(n_zero, share):
    x = np.random.RandomState(0).permutation(np.arange(100) - n_zero + 0.5)
    model = DensityOutlierDetector(Partial(), share)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        outliers = model.fit_predict(x[:, None]) == -1
        decision = model.decision_function(x[:, None])
    np.testing.assert_array_equal(np.isneginf(decision), x < 0)
    np.testing.assert_array_equal(outliers, decision < 0)
    assert not np.isnan(decision).any()
    assert np.isfinite(model.offset_) == (n_zero < 100)
    assert outliers[x < 0].all()
    if share != "auto":
        # The rows of the lowest densities, as of a quantile of finite numbers.
        at_least = np.ceil(share * 99 - 1e-9)
        assert outliers.sum() == max(at_least, n_zero)


@pytest.mark.parametrize(
    "density",
    [
        GaussianKDE(bounds=(0, 1)),
        KernelDensity(kernel="tophat", bandwidth=0.2),
        make_generative_pipeline(MinMaxScaler(clip=True), GaussianKDE()),
        make_generative_pipeline(
            QuantileTransformer(n_quantiles=20), EMGaussianMixture()
        ),
        make_generative_pipeline(FunctionTransformer(np.log, np.exp), GaussianKDE()),
    ],
    ids=name,
)
def test_new_rows_of_density_zero_are_outliers_and_of_the_largest_prior(density):
    X = np.random.RandomState(0).uniform(0.01, 0.99, size=(200, 1))
    far = [[-5.0], [0.5]]
    for share in (0.1, "auto"):
        model = DensityOutlierDetector(density, share).fit(X)
        assert model.decision_function(far)[0] == -np.inf
        assert model.predict(far).tolist() == [-1, 1]
    y = np.repeat([0, 1], [20, 180])
    model = GenerativeClassifier(density).fit(X, y)
    proba = model.predict_proba(far)
    np.testing.assert_allclose(proba[0], [0.1, 0.9])
    np.testing.assert_allclose(np.exp(model.predict_log_proba(far)), proba)
    assert model.predict(far).tolist() == [1, proba[1].argmax()]
    assert model.score_samples(far)[0] == -np.inf
    assert model.score(far[:1], [1]) == 1


@pytest.mark.parametrize(
    "density",
    [
        GaussianKDE(0.1),
        EMGaussianMixture(),
        KernelDensity(bandwidth=0.1),
        make_generative_pipeline(StandardScaler(), EMGaussianMixture()),
    ],
    ids=["kde", "mixture", "scikit-learn", "pipeline"],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_far_from_all_rows_probabilities_are_those_of_the_priors(density, dtype):
    X = np.tile(rows(20, 2), (2, 1))  # of equal densities in two classes
    y = np.repeat([0, 1], 20)
    classifier = GenerativeClassifier(density, priors=[0.2, 0.8]).fit(X, y)
    far = np.array([[1e4, 0], [1e9, -1e9], [1e18, 1e18], [0, 1e36]], dtype=dtype)
    if dtype is np.float64:
        far = np.concatenate([far, [[1e149, 0]]])
    expected = np.tile([0.2, 0.8], (len(far), 1))
    probabilities = classifier.predict_proba(far)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(classifier.predict_log_proba(far), np.log(probabilities))
    np.testing.assert_allclose(probabilities, expected, rtol=1e-12)
    np.testing.assert_array_equal(classifier.predict(far), 1)


def test_of_equal_probabilities_the_first_class_is_predicted():
    X = rows(40, 2)
    model = GenerativeClassifier(EMGaussianMixture(), [0.5, 0.5])
    model.fit(np.concatenate([X, X]), np.repeat(["b", "a"], 40))
    proba = model.predict_proba(X)
    assert model.predict(X).tolist() == model.classes_[proba.argmax(axis=1)].tolist()
    model.set_params(priors=[0.0, 1.0]).fit(np.concatenate([X, X]), np.arange(80) // 40)
    assert model.predict(X).all()
    assert np.isneginf(model.predict_log_proba(X)[:, 0]).all()


@pytest.mark.parametrize("levels", [0.01, 0.1, 0.37, 0.5, 1.0])
@pytest.mark.parametrize("rounding", [0.0, 1e-15, -1e-15])
def test_quantiles_with_weights_repeat_the_values(levels, rounding):
    rng = np.random.RandomState(0)
    values, counts = rng.standard_normal(60), rng.randint(1, 4, 60)
    for weights in (counts, np.ones(60, int)):
        expected = np.quantile(np.repeat(values, weights), levels)
        found = quantiles(values, weights * (1 + rounding), levels)
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("share", [0.03, 0.1, 0.5, "auto"])
def test_a_detector_counts_a_row_of_weight_two_twice(share):
    X = rows(120, 2)
    weights = np.random.RandomState(0).randint(0, 3, 120)
    repeated = np.repeat(X, weights, axis=0)
    model = DensityOutlierDetector(GaussianKDE(), share)
    offset = clone(model).fit(repeated).offset_
    model.fit(X, sample_weight=weights)
    assert model.offset_ == pytest.approx(offset, abs=1e-9)
    message = "'sample_weight' argument of DensityOutlierDetector.fit must be None"
    with pytest.raises(ValueError, match=message):
        DensityOutlierDetector(VAE(1)).fit(X, sample_weight=weights)


@pytest.mark.parametrize("n", [7, 40])
@pytest.mark.parametrize("power", [-1.0, 1.0, 0.0])
def test_the_fence_is_the_adjusted_boxplot(n, power):
    z = np.random.RandomState(n).standard_normal(n)
    values = z if power == 0 else np.sign(power) * np.exp(z)
    m = np.median(values)
    ratios = [
        ((b - m) - (m - a)) / (b - a)
        for a in values[values <= m]
        for b in values[values >= m]
        if a < b
    ]
    # Of an odd number of values, the median is paired with itself.
    skewness = np.median(ratios + [0.0] * (n % 2))
    assert medcouple(values) == pytest.approx(skewness, abs=1e-12)
    lower, upper = np.quantile(values, [0.25, 0.75])
    factor = np.exp((-3 if skewness < 0 else -4) * skewness)
    expected = lower - 1.5 * factor * (upper - lower)
    assert lower_fence(values, np.ones(n)) == pytest.approx(expected, abs=1e-12)
    assert np.sign(skewness) == np.sign(power) or power == 0


@pytest.mark.parametrize("n_features", [1, 6])
@pytest.mark.parametrize("n_far", [0, 100])
def test_without_a_fraction_far_rows_are_outliers_and_few_others(n_features, n_far):
    X = np.random.RandomState(0).standard_normal((500, n_features))
    density = EMGaussianMixture().fit(X)  # not fitted to the outliers
    X = np.concatenate([X, np.full((n_far, n_features), 9.0)])
    model = DensityOutlierDetector(FrozenEstimator(density), "auto").fit(X)
    outliers = model.predict(X) == -1
    assert outliers[500:].all()
    # The probability of the fence under a normal density is 0.2 to 0.6 %.
    assert outliers[:500].sum() <= 10
    scaled = DensityOutlierDetector(EMGaussianMixture(), "auto").fit(1e3 * X + 5)
    plain = DensityOutlierDetector(EMGaussianMixture(), "auto").fit(X)
    np.testing.assert_array_equal(scaled.predict(1e3 * X + 5), plain.predict(X))


@pytest.mark.parametrize(
    "density",
    [
        GaussianKDE(),
        GaussianKDE("likelihood"),
        GaussianKDE(0.3),
        EMGaussianMixture(),
        EMGaussianMixture(3, random_state=0),
        make_generative_pipeline(StandardScaler(), EMGaussianMixture()),
        KernelDensity(bandwidth=0.5),
    ],
    ids=["scott", "likelihood", "narrow", "normal", "mixture", "pipeline", "sklearn"],
)
@pytest.mark.filterwarnings(
    "ignore:Some components:sklearn.exceptions.ConvergenceWarning"
)
@pytest.mark.parametrize(("n", "d"), [(100, 5), (80, 20), thorough(500, 30)])
def test_without_a_fraction_few_new_rows_are_outliers(density, n, d):
    # Among rows of the fit, 100 % of new rows were outliers for 20 features.
    X = np.random.RandomState(0).standard_normal((n + 400, d))
    model = DensityOutlierDetector(density, "auto").fit(X[:n])
    assert (model.predict(X[n:]) == -1).mean() < 0.1
    assert (model.predict(np.full((1, d), 1e3)) == -1).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_without_a_fraction_copies_and_order_do_not_matter():
    X, counts = rows(40, 2), np.random.RandomState(0).randint(0, 3, 40)
    model = DensityOutlierDetector(GaussianKDE(), "auto")
    weighted = model.fit(X, sample_weight=counts).offset_
    repeated = np.random.RandomState(1).permutation(np.repeat(X, counts, axis=0))
    assert model.fit(repeated).offset_ == pytest.approx(weighted, abs=1e-9)


@pytest.mark.parametrize("share", [0, 0.6, -0.1, "scott", True, np.nan, 20, None])
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


class Stopping(GaussianKDE):
    """Density whose fits are interrupted after a number of them."""

    n_left = 0

    def fit(self, X, y=None, sample_weight=None):
        if not Stopping.n_left:
            raise InterruptedFit
        Stopping.n_left -= 1
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize(
    "model",
    [
        GenerativeClassifier(Stopping()),
        DensityOutlierDetector(Stopping()),
        make_generative_pipeline(StandardScaler(), Stopping()),
        GenerativeClassifier(make_generative_pipeline(StandardScaler(), Stopping())),
    ],
    ids=name,
)
def test_an_interrupted_density_loses_nothing(model):
    X, y = rows(60, 2), np.arange(60) % 2
    Stopping.n_left = 9
    model = clone(model).fit(X, y)
    before = model.score_samples(X)
    for n_left in (0, 1) if hasattr(model, "classes_") else (0,):
        Stopping.n_left = n_left
        with pytest.raises(InterruptedFit):
            model.fit(X[:40] + 5, y[:40])
        np.testing.assert_array_equal(model.score_samples(X), before)


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
