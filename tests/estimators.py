"""One table of cheap instances: every test of all models runs over it."""

import numpy as np

from skgen import EMGaussianMixture, GaussianKDE

KDES = [
    GaussianKDE(),
    GaussianKDE("silverman"),
    GaussianKDE(covariance_type="diag"),
    GaussianKDE(covariance_type="spherical"),
    GaussianKDE(0.7),
]
MIXTURES = [
    EMGaussianMixture(),
    EMGaussianMixture(3),
    EMGaussianMixture(3, covariance_type="tied", init_params="k-means++"),
    EMGaussianMixture(3, covariance_type="diag", n_init=2),
    EMGaussianMixture(3, covariance_type="spherical"),
    EMGaussianMixture(2, init_params="random"),
    EMGaussianMixture(2, init_params="random_from_data"),
]
MODELS = KDES + MIXTURES

# Lengths in the units of the data, which rescaled data do not rescale.
SCALE_FREE = [model for model in MODELS if model.get_params().get("bandwidth") != 0.7]


def name(model):
    """Return the identifier of a model in the names of tests."""
    return "".join(str(model).split())


def rows(n_samples, n_features, seed=0):
    """Return rows from two correlated clusters, one twice as wide as the other."""
    rng = np.random.RandomState(seed)
    mixing = np.eye(n_features) + 0.4 * rng.standard_normal((n_features, n_features))
    X = rng.standard_normal((n_samples, n_features)) @ mixing
    far = rng.uniform(size=n_samples) < 0.4
    X[far] = 0.5 * X[far] + 3.0
    return X
