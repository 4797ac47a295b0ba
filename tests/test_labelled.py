"""Autoencoders that learn from labels: their joint density, labels and losses."""

import numpy as np
import pandas as pd
import pytest
import torch
from estimators import rows, thorough
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import entropy, norm
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from skgen import (
    SWAE,
    VAE,
    AutoEncoder,
    ClassSupervisedAutoEncoder,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    SemiSupervisedSWAE,
    SemiSupervisedVAE,
)
from skgen.autoencoder._adversarial import unlabelled_loss, worst_direction
from skgen.autoencoder._calibration import calibrate, calibrate_classes
from skgen.autoencoder._jacobian import WithClass, is_linear, with_jacobian
from skgen.autoencoder._likelihood import Gaussian, Observed
from skgen.autoencoder._networks import dense
from skgen.autoencoder._parts import _chosen
from skgen.autoencoder._posterior import Posterior
from skgen.autoencoder._prior import NormalMixture
from skgen.autoencoder._sliced_by_class import class_means

SMALL = {"hidden_layer_sizes": (6,), "max_epochs": 5, "random_state": 0}
TWINS = [
    (ClassSupervisedAutoEncoder, AutoEncoder),
    (SemiSupervisedSWAE, SWAE),
    (SemiSupervisedVAE, VAE),
]
every_kind = pytest.mark.parametrize("kind", [kind for kind, _ in TWINS])
one_kind = pytest.mark.parametrize(
    "kind", [TWINS[1][0], thorough(TWINS[0][0]), thorough(TWINS[2][0])]
)


def blobs(n=150, d=3, seed=0):
    """Return rows of three clusters, and their classes."""
    centers = 6 * np.eye(3, d)
    return make_blobs(n, d, centers=centers, random_state=seed)


def some_labels(y, every=3):
    """Return labels (n,) with -1 for all but one of `every` rows."""
    return np.where(np.arange(y.size) % every, -1, y)


# -- one joint density ---------------------------------------------------------------


@pytest.mark.parametrize("kind", [thorough(TWINS[0][0]), TWINS[1][0], TWINS[2][0]])
def test_the_joint_density_of_one_latent_dimension_is_that_of_quadrature(kind):
    X, y = blobs(90, 2)
    model = kind(1, **SMALL, activation="tanh", n_importance_samples=64)
    model.set_params(max_epochs=20, lr=0.02)
    if kind is ClassSupervisedAutoEncoder:
        model.set_params(latent_density=EMGaussianMixture())
    model.fit(X, some_labels(y))
    X = X[:4]
    joint = model.predict_joint_log_proba(X)

    # p(x, c) by the midpoint rule over codes.
    posteriors = model._inference
    z = np.linspace(-30, 30, 12_001)
    expected = np.empty_like(joint)
    for c in range(3):
        place = model._places[c]
        prior = posteriors.priors[place]
        log_prior = sum(
            weight * norm.pdf(z, mean[0], precision[0, 0] ** -0.5)
            for weight, mean, precision in zip(
                prior.weights.numpy(),
                prior.means.numpy(),
                prior.precisions.numpy(),
                strict=True,
            )
        )
        decoder = model.net_.module_.decoder
        code = torch.tensor(z[:, None])
        if kind is SemiSupervisedVAE:
            code = torch.cat([code, torch.eye(3)[place].expand(z.size, 3)], dim=1)
        with torch.no_grad():
            mean = model._coordinates.restored(decoder.double()(code).numpy())
        decoder.float()
        sd = np.sqrt(model.noise_variance_)
        with np.errstate(divide="ignore"):
            log_p = np.log(log_prior) + norm.logpdf(X[:, None], mean, sd).sum(axis=2)
        expected[:, c] = logsumexp(log_p, axis=1) + np.log(z[1] - z[0])
    expected += np.log(model.priors_)
    near = expected > expected.max(axis=1, keepdims=True) - 10
    assert_allclose(joint[near], expected[near], atol=0.03)
    probabilities = np.exp(expected - logsumexp(expected, axis=1, keepdims=True))
    assert_allclose(model.predict_proba(X), probabilities, atol=0.02)
    assert_allclose(model.score_samples(X), logsumexp(joint, axis=1), rtol=1e-12)
    assert_allclose(
        model.predict_log_proba(X),
        joint - logsumexp(joint, axis=1, keepdims=True),
        atol=1e-12,
    )


def test_a_classifier_of_densities_has_the_joint_density_too():
    X, y = blobs(60)
    model = GenerativeClassifier(EMGaussianMixture()).fit(X, y)
    joint = model.predict_joint_log_proba(X[:5])
    for c, density in enumerate(model.estimators_):
        expected = np.log(model.priors_[c]) + density.score_samples(X[:5])
        assert_allclose(joint[:, c], expected, rtol=1e-12)
    assert_allclose(model.score_samples(X[:5]), logsumexp(joint, axis=1))


@one_kind
def test_the_encoder_classifies_in_place_of_the_density(kind):
    X, y = blobs()
    model = kind(2, **{**SMALL, "max_epochs": 20}, lr=0.03, n_importance_samples=8)
    model.fit(X, some_labels(y))
    by_density, scores = model.predict_proba(X[:6]), model.score_samples(X[:6])
    model.set_params(classify_by="encoder")
    by_encoder = model.predict_proba(X[:6])
    with torch.no_grad():
        x = torch.tensor(model._coordinates.standardized(X[:6])).float()
        q = model.net_.module_.eval().log_class_probabilities(x).exp().numpy()
    assert_allclose(by_encoder, q[:, model._places], atol=1e-4)
    assert not np.array_equal(by_density, by_encoder)
    assert_array_equal(model.score_samples(X[:6]), scores)
    assert (model.predict(X) == y).mean() > 0.9


# -- rows with NaN -----------------------------------------------------------------


@every_kind
def test_classes_of_incomplete_rows_have_the_density_of_the_observed_values(kind):
    X, y = blobs(90, 2)
    model = kind(1, **{**SMALL, "max_epochs": 20}, activation="tanh", lr=0.02)
    if kind is ClassSupervisedAutoEncoder:
        model.set_params(latent_density=EMGaussianMixture())
    model.fit(X, some_labels(y))
    x = X[:2].copy()
    x[:, 1] = np.nan
    joint = model.predict_joint_log_proba(x)
    # log p(x_1, c) by the midpoint rule over x_2.
    t = np.linspace(-12, 18, 301)
    filled = model.impute(x)[:, 1]
    for i, first in enumerate(x[:, 0]):
        table = np.column_stack([np.full_like(t, first), t])
        densities = model.predict_joint_log_proba(table)
        expected = logsumexp(densities, axis=0) + np.log(t[1] - t[0])
        near = expected > expected.max() - 8
        assert_allclose(joint[i, near], expected[near], atol=0.05)
        # Errors of 0.05 nats change the weights of classes 6 apart by 0.025 at most.
        density = np.exp(logsumexp(densities, axis=1))
        assert abs(filled[i] - t @ density / density.sum()) < 0.3
    probabilities = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    empty = np.full((1, 2), np.nan)
    assert_allclose(model.predict_proba(empty)[0], model.priors_, rtol=1e-12)
    complete = model.predict_joint_log_proba(X[:3])
    both = model.predict_joint_log_proba(np.vstack([x, X[:3]]))
    assert_array_equal(both, np.vstack([joint, complete]))
    for classify_by in ("density", "encoder"):
        model.set_params(classify_by=classify_by)
        assert_allclose(model.predict_proba(x), probabilities, atol=1e-12)


@every_kind
def test_labelled_incomplete_rows_are_fitted_in_every_way(kind):
    X, y = blobs()
    M, few = X.copy(), some_labels(y)
    M[np.random.RandomState(0).uniform(size=X.shape) < 0.2] = np.nan
    M[3] = np.nan
    parameters = {**SMALL, "max_epochs": 15, "adversarial_radius": 0.1, "lr": 0.02}
    model = kind(1, **parameters, early_stopping=True).fit(M, few)
    assert np.isfinite(model.history_[-1]["validation"])
    assert (model.predict(X) == y).mean() > 0.7
    model = kind(1, **parameters, n_importance_samples=8).fit(M, few)
    assert (model.predict(X) == y).mean() > 0.8
    assert np.isfinite(model.score(M))
    before = model.score_samples(X[:9])
    model.partial_fit(M[:60], few[:60])
    assert (model.score_samples(X[:9]) != before).any()
    model.fit_latent_density(M, few)
    assert np.isfinite(model.score(M))


def test_draws_of_missing_values_come_from_the_classes_of_the_row():
    weights = np.array([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]])
    chosen = _chosen(weights, 20_000, np.random.RandomState(0))
    counts = np.array([np.bincount(row, minlength=3) for row in chosen.T]) / 20_000
    # Five standard errors; exactly 0 where there are none.
    error = 5 * np.sqrt(weights * (1 - weights) / 20_000)
    assert (np.abs(counts - weights) <= error).all()


# -- no labels, one class, names of classes ----------------------------------------


@pytest.mark.parametrize(("kind", "unsupervised"), TWINS)
@pytest.mark.parametrize("y", [None, thorough(np.full(60, -1)), [-1] * 60])
def test_without_labels_it_is_the_unsupervised_model_to_the_last_bit(
    kind, unsupervised, y
):
    X = rows(60, 2)
    plain, model = unsupervised(1, **SMALL).fit(X), kind(1, **SMALL).fit(X, y)
    for method in ("score_samples", "transform"):
        assert_array_equal(getattr(model, method)(X[:9]), getattr(plain, method)(X[:9]))
    for draws in ("sample", "sample_latent"):
        assert_array_equal(getattr(model, draws)(5), getattr(plain, draws)(5))
    assert [epoch["train"] for epoch in model.history_] == [
        epoch["train"] for epoch in plain.history_
    ]
    assert model.classes_.size == 0
    for method in ("predict", "predict_proba", "predict_joint_log_proba"):
        with pytest.raises(ValueError, match=f"{method} needs labels"):
            getattr(model, method)(X)
    with pytest.raises(ValueError, match="sample needs labels"):
        model.sample(2, y=0)


@every_kind
def test_one_class_warns_and_is_predicted(kind):
    X = rows(60, 2)
    with pytest.warns(UserWarning, match="All labels .* are 'a'"):
        model = kind(1, **SMALL).fit(X, ["a"] * 30 + [-1] * 30)
    assert set(model.predict(X[:5])) == {"a"}
    assert_array_equal(model.predict_proba(X[:5]), np.ones((5, 1)))


@one_kind
def test_other_names_of_the_classes_permute_the_answers(kind):
    X, y = blobs(90)
    model = kind(1, **SMALL, n_importance_samples=4)
    first = clone(model).fit(X, y)
    names = np.array(["z", "b", "m"])  # sorted: 1, 2, 0
    other = clone(model).fit(X, names[y])
    assert other.classes_.tolist() == ["b", "m", "z"]
    for method in ("predict_proba", "predict_joint_log_proba"):
        expected = getattr(first, method)(X[:9])[:, [1, 2, 0]]
        assert_allclose(getattr(other, method)(X[:9]), expected, rtol=1e-9, atol=1e-12)
    assert_array_equal(other.predict(X[:9]), names[first.predict(X[:9])])
    one, same = first.sample(3, y=1), other.sample(3, y="b")
    assert_array_equal(one, same)


LABELS = {
    "integers": lambda y: y,
    "floats": lambda y: y.astype(float),
    "a list": lambda y: y.tolist(),
    "a series": lambda y: pd.Series(y),
    "objects": lambda y: np.array([-1 if v < 0 else "abc"[v] for v in y], dtype=object),
    "a list of text": lambda y: [-1 if v < 0 else "abc"[v] for v in y],
    "a series of text": lambda y: pd.Series([-1 if v < 0 else "abc"[v] for v in y]),
}


@pytest.mark.parametrize(
    "form",
    [form if form in ("objects", "a list") else thorough(form) for form in LABELS],
)
def test_every_form_of_labels_gives_the_same_fit(form):
    X, y = blobs(60)
    y = some_labels(y)
    model = SemiSupervisedSWAE(1, **SMALL)
    expected = clone(model).fit(X, y).score_samples(X[:5])
    model.fit(X, LABELS[form](y))
    assert_array_equal(model.score_samples(X[:5]), expected)
    assert model.classes_.tolist() in ([0, 1, 2], ["a", "b", "c"])


def test_booleans_are_classes():
    X, y = blobs(60)
    expected = SemiSupervisedSWAE(1, **SMALL).fit(X, (y == 1).astype(int))
    model = SemiSupervisedSWAE(1, **SMALL).fit(X, y == 1)
    assert model.classes_.dtype == bool
    assert_array_equal(model.score_samples(X[:5]), expected.score_samples(X[:5]))
    assert set(model.predict(X[:9])) <= {True, False}


# -- labels that are refused ---------------------------------------------------------

BAD_LABELS = {
    "minus one is a class": (
        np.where(np.arange(60) % 2, -1, 1),
        "two classes besides -1, which marks rows without a label; if -1 is a class, "
        "recode it",
    ),
    "text of minus one": (
        np.where(np.arange(60) % 2, "-1", "a"),
        "object array .* with the integer -1",
    ),
    "masked": (np.ma.masked_equal(np.arange(60) % 3, 2), "no masked values"),
    "text and numbers": (["a", 1] * 30, "strings only, but for -1, or of numbers"),
    "text and NaN": (
        ["a", np.nan] * 30,
        "without missing values; -1 marks a row without a label. "
        "Got None or NaN in 30 of 60 rows",
    ),
    "NaN": (np.array([0.0, np.nan] * 30), "-1 marks a row without a label"),
    "None": ([0, None] * 30, "-1 marks a row without a label"),
    "NA": (pd.Series([0, None] * 30, dtype="Int64"), "-1 marks a row without"),
    "infinity": ([0.0, np.inf] * 30, "Input y contains infinity"),
    "continuous": (np.linspace(0, 1, 60), "Unknown label type"),
    "too few": ([0, 1], "inconsistent numbers of samples"),
    "two columns": (np.zeros((60, 2), int), "y should be a 1d array"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels_are_named(case):
    y, message = BAD_LABELS[case]
    model = SemiSupervisedSWAE(1, **SMALL)
    with pytest.raises(ValueError, match=message):
        model.fit(rows(60, 2), y)
    assert not hasattr(model, "classes_")


def test_labels_of_rows_out_of_core_are_refused():
    X = rows(60, 2)
    with pytest.raises(ValueError, match=r"'y' argument .* where X is out of core"):
        SemiSupervisedVAE(1, **SMALL).fit(lambda: iter([X]), np.zeros(60))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"label_weight": -1}, "'label_weight' parameter of SemiSupervisedSWAE must"),
        ({"classify_by": "head"}, "'classify_by' parameter .*density.*encoder"),
        ({"priors": [0.5, 0.6]}, "'priors' parameter .* sum to 1"),
        ({"priors": [0.5, 0.5]}, "'priors' parameter .* of 3"),
        ({"class_separation": -1}, "'class_separation' parameter"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    X, y = blobs(60)
    with pytest.raises(ValueError, match=message):
        SemiSupervisedSWAE(1, **SMALL).set_params(**parameters).fit(X, y)


def test_priors_are_those_of_the_user_or_of_the_labels():
    X, y = blobs(60)
    y = np.where(np.arange(60) < 20, y, -1)
    model = SemiSupervisedSWAE(1, **SMALL).fit(X, y)
    counts = np.bincount(y[:20], minlength=3)
    assert_allclose(model.priors_, (counts + 1) / 23)
    given = clone(model).set_params(priors=[0.5, 0.5, 0]).fit(X, y)
    assert_array_equal(given.priors_, [0.5, 0.5, 0])
    assert set(given.sample(50, return_y=True)[1]) == {0, 1}
    assert np.isneginf(given.predict_joint_log_proba(X[:3])[:, 2]).all()


# -- draws of classes ------------------------------------------------------------------


@one_kind
def test_draws_of_a_class_resemble_its_rows(kind):
    X, y = blobs()
    model = kind(2, hidden_layer_sizes=(32,), max_epochs=40, lr=0.02, random_state=0)
    model.fit(X, some_labels(y))
    nearest = GenerativeClassifier(GaussianKDE()).fit(X, y)
    draws, classes = model.sample(60, return_y=True, random_state=0)
    assert (nearest.predict(draws) == classes).mean() > 0.8
    assert_array_equal(draws, model.sample(60, random_state=0))
    given = model.sample(y=classes, random_state=1)
    assert (nearest.predict(given) == classes).mean() > 0.8
    assert model.sample(4, y=2).shape == (4, 3)
    with pytest.raises(ValueError, match=r"'y' argument of .*sample must be of the"):
        model.sample(y=7)


def test_labelled_draws_of_a_classifier_are_one_call():
    X, y = blobs(60)
    names = np.array(["a", "b", "c"])[y]
    model = GenerativeClassifier(EMGaussianMixture()).fit(X, names)
    draws, classes = model.sample(50, return_y=True, random_state=0)
    assert_array_equal(draws, model.sample(50, random_state=0))
    assert (model.predict(draws) == classes).mean() > 0.9


def test_one_code_is_decoded_given_every_class():
    X, y = blobs()
    model = SemiSupervisedVAE(1, **{**SMALL, "max_epochs": 40}, lr=0.02)
    model.fit(X, some_labels(y))
    z = model.sample_latent(4, random_state=0)
    given = np.array([model.inverse_transform(z, y=c) for c in range(3)])
    assert_allclose(
        model.inverse_transform(z), np.tensordot(model.priors_, given, 1), rtol=1e-12
    )
    classes = np.array([2, 0, 1, 1])
    assert_allclose(
        model.inverse_transform(z, y=classes), given[classes, np.arange(4)], rtol=1e-12
    )
    again = model.inverse_transform(model.transform(X), y=y)
    assert ((again - X) ** 2).mean() < 0.2 * X.var(axis=0).mean()
    with pytest.raises(ValueError, match=r"'y' argument of .*inverse_transform must"):
        model.inverse_transform(z, y=[0, 1])


# -- streams, searches, noise ----------------------------------------------------------


@one_kind
def test_a_stream_of_labels_keeps_its_classes(kind):
    X, y = blobs()
    model = kind(1, **SMALL, batch_size=16, n_importance_samples=4)
    model.partial_fit(X[:50], np.where(y[:50] == 2, -1, y[:50]), classes=[0, 1, 2])
    assert_array_equal(model.classes_, [0, 1, 2])
    seen = np.bincount(y[:50], minlength=3) * [1, 1, 0]
    assert_array_equal(model._class_counts, seen)
    model.partial_fit(X[50:100], y[50:100]).partial_fit(X[100:])
    assert_array_equal(model._class_counts, seen + np.bincount(y[50:100]))
    assert_allclose(
        model.net_.module_.log_priors.exp().numpy()[model._places],
        model.priors_,
        rtol=1e-6,
    )
    # The sample of the stream has the labels with its rows.
    sample = model._reservoir.X
    assert sample.shape == (150, 4)
    assert_array_equal(np.unique(sample[:, -1]), [-1, 0, 1, 2])
    with pytest.raises(ValueError, match=r"'y' argument of .* of the classes \[0, 1"):
        model.partial_fit(X[:50], np.full(50, 3))
    with pytest.raises(ValueError, match="None or -1, as it was in the first call"):
        clone(model).partial_fit(X).partial_fit(X, y)


def test_a_warm_start_and_a_new_density_keep_the_classes():
    X, y = blobs(90)
    model = ClassSupervisedAutoEncoder(1, warm_start=True, early_stopping=True, **SMALL)
    model.set_params(max_epochs=2, latent_density=EMGaussianMixture())
    model.fit(X, y)
    n_epochs = len(model.history_)
    assert np.isfinite(model.history_[0]["validation"])
    model.fit(X, some_labels(y))
    assert len(model.history_) > n_epochs
    priors = model.priors_
    model.fit(X)
    assert_array_equal(model.priors_, priors)
    with pytest.raises(ValueError, match="built with label_weight=30"):
        clone(model).fit(X, y).set_params(label_weight=1).fit(X, y)
    with pytest.raises(ValueError, match=r"'X' argument .* in memory"):
        model.fit(lambda: iter([X]))
    model.set_params(latent_density=EMGaussianMixture(2, random_state=0))
    model.fit_latent_density(X, some_labels(y))
    assert [density.n_components for density in model.latent_density_] == [2, 2, 2]


def test_searches_score_nats_or_accuracy():
    X, y = blobs(90)
    model = SemiSupervisedVAE(1, **{**SMALL, "max_epochs": 20}, lr=0.03)
    model.set_params(classify_by="encoder", n_importance_samples=4)
    accuracy = cross_val_score(model, X, y, cv=2, scoring="accuracy")
    assert accuracy.min() > 0.8
    model.fit(X, y)
    assert model.score(X, y) == pytest.approx(model.score_samples(X).mean())


def test_codes_of_a_vae_feed_a_semi_supervised_vae():
    X, y = blobs()
    model = make_pipeline(VAE(2, **SMALL), SemiSupervisedVAE(1, **SMALL))
    model.fit(X, some_labels(y))
    assert model.predict_proba(X[:4]).shape == (4, 3)


@one_kind
def test_a_tenth_of_wrong_labels_does_not_break_a_fit(kind):
    X, y = blobs(200)
    noisy = np.where(np.arange(200) % 10, y, (y + 1) % 3)
    model = kind(2, **{**SMALL, "max_epochs": 30}, lr=0.02, classify_by="encoder")
    assert (model.fit(X, noisy).predict(X) == y).mean() > 0.9


# -- losses ----------------------------------------------------------------------------


def loss_of(module, x):
    """Return the loss of rows x with noise of a known seed."""
    module.generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        return float(module(x))


def module_of(kind, labels, incomplete=False, **parameters):
    """Return the trained module of a small fit, in double precision, and its rows.

    If `incomplete`, a third of the values of the rows are NaN.
    """
    X, _ = blobs(40)
    model = kind(2, **SMALL, **parameters).fit(X, labels)
    x = torch.tensor(model._coordinates.standardized(X))
    if incomplete:
        x[np.random.RandomState(0).uniform(size=x.shape) < 1 / 3] = torch.nan
        model.net_.module_.incomplete = True
    y = torch.tensor(np.where(labels < 0, -1, model._places[labels])).double()
    module = model.net_.module_.double().eval().requires_grad_(False)
    return module, torch.cat([x, y[:, None]], dim=1)


def log_normal(x, mean, variance):
    """Return the log-density of the values of x (..., d) that are not NaN: (...)."""
    normal = torch.distributions.Normal(mean, variance.sqrt())
    return torch.where(x.isnan(), 0, normal.log_prob(x.nan_to_num())).sum(-1)


def cross_entropy_by_hand(log_q, y, share):
    known = [(i, int(c)) for i, c in enumerate(y) if c >= 0]
    return -sum(log_q[i, c] for i, c in known) / (len(y) * share)


with_and_without_nan = pytest.mark.parametrize("incomplete", [False, True])


@with_and_without_nan
def test_the_class_supervised_loss_adds_the_cross_entropy(incomplete):
    labels = some_labels(blobs(40)[1], 2)
    module, rows_ = module_of(
        ClassSupervisedAutoEncoder, labels, incomplete, label_weight=3
    )
    x, y = rows_[:, :-1], rows_[:, -1]
    z = module.encoder(x.nan_to_num())
    fit = log_normal(x, module.decoder(z), torch.ones(3))
    log_q = torch.log_softmax(z @ module.head.weight.T + module.head.bias, dim=1)
    expected = 3 * cross_entropy_by_hand(log_q, y, 0.5) - fit.mean()
    assert loss_of(module, rows_) == pytest.approx(float(expected), rel=1e-12)


def bounds_by_hand(module, rows_, noise, beta):
    """Return the bound L(x, c) for each pair (row, class) of `noise`, a dict."""
    x = rows_[:, :-1]
    mean, log_variance, _ = module.posteriors(x.nan_to_num())
    prior = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
    bounds = {}
    for (i, c), e in noise.items():
        q = torch.distributions.Normal(mean[i, c], (0.5 * log_variance[i, c]).exp())
        divergence = torch.distributions.kl_divergence(q, prior).sum()
        code = torch.cat([q.mean + q.stddev * e, torch.eye(3)[c]])
        fit = log_normal(x[i], module.decoder(code), module.likelihood.variance)
        bounds[i, c] = fit - beta * divergence + module.log_priors[c]
    return bounds


def noise_of(pairs):
    """Return the noise that `loss_of` draws for pairs of a row and a class, a dict."""
    noise = torch.empty(len(pairs), 2, dtype=torch.float64)
    noise.normal_(generator=torch.Generator().manual_seed(5))
    return dict(zip(pairs, noise, strict=True))


@with_and_without_nan
def test_the_loss_of_the_semi_supervised_vae_sums_over_classes(incomplete):
    labels = some_labels(blobs(40)[1], 2)
    module, rows_ = module_of(
        SemiSupervisedVAE, labels, incomplete, label_weight=3, beta=0.7
    )
    x, y = rows_[:, :-1], rows_[:, -1].long()
    log_q = module.posteriors(x.nan_to_num())[2]
    pairs = [(i, c) for i in range(40) for c in range(3) if y[i] in (-1, c)]
    total = 0.0
    for (i, c), bound in bounds_by_hand(module, rows_, noise_of(pairs), 0.7).items():
        weight = 1.0 if y[i] >= 0 else log_q[i, c].exp()
        total += weight * bound - (0 if y[i] >= 0 else weight * log_q[i, c])
    expected = 3 * cross_entropy_by_hand(log_q, y, 0.5) - total / 40
    assert loss_of(module, rows_) == pytest.approx(float(expected), rel=1e-12)


def test_classes_that_the_encoder_excludes_hardly_change_the_sum_over_classes():
    labels = some_labels(blobs(40)[1], 2)
    module, rows_ = module_of(SemiSupervisedVAE, labels, label_weight=3, beta=0.7)
    y = rows_[:, -1].long()
    # Probabilities of 1e-5 and 1e-7, on both sides of the limit of 1e-6.
    last = [layer for layer in module.encoder if hasattr(layer, "bias")][-1]
    last.weight[:3] = 0
    last.bias[:3] = torch.tensor([1.0, 1e-5, 1e-7], dtype=torch.float64).log()
    log_q = module.posteriors(rows_[:, :-1])[2]
    q = log_q[0].exp()
    every = [(i, c) for i in range(40) for c in range(3) if y[i] in (-1, c)]
    left_out = [(i, c) for i, c in every if y[i] < 0 and c == 2]
    # Excluded classes of labelled rows are still their classes.
    assert any(y[i] == 2 for i, _ in every)
    noise = noise_of([pair for pair in every if pair not in left_out])
    noise |= dict.fromkeys(left_out, torch.zeros(2))
    bounds = bounds_by_hand(module, rows_, noise, 0.7)
    total = sum(
        (1.0 if y[i] >= 0 else q[c]) * bound for (i, c), bound in bounds.items()
    )
    total = total - (q * log_q[0]).sum() * (y < 0).sum()
    expected = float(3 * cross_entropy_by_hand(log_q, y, 0.5) - total / 40)
    # A class that is left out has at most 1e-6 times its bound.
    largest = 1e-6 * sum(abs(float(bounds[pair])) for pair in left_out) / 40
    assert largest < 1e-6 * abs(expected)
    found = loss_of(module, rows_)
    assert found == pytest.approx(expected, abs=largest + 1e-12 * abs(expected))


@with_and_without_nan
def test_the_sliced_loss_matches_all_codes_and_those_of_each_class(incomplete):
    labels = some_labels(blobs(40)[1], 2)
    module, rows_ = module_of(
        SemiSupervisedSWAE,
        labels,
        incomplete,
        label_weight=3,
        swd_weight=0.4,
        class_separation=5,
        adversarial_radius=0,
    )
    x, y = rows_[:, :-1], rows_[:, -1].long()
    z = module.encoder(x.nan_to_num())
    fit = log_normal(x, module.decoder(z), torch.ones(3))
    squares = torch.cdist(z, module.means).square()
    log_q = torch.log_softmax(module.log_priors - 0.5 * squares, dim=1)

    def distance(draws, codes, projections):
        pairs = [torch.sort(part @ projections, 0).values for part in (draws, codes)]
        return (pairs[0] - pairs[1]).square().mean()

    generator = torch.Generator().manual_seed(5)
    draws = torch.empty_like(z).normal_(generator=generator)
    u = torch.empty(1, dtype=z.dtype).uniform_(generator=generator)
    shares = module.log_priors.exp().cumsum(0)
    for i in range(40):
        c = int((shares < (u + i) / 40).sum())
        draws[i] += module.means[c]

    def projections():
        normal = torch.empty(2, 50, dtype=z.dtype).normal_(generator=generator)
        return normal / normal.norm(dim=0)

    expected = distance(draws, z, projections())
    along = projections()
    for c in range(3):
        own = z[y == c] - module.means[c]
        n = own.shape[0]
        quantiles = torch.tensor(norm.ppf((np.arange(n) + 0.5) / n))[:, None]
        ranked = torch.sort(own @ along, 0).values
        expected = expected + n / 20 * (ranked - quantiles).square().mean()
    expected = 0.4 * 2 * expected - fit.mean()
    expected = expected + 3 * cross_entropy_by_hand(log_q, y, 0.5)
    assert loss_of(module, rows_) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(
    ("n_classes", "k"), [(2, 1), (4, 1), (3, 2), (10, 2), (10, 5), (10, 12)]
)
def test_means_of_classes_are_separated(n_classes, k):
    means = class_means(n_classes, k, 4.0)
    gaps = np.linalg.norm(means[:, None] - means, axis=2)
    gaps = gaps[~np.eye(n_classes, dtype=bool)]
    assert means.shape == (n_classes, k)
    assert gaps.min() == pytest.approx(4, rel=1e-12)
    assert_allclose(means.mean(axis=0), 0, atol=1.0)
    if k >= n_classes - 1:
        assert_allclose(gaps, 4, rtol=1e-12)
    if (n_classes, k) == (10, 5):
        # A cross-polytope of 10 corners has the ratio sqrt(2) of radius to distance.
        assert np.linalg.norm(means, axis=1).max() < 4 / np.sqrt(2) * 1.1


def test_the_class_is_appended_to_codes_and_has_no_slope(rng):
    network = torch.nn.Sequential(
        WithClass(1, 3), dense([5, 4, 3], torch.nn.Tanh)
    ).double()
    z = torch.tensor(rng.standard_normal((6, 2)))
    with torch.no_grad():
        a, J = with_jacobian(network, z, torch.ones_like(z))
        code = torch.cat([z, torch.eye(3, dtype=z.dtype)[1].expand(6, 3)], dim=1)
        assert torch.equal(a, network[1](code))
    expected = torch.autograd.functional.jacobian(lambda z: network(z).sum(0), z)
    assert_allclose(J.numpy(), expected.permute(1, 2, 0).numpy(), atol=1e-12)
    assert is_linear(torch.nn.Sequential(WithClass(0, 2), torch.nn.Linear(3, 2)))


def test_few_labels_are_drawn_for_each_step():
    labels = np.where(np.arange(40) < 4, blobs(40)[1], -1)
    module, rows_ = module_of(SemiSupervisedSWAE, labels)
    assert module.pool is None  # after training
    assert float(module.share) == pytest.approx(0.1)
    module.train().begin(rows_)
    module.generator = torch.Generator().manual_seed(0)
    x, y = module.batch(rows_[4:20])
    assert_array_equal(x[:16], rows_[4:20, :-1])
    assert_array_equal(y[:16], -1)
    known = {tuple(row) for row in rows_[:4].tolist()}
    more = torch.cat([x[16:], y[16:, None].double()], dim=1)
    assert more.shape == (4, 4)
    assert {tuple(row) for row in more.tolist()} <= known
    module.eval()
    assert module.batch(rows_)[0].shape[0] == 40


@pytest.mark.parametrize("n_classes", [1, 2])
def test_the_noise_of_classes_with_one_prior_is_that_of_all_rows(n_classes):
    network = dense([2, 5, 3], torch.nn.Tanh).double()
    X, _ = blobs(40)
    model = SemiSupervisedVAE(2, **SMALL).fit(X)
    x = torch.tensor(model._coordinates.standardized(X))
    prior = NormalMixture([1.0], np.ones((1, 2)), np.eye(2)[None])
    made = []
    for by_class in (False, True):
        module = model._twin()
        module.decoder = network
        module.likelihood = Gaussian(3, False, 1e-8, False).double()
        posterior = Posterior(module, prior, module.encode(x).detach())
        if by_class:
            calibrate_classes([posterior] * n_classes, x, np.arange(40) % n_classes)
        else:
            calibrate(posterior, x, False)
        made.append(module.likelihood.variance.numpy())
    # EM ends where the logarithms change by less than 1e-4; sums round otherwise.
    assert_allclose(made[1], made[0], rtol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
@with_and_without_nan
def test_the_noise_follows_weighted_residuals(incomplete, shared, rng):
    likelihood = Gaussian(2, shared, 1e-8, True).double()
    x, a = (torch.tensor(rng.standard_normal((6, 2))) for _ in range(2))
    weight = torch.tensor(rng.uniform(size=6))
    if incomplete:
        x[[0, 2, 2], [0, 0, 1]] = torch.nan
        Observed(likelihood).follow(x, a, weight)
    else:
        likelihood.follow(x, a, weight)
    squares = np.ma.masked_invalid((x - a).square().numpy())
    weights = np.repeat(weight.numpy()[:, None], 2, axis=1)
    expected = np.ma.average(squares, axis=None if shared else 0, weights=weights)
    assert_allclose(likelihood.variance.numpy(), np.full(2, expected), rtol=1e-12)


def test_wrong_classes_of_a_row_do_not_widen_the_noise():
    X, y = blobs()
    model = SemiSupervisedVAE(1, **{**SMALL, "max_epochs": 30}, lr=0.02)
    model.fit(X, some_labels(y))
    # Of a row decoded as another class, the residual is six standard deviations.
    learned = model.net_.module_.likelihood.variance.numpy()
    assert (learned * X.var(axis=0) < 4).all()


# -- rows without a label ------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.01, 0.5])
def test_the_adversarial_direction_of_two_classes_is_their_weight(rng, radius):
    # Of logits 0 and w @ x + b, the Hessian of the divergence is p (1 - p) w w^T.
    w = torch.tensor(rng.standard_normal(4))

    def log_probabilities(x):
        logit = x @ w + 0.3
        return torch.nn.functional.logsigmoid(torch.stack([-logit, logit], dim=1))

    x = torch.tensor(rng.standard_normal((7, 4)))
    log_q = log_probabilities(x)
    found = worst_direction(log_probabilities, x, log_q, radius)
    along = found @ (w / w.norm())
    assert_allclose(along.abs().numpy(), 1, rtol=1e-9)


def test_the_adversarial_direction_is_a_step_of_the_power_iteration(rng):
    network = torch.nn.Sequential(
        dense([3, 6, 4], torch.nn.Tanh), torch.nn.LogSoftmax(dim=1)
    ).double()
    network.requires_grad_(False)
    x = torch.tensor(rng.standard_normal((5, 3)))
    seeded = torch.Generator().manual_seed(3)
    found = worst_direction(network, x, network(x), 1e-5, seeded)
    start = torch.empty_like(x).normal_(generator=seeded.manual_seed(3))
    for i in range(5):

        def divergence(r, i=i):
            log_p, log_q = network(x[i][None]), network((x[i] + r)[None])
            return (log_p.exp() * (log_p - log_q)).sum()

        hessian = torch.autograd.functional.hessian(divergence, torch.zeros_like(x[i]))
        expected = hessian @ start[i]
        # The third derivative changes the direction by the order of the probe.
        assert_allclose(found[i], expected / expected.norm(), atol=1e-3)


def test_the_adversarial_direction_of_a_certain_class_has_length_one():
    # Log-odds of 60: the gradient is of the order of 1e-26, whose square is 0.
    def log_probabilities(x):
        return torch.log_softmax(x @ torch.eye(2), dim=1)

    x = torch.tensor([[30.0, -30.0], [0.5, 0.0], [300.0, -300.0]])
    assert x.dtype == torch.float32
    log_q = log_probabilities(x)
    seeded = torch.Generator().manual_seed(0)
    found = worst_direction(log_probabilities, x, log_q, 0.1, seeded)
    lengths = found.double().norm(dim=1).numpy()
    assert lengths[:2] == pytest.approx(1, rel=1e-5)
    # No finite perturbation changes the third row.
    assert lengths[2] == pytest.approx(0) or lengths[2] == pytest.approx(1, rel=1e-5)


def test_the_loss_of_rows_without_labels_has_three_terms(rng):
    w = torch.tensor(rng.standard_normal((4, 3)))

    def log_probabilities(x):
        return torch.log_softmax(x @ w, dim=1)

    x = torch.tensor(rng.standard_normal((50, 4)))
    log_q, priors = log_probabilities(x), torch.tensor([0.5, 0.3, 0.2])
    seeded = torch.Generator().manual_seed(3)
    loss = unlabelled_loss(log_probabilities, x, log_q, priors.log(), 0.4, seeded)

    length = 0.4 * np.linalg.norm(x - x.mean(0), axis=1)
    length = np.sqrt((length**2).mean())
    r = worst_direction(
        log_probabilities, x, log_q, 0.05 * length, seeded.manual_seed(3)
    )
    q, moved = log_q.exp().numpy(), log_probabilities(x + length * r).exp().numpy()
    expected = entropy(q, moved, axis=1).mean() + entropy(q, axis=1).mean()
    expected += 3 * entropy(q.mean(axis=0), priors.numpy())
    assert float(loss) == pytest.approx(expected, rel=1e-6)  # priors in float32
    # Each perturbation changes the probabilities more than others of its length.
    other = rng.standard_normal(x.shape)
    other *= length / np.linalg.norm(other, axis=1, keepdims=True)
    others = log_probabilities(x + torch.tensor(other)).exp().numpy()
    assert entropy(q, moved, axis=1).mean() > 1.5 * entropy(q, others, axis=1).mean()


@every_kind
def test_rows_without_labels_enter_the_loss(kind):
    labels = some_labels(blobs(40)[1], 2)
    module, rows_ = module_of(kind, labels, label_weight=3, adversarial_radius=0.3)
    with_term = loss_of(module, rows_)
    after = module.generator.get_state()
    module.adversarial_radius = 0.0
    without = loss_of(module, rows_)
    x = rows_[:, :-1]
    # Where noise of the decoder is drawn is a matter of the model: all draws differ.
    expected = unlabelled_loss(
        module.log_class_probabilities,
        x,
        module.log_class_probabilities(x),
        module.log_priors,
        0.3,
        torch.Generator().manual_seed(5),
    )
    assert with_term != without
    assert not torch.equal(after, module.generator.get_state())
    if kind is ClassSupervisedAutoEncoder:
        assert with_term - without == pytest.approx(3 * float(expected), rel=1e-9)


@pytest.mark.thorough
def test_rows_without_labels_move_the_border_between_clusters():
    # Two long clusters with one label each, at opposite ends.
    rng = np.random.RandomState(0)
    side = np.arange(120) % 2
    X = np.column_stack([rng.uniform(-1, 1, 120), 0.1 * rng.normal(size=120) + side])
    few = np.full(120, -1)
    for c, end in ((0, -1), (1, 1)):
        few[np.argmin(np.where(side == c, np.abs(X[:, 0] - end), np.inf))] = c
    model = SemiSupervisedSWAE(2, hidden_layer_sizes=(32,), random_state=0)
    model.set_params(classify_by="encoder", max_epochs=30, lr=0.01)
    errors = [
        (model.set_params(adversarial_radius=r).fit(X, few).predict(X) != side).sum()
        for r in (0, 0.25)
    ]
    assert errors[0] > 3
    assert errors[1] == 0
