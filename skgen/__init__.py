"""Generative models as scikit-learn estimators.

Every model draws a latent ``z`` from ``p(z)``, then a row ``x`` from ``p(x | z)``.
All models have the same four methods: ``score_samples(X)`` returns ``log p(x)`` in nats
and in the units of the data, ``sample`` draws from the same density, ``transform(X)``
returns ``E[z | x]`` and ``inverse_transform(Z)`` returns ``E[x | z]``.

Contents of the package:

===================================  ==========================================
``GaussianKDE``                      Kernel density estimation with a normal
                                     kernel.
``EMGaussianMixture``                Gaussian mixture, fitted by expectation-
                                     maximisation (EM).
``SGDGaussianMixture``               Gaussian mixture, fitted by stochastic
                                     gradient descent (SGD).
``AutoEncoder``                      Autoencoder with a density of its latent
                                     codes, fitted after training.
``VAE``                              Variational autoencoder.
``RAE``                              Regularised autoencoder.
``SWAE``                             Sliced-Wasserstein autoencoder.
``GenerativePipeline``               Transformers followed by a density, scored
                                     in the units of the data.
``make_generative_pipeline``         Pipeline whose steps are named automatically.
``register_log_det``                 Log-determinant of the Jacobian of a custom
                                     transformer.
``GenerativeClassifier``             Classifier by Bayes' rule, with one density
                                     per class.
``DensityOutlierDetector``           Outlier detection by low density.
``DensityDisplay``                   Plot of a density beside the data.
``SampleDisplay``                    Images of samples or reconstructions.
``dequantize``                       Uniform noise for counts and rounded data.
``sliced_wasserstein_distance``      Sliced Wasserstein distance between two
                                     data sets.
``TRUSTED_TYPES``                    Types of the models, for loading them with
                                     skops.
``skgen.base.GenerativeModel``       Base class of the models: all of their
                                     public methods.
``skgen.neural.GradientModel``       Base class of models trained by gradient
                                     descent.
``python -m skgen``                  Command line: cross-validated comparison of
                                     the models on a table.
===================================  ==========================================
"""

from typing import TYPE_CHECKING

from skgen._lazy import importable, lazy_names

if TYPE_CHECKING:
    from skgen import autoencoder as autoencoder
    from skgen import base as base
    from skgen import compose as compose
    from skgen import display as display
    from skgen import kde as kde
    from skgen import mixture as mixture
    from skgen import neural as neural
    from skgen._dequantize import dequantize
    from skgen._persistence import TRUSTED_TYPES
    from skgen.autoencoder._autoencoder import AutoEncoder
    from skgen.autoencoder._rae import RAE
    from skgen.autoencoder._sliced_wasserstein import sliced_wasserstein_distance
    from skgen.autoencoder._swae import SWAE
    from skgen.autoencoder._vae import VAE
    from skgen.compose._changes import register_log_det
    from skgen.compose._classifier import GenerativeClassifier
    from skgen.compose._outliers import DensityOutlierDetector
    from skgen.compose._pipeline import GenerativePipeline, make_generative_pipeline
    from skgen.display._density import DensityDisplay
    from skgen.display._sample import SampleDisplay
    from skgen.kde._gaussian_kde import GaussianKDE
    from skgen.mixture._em import EMGaussianMixture
    from skgen.mixture._sgd import SGDGaussianMixture

__all__ = [
    "RAE",
    "SWAE",
    "TRUSTED_TYPES",
    "VAE",
    "AutoEncoder",
    "DensityDisplay",
    "DensityOutlierDetector",
    "EMGaussianMixture",
    "GaussianKDE",
    "GenerativeClassifier",
    "GenerativePipeline",
    "SGDGaussianMixture",
    "SampleDisplay",
    "dequantize",
    "make_generative_pipeline",
    "register_log_det",
    "sliced_wasserstein_distance",
]

__version__ = "0.1.0"

# Hidden from type checkers, for which a module with `__getattr__` has every name.
if not TYPE_CHECKING:
    __all__ = importable(__all__)
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "RAE": "skgen.autoencoder._rae",
            "SWAE": "skgen.autoencoder._swae",
            "TRUSTED_TYPES": "skgen._persistence",
            "VAE": "skgen.autoencoder._vae",
            "AutoEncoder": "skgen.autoencoder._autoencoder",
            "DensityDisplay": "skgen.display._density",
            "DensityOutlierDetector": "skgen.compose._outliers",
            "EMGaussianMixture": "skgen.mixture._em",
            "GaussianKDE": "skgen.kde._gaussian_kde",
            "GenerativeClassifier": "skgen.compose._classifier",
            "GenerativePipeline": "skgen.compose._pipeline",
            "SGDGaussianMixture": "skgen.mixture._sgd",
            "SampleDisplay": "skgen.display._sample",
            "dequantize": "skgen._dequantize",
            "make_generative_pipeline": "skgen.compose._pipeline",
            "register_log_det": "skgen.compose._changes",
            "sliced_wasserstein_distance": "skgen.autoencoder._sliced_wasserstein",
            "autoencoder": "skgen.autoencoder",
            "base": "skgen.base",
            "compose": "skgen.compose",
            "display": "skgen.display",
            "kde": "skgen.kde",
            "mixture": "skgen.mixture",
            "neural": "skgen.neural",
        },
    )
