"""Two tables of cheap instances: every test of all models runs over one of them.

`ONE_OF_EACH` holds an instance of each public estimator, for everything that
`skgen.base` decides. `VARIANTS` holds densities with other parameters, for the
mathematics.
"""

from functools import cache

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import PowerTransformer, RobustScaler, StandardScaler

from skgen import (
    RAE,
    SWAE,
    VAE,
    AutoEncoder,
    ClassSupervisedAutoEncoder,
    DensityOutlierDetector,
    DiffusionModel,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    GenerativeImputer,
    GenerativePipeline,
    NormalizingFlow,
    SemiSupervisedSWAE,
    SemiSupervisedVAE,
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
    RAE(1, **SMALL),
    SWAE(1, noise_covariance="spherical", **SMALL),
    SWAE(1, prior="ring", batch_size=25, optimizer="adamw", **SMALL),
]


class WithLabels:
    """Mixin of a model that gets labels in `fit`: of two classes, and of none."""

    def fit(self, X, y=None):
        try:
            first = np.asarray(X, dtype=float)[:, 0]
        except (TypeError, ValueError, IndexError):  # the model names what is wrong
            return super().fit(X)
        upper = np.argsort(np.argsort(first, kind="stable")) >= first.size // 2
        labels = upper.astype(int)
        labels[2::3] = -1
        return super().fit(X, labels)


class LabelledClassSupervised(WithLabels, ClassSupervisedAutoEncoder):
    pass


class LabelledSWAE(WithLabels, SemiSupervisedSWAE):
    pass


class LabelledVAE(WithLabels, SemiSupervisedVAE):
    pass


LABELLED = [
    LabelledClassSupervised(1, latent_density=EMGaussianMixture(), **SMALL),
    LabelledSWAE(1, **{**SMALL, "lr": 0.02}),
    LabelledVAE(1, **SMALL),
]
AUTOENCODERS += LABELLED
SMALL_FLOW = {
    "hidden_layer_sizes": (8,),
    "n_bins": 4,
    "max_epochs": 5,
    "lr": 0.01,
    "random_state": 0,
}
FLOWS = [
    NormalizingFlow(1, **SMALL_FLOW),
    NormalizingFlow(
        2, autoregressive=False, base="mixture", early_stopping=False, **SMALL_FLOW
    ),
]
SMALL_DIFFUSION = {"max_epochs": 5, "lr": 0.01, "random_state": 0}
DIFFUSIONS = [
    DiffusionModel((8,), base="spline", **SMALL_DIFFUSION),
    DiffusionModel((6, 4), base="normal", early_stopping=False, **SMALL_DIFFUSION),
    DiffusionModel((4,), base="flow", **SMALL_DIFFUSION),
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
    # The density of a pipeline takes no weights, which scikit-learn's checks pass.
    DensityOutlierDetector(EMGaussianMixture(2, random_state=0), contamination=0.2),
]
WRAPPERS = CLASSIFIERS + DETECTORS
# No densities: `transform` completes rows.
IMPUTERS = [GenerativeImputer(EMGaussianMixture(2, random_state=0))]
WEIGHTED = KDES + MIXTURES  # `fit` takes weights
VARIANTS = WEIGHTED + GRADIENT_MIXTURES + AUTOENCODERS + FLOWS + DIFFUSIONS
VARIANTS += PIPELINES

# Few epochs and few importance samples.
QUICK_SGD = {"tol": 0.1, "n_iter_no_change": 2, "batch_size": 60, "random_state": 0}
QUICK = {**SMALL, "max_epochs": 5, "n_importance_samples": 8}
QUICK_GRADIENT = [
    SGDGaussianMixture(2, **QUICK_SGD),
    AutoEncoder(1, latent_density=EMGaussianMixture(), **QUICK),
    VAE(1, **QUICK),
    SWAE(1, **QUICK),
    # Autoencoders whose codes get a density after training.
    *(
        cls(1, latent_density=EMGaussianMixture(), **QUICK)
        for cls in dict.fromkeys(map(type, AUTOENCODERS))
        if cls not in (AutoEncoder, VAE, SWAE) and not issubclass(cls, WithLabels)
    ),
]
# Without labels in a fit of a test, these are an AutoEncoder, a SWAE and a VAE.
# scikit-learn's checks want them to learn its classes.
QUICK_LABELLED = {**QUICK, "max_epochs": 8, "lr": 0.05, "label_weight": 10.0}
SEMI_SUPERVISED = [
    ClassSupervisedAutoEncoder(2, latent_density=EMGaussianMixture(), **QUICK_LABELLED),
    # The density of every class would take most of the time of the checks.
    SemiSupervisedSWAE(2, classify_by="encoder", **QUICK_LABELLED),
    SemiSupervisedVAE(1, classify_by="encoder", **QUICK_LABELLED),
]
DENSITIES = [KDES[0], MIXTURES[1], *QUICK_GRADIENT, PIPELINES[1]]
WITH_SCORES = [
    *DENSITIES,
    FLOWS[0],
    DIFFUSIONS[0],
    CLASSIFIERS[0],
    DETECTORS[0],
    *SEMI_SUPERVISED,
]
ONE_OF_EACH = WITH_SCORES + IMPUTERS

GRADIENT = GRADIENT_MIXTURES + AUTOENCODERS + FLOWS + DIFFUSIONS + QUICK_GRADIENT
MODELS = VARIANTS + QUICK_GRADIENT  # every density of the two tables
# The log-density is an estimate, with an error of hundredths of a nat.
ESTIMATED = [*AUTOENCODERS, *QUICK_GRADIENT[1:], PIPELINES[4]]
# A VAE, the fastest, stands for all autoencoders in the default selection.
SIBLINGS = [model for model in QUICK_GRADIENT[1:] if not isinstance(model, VAE)]
# These models take most of the time of the mathematics.
SLOW = [
    *GRADIENT_MIXTURES,
    *AUTOENCODERS,
    FLOWS[1],
    *DIFFUSIONS,
    PIPELINES[2],
    PIPELINES[4],
    *SIBLINGS,
]
# The thorough selection has another instance of each sibling.
DIFFERENT = [model for model in MODELS if model not in SIBLINGS]

# No lengths in the units of the data, nor powers of them, which rescaled data do not
# rescale.
SCALE_FREE = [
    model
    for model in DIFFERENT
    if model.get_params().get("bandwidth") != 0.7 and model is not PIPELINES[3]
]


def over(models, default=None):
    """Parametrize a test by `model`.

    Models outside `default` are marked "thorough"; without it, the slow ones are.
    """
    if default is None:
        default = [model for model in models if model not in SLOW]
    return pytest.mark.parametrize(
        "model",
        [
            pytest.param(
                model,
                id=_identifier(model),
                marks=() if model in default else pytest.mark.thorough,
            )
            for model in models
        ],
    )


def thorough(*values):
    """Return a set of parameters that the thorough selection adds to a test."""
    return pytest.param(*values, marks=pytest.mark.thorough)


def seeded(model, random_state):
    """Set the `random_state` of a model, or of the density at the end of a pipeline."""
    seeds = [p for p in model.get_params() if p.split("__")[-1] == "random_state"]
    return model.set_params(**dict.fromkeys(seeds, random_state))


def name(model):
    """Return the identifier of a model in the names of tests."""
    return "".join(str(model).split()).replace("random_state=0", "").replace(",)", ")")


_identifier = cache(name)  # of the instances of the tables, which no test changes


def rows(n_samples, n_features, seed=0):
    """Return rows from two correlated clusters, one twice as wide as the other."""
    rng = np.random.RandomState(seed)
    mixing = np.eye(n_features) + 0.4 * rng.standard_normal((n_features, n_features))
    X = rng.standard_normal((n_samples, n_features)) @ mixing
    far = rng.uniform(size=n_samples) < 0.4
    X[far] = 0.5 * X[far] + 3.0
    return X
