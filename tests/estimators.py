"""One table of cheap instances: every test of all models runs over it."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import PowerTransformer, RobustScaler, StandardScaler

from skgen import (
    SWAE,
    VAE,
    AutoEncoder,
    DensityOutlierDetector,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    GenerativePipeline,
    SGDGaussianMixture,
)

KDES = [
    GaussianKDE(random_state=0),
    GaussianKDE("silverman", random_state=0),
    GaussianKDE(covariance_type="diag", random_state=0),
    GaussianKDE(covariance_type="spherical", random_state=0),
    GaussianKDE(0.7, random_state=0),
    GaussianKDE("likelihood", random_state=0),
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
# Small enough for hundreds of fits.
SMALL = {"hidden_layer_sizes": (6,), "max_epochs": 15, "random_state": 0}
AUTOENCODERS = [
    AutoEncoder(1, **SMALL),
    AutoEncoder(
        1, noise_covariance="spherical", latent_density=EMGaussianMixture(2), **SMALL
    ),
    VAE(1, activation="tanh", **SMALL),
    VAE(1, n_importance=3, early_stopping=True, **{**SMALL, "lr": 0.02}),
    SWAE(1, noise_covariance="spherical", **SMALL),
    SWAE(1, prior="ring", batch_size=25, optimizer="adamw", **SMALL),
]
PIPELINES = [
    GenerativePipeline(
        [("scale", StandardScaler()), ("kde", GaussianKDE(random_state=0))]
    ),
    GenerativePipeline(
        [
            ("pca", PCA(1, svd_solver="full")),
            ("mixture", EMGaussianMixture(2, random_state=0)),
        ]
    ),
    GenerativePipeline(
        [
            ("robust", RobustScaler()),
            ("nothing", "passthrough"),
            ("whiten", PCA(1, whiten=True)),
            ("mixture", SGDGaussianMixture(2, random_state=0)),
        ]
    ),
    GenerativePipeline(
        [
            ("power", PowerTransformer()),
            ("kde", GaussianKDE(covariance_type="diag", random_state=0)),
        ]
    ),
    GenerativePipeline([("scale", StandardScaler()), ("vae", VAE(1, **SMALL))]),
]
CLASSIFIERS = [
    GenerativeClassifier(EMGaussianMixture(random_state=0)),
    GenerativeClassifier(GaussianKDE(), priors=None),
]
DETECTORS = [
    DensityOutlierDetector(GaussianKDE()),
    DensityOutlierDetector(PIPELINES[1], contamination=0.2),
]
WRAPPERS = CLASSIFIERS + DETECTORS
WEIGHTED = KDES + MIXTURES  # those whose `fit` takes weights
GRADIENT = GRADIENT_MIXTURES + AUTOENCODERS  # those that descend a gradient
MODELS = WEIGHTED + GRADIENT + PIPELINES

# Their log-density is an estimate, to hundredths of a nat and at a price.
ESTIMATED = [*AUTOENCODERS, PIPELINES[4]]

# Not those with lengths in the units of the data, which rescaled data do not rescale,
# or with powers of them.
SCALE_FREE = [
    model
    for model in MODELS
    if model.get_params().get("bandwidth") != 0.7 and model is not PIPELINES[3]
]


def seeded(model, random_state):
    """Set the `random_state` of a model, or of the density at the end of a pipeline."""
    seeds = [p for p in model.get_params() if p.split("__")[-1] == "random_state"]
    return model.set_params(**dict.fromkeys(seeds, random_state))


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
