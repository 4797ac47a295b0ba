"""One table of cheap instances: every test of all models runs over it."""

import numpy as np

from skgen import EMGaussianMixture, GaussianKDE, SGDGaussianMixture

KDES = [
    GaussianKDE(random_state=0),
    GaussianKDE("silverman", random_state=0),
    GaussianKDE(covariance_type="diag", random_state=0),
    GaussianKDE(covariance_type="spherical", random_state=0),
    GaussianKDE(0.7, random_state=0),
]
MIXTURES = [
    EMGaussianMixture(random_state=0),
    EMGaussianMixture(3, random_state=0),
    EMGaussianMixture(
        3, covariance_type="tied", init_params="k-means++", random_state=0
    ),
    EMGaussianMixture(3, covariance_type="diag", n_init=2, random_state=0),
    EMGaussianMixture(3, covariance_type="spherical", random_state=0),
    EMGaussianMixture(2, init_params="random", random_state=0),
    EMGaussianMixture(2, init_params="random_from_data", random_state=0),
]
GRADIENT_MIXTURES = [
    SGDGaussianMixture(3, random_state=0),
    SGDGaussianMixture(
        3, covariance_type="tied", init_params="k-means++", random_state=0
    ),
    SGDGaussianMixture(
        3, covariance_type="diag", early_stopping=False, batch_size=25, random_state=0
    ),
    SGDGaussianMixture(
        3, covariance_type="spherical", init_params="random", random_state=0
    ),
    SGDGaussianMixture(
        2, covariance_type="lowrank", rank=1, optimizer="adamw", random_state=0
    ),
]
WEIGHTED = KDES + MIXTURES  # those whose `fit` takes weights
GRADIENT = GRADIENT_MIXTURES  # those that descend a gradient
MODELS = WEIGHTED + GRADIENT

# Lengths in the units of the data, which rescaled data do not rescale.
SCALE_FREE = [model for model in MODELS if model.get_params().get("bandwidth") != 0.7]


def name(model):
    """Return the identifier of a model in the names of tests."""
    return "".join(str(model).split()).replace("random_state=0", "").replace(",)", ")")


def rows(n_samples, n_features, seed=0):
    """Return rows from two correlated clusters, one twice as wide as the other."""
    rng = np.random.RandomState(seed)
    mixing = np.eye(n_features) + 0.4 * rng.standard_normal((n_features, n_features))
    X = rng.standard_normal((n_samples, n_features)) @ mixing
    far = rng.uniform(size=n_samples) < 0.4
    X[far] = 0.5 * X[far] + 3.0
    return X
