"""Ordinary user code, which ``mypy --strict`` accepts.

Where the exact type does not matter, ``assert_type(..., Any)`` with an error that is
ignored proves that it is not Any: mypy reports ignored errors that do not occur.
"""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

import skgen
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
    SampleDisplay,
    SemiSupervisedVAE,
    SGDGaussianMixture,
    dequantize,
    make_generative_pipeline,
    register_log_det,
    sliced_wasserstein_distance,
)
from skgen.base import GenerativeModel

FloatArray = NDArray[np.floating[Any]]


def kernel_density(X: FloatArray, weights: FloatArray) -> None:
    kde = GaussianKDE("silverman", covariance_type="diag", random_state=0)
    assert_type(kde, GaussianKDE)
    assert_type(kde.fit(X, sample_weight=weights), GaussianKDE)
    assert_type(kde.fit(X).score(X), float)
    assert_type(kde.score_samples(X), FloatArray)
    assert_type(kde.sample(5, random_state=np.random.RandomState(0)), FloatArray)
    assert_type(kde.transform(X), FloatArray)
    assert_type(kde.inverse_transform(kde.transform(X)), FloatArray)
    GaussianKDE([0.1, 0.2, 0.3], bounds=[(-9, None), None, None]).fit(X.tolist())
    GaussianKDE(0.5, device="cuda")


def mixtures(X: FloatArray) -> None:
    em = EMGaussianMixture(3, tol=1e-4, means_init=X[:3], random_state=0).fit(X)
    assert_type(em, EMGaussianMixture)
    assert_type(em.score_samples(X), FloatArray)
    assert_type(em.sample(), FloatArray)
    assert_type(em.bic(X), float)
    assert_type(em.aic(X), float)
    assert_type(em.predict(X), Any)  # type: ignore[assert-type]
    assert_type(em.predict_proba(X), Any)  # type: ignore[assert-type]
    assert_type(em.fit_predict(X), Any)  # type: ignore[assert-type]
    assert_type(em.partial_fit(X), EMGaussianMixture)
    sgd = SGDGaussianMixture(3, covariance_type="lowrank", rank=1, batch_size=64)
    assert_type(sgd.fit(X), SGDGaussianMixture)
    assert_type(sgd.partial_fit(X), SGDGaussianMixture)
    assert_type(sgd.score(X), float)


def autoencoders(X: FloatArray) -> None:
    ae = AutoEncoder(1, latent_density=EMGaussianMixture(2), max_epochs=3)
    assert_type(ae.fit(X), AutoEncoder)
    assert_type(ae.fit_latent_density(X), AutoEncoder)
    assert_type(ae.sample_latent(4, random_state=0), FloatArray)
    vae = VAE(2, beta=0.5, hidden_layer_sizes=(32, 16), activation="tanh", max_epochs=3)
    assert_type(vae.fit(X), VAE)
    assert_type(vae.score(X), float)
    assert_type(vae.inverse_transform(vae.sample_latent(3)), FloatArray)
    swae = SWAE(1, prior="uniform", early_stopping=True, max_epochs=3)
    assert_type(swae.fit(X), SWAE)
    assert_type(swae.partial_fit(X), SWAE)
    distance = sliced_wasserstein_distance(X, swae.sample(50), random_state=0)
    assert_type(distance, float)


def composed(X: FloatArray, y: NDArray[np.int64]) -> None:
    pipeline = GenerativePipeline([("pca", PCA(1)), ("kde", GaussianKDE())])
    assert_type(pipeline.fit(X), GenerativePipeline)
    assert_type(pipeline.score_samples(X), FloatArray)
    assert_type(pipeline.sample(2), FloatArray)
    assert_type(pipeline.set_output(transform="pandas"), GenerativePipeline)
    assert_type(pipeline.set_params(kde__bandwidth=0.3), GenerativePipeline)
    assert_type(pipeline.get_params(), dict[str, Any])
    made = make_generative_pipeline(StandardScaler(), EMGaussianMixture(2))
    assert_type(made, GenerativePipeline)

    classifier = GenerativeClassifier(made, priors=[0.5, 0.5]).fit(X, y)
    assert_type(classifier, GenerativeClassifier)
    assert_type(classifier.predict(X), Any)  # type: ignore[assert-type]
    assert_type(classifier.predict_proba(X), FloatArray)
    assert_type(classifier.predict_log_proba(X), FloatArray)
    assert_type(classifier.score(X, y), float)
    assert_type(classifier.score_samples(X), FloatArray)
    assert_type(classifier.sample(y=[0, 1], random_state=0), FloatArray)

    labelled = SemiSupervisedVAE(2, label_weight=10.0).fit(X, y)
    assert_type(labelled, SemiSupervisedVAE)
    assert_type(labelled.partial_fit(X, y, classes=[0, 1]), SemiSupervisedVAE)
    assert_type(labelled.predict_joint_log_proba(X), FloatArray)
    assert_type(labelled.score(X, y), float)
    assert_type(labelled.sample(3), FloatArray)
    draws, classes = labelled.sample(3, return_y=True)
    assert_type(draws, FloatArray)
    assert_type(classes.size, int)
    assert_type(labelled.inverse_transform(labelled.transform(X), y=0), FloatArray)

    detector = DensityOutlierDetector(GaussianKDE(), contamination=0.05)
    assert_type(detector.fit(X), DensityOutlierDetector)
    assert_type(detector.decision_function(X), FloatArray)
    assert_type(detector.score_samples(X), FloatArray)
    assert_type(detector.predict(X), Any)  # type: ignore[assert-type]


class Doubling:
    """A transformer of the user's own."""

    def fit(self, X: FloatArray, y: object = None) -> "Doubling":
        return self

    def transform(self, X: FloatArray) -> FloatArray:
        return 2 * X

    def inverse_transform(self, X: FloatArray) -> FloatArray:
        return X / 2


def log_det(transformer: Doubling, X: FloatArray, Y: FloatArray) -> FloatArray:
    return np.full(X.shape[0], X.shape[1] * np.log(2.0))


def registered() -> None:
    register_log_det(Doubling, log_det)


def displays(X: FloatArray, pixels: FloatArray) -> None:
    kde = GaussianKDE().fit(X)
    density = DensityDisplay.from_estimator(kde, X, features=[0, 1], n_draws=100)
    assert_type(density, DensityDisplay)
    assert_type(density.plot(fill=False), DensityDisplay)
    samples = SampleDisplay.from_estimator(
        GaussianKDE().fit(pixels), image_shape=(8, 8), n_images=4, random_state=0
    )
    assert_type(samples, SampleDisplay)
    assert_type(samples.plot(cmap="gray"), SampleDisplay)


def helpers(counts: NDArray[np.int64]) -> None:
    assert_type(dequantize(counts, random_state=0), FloatArray)
    assert_type(skgen.dequantize(counts.tolist()), FloatArray)
    assert_type(skgen.__version__, str)


def log_likelihood(model: GenerativeModel, X: FloatArray) -> float:
    """Return the score of any model; models share a typed base class."""
    return model.score(X)


def searches(X: FloatArray) -> None:
    search = GridSearchCV(GaussianKDE(), {"bandwidth": ["scott", "silverman"]}).fit(X)
    best: GaussianKDE = search.best_estimator_
    assert_type(log_likelihood(best, X), float)
    models: list[GaussianKDE | EMGaussianMixture] = [GaussianKDE(), EMGaussianMixture()]
    for model in models:
        assert_type(log_likelihood(model.fit(X), X), float)


def means(mixture: EMGaussianMixture | SGDGaussianMixture) -> FloatArray:
    assert_type(mixture.n_iter_, int)
    assert_type(mixture.lower_bounds_, list[float])
    return mixture.means_


def losses(model: VAE | SWAE | AutoEncoder) -> list[float]:
    assert_type(model.n_features_in_, int)
    return [epoch["train"] for epoch in model.history_]


def fitted(
    kde: GaussianKDE,
    classifier: GenerativeClassifier,
    detector: DensityOutlierDetector,
    pipeline: GenerativePipeline,
) -> tuple[float | None, FloatArray, float, str]:
    assert_type(kde.X_train_, FloatArray)
    return kde.loo_score_, classifier.priors_, detector.offset_, pipeline.steps_[0][0]
