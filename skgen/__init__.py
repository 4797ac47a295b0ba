"""Generative models as scikit-learn estimators.

Every model draws a latent ``z`` from ``p(z)``, then a row ``x`` from ``p(x | z)``,
and answers the same four questions on the same scale: ``score_samples`` is
``log p(x)`` in nats and in the units of the data, ``sample`` draws from that same
density, ``transform`` is ``E[z | x]`` and ``inverse_transform`` is ``E[x | z]``.

A map of the package:

===============================  ==============================================
``skgen.GaussianKDE``            a normal kernel on every training row (``kde/``)
``skgen.EMGaussianMixture``      a few normal components, by EM (``mixture/``)
``skgen.SGDGaussianMixture``     the same by gradients; streams; low rank
``skgen.AutoEncoder``            codes of networks, and a density of them
``skgen.VAE``                    codes drawn to a normal density by the ELBO
``skgen.SWAE``                   codes matched to a prior, projection by projection
``skgen.GenerativePipeline``     transformers, then a density, in the units of the
                                 data (``compose/``)
``skgen.GenerativeClassifier``   one density for each class, and Bayes' rule
``skgen.DensityOutlierDetector`` the rows where a density is lowest
``skgen.DensityDisplay``         a density beside the data (``display/``)
``skgen.SampleDisplay``          draws as pictures
``skgen.dequantize``             noise of one grid step for tied columns
``skgen.TRUSTED_TYPES``          the types in a model that skops saved
``skgen.base``                   the contract: every public method checks here, once
``skgen.neural``                 the engine that descends gradients
``python -m skgen``              compares the models on a table
===============================  ==============================================
"""

from typing import TYPE_CHECKING

from skgen._lazy import lazy_names

if TYPE_CHECKING:
    from skgen._persistence import TRUSTED_TYPES
    from skgen._ties import dequantize
    from skgen.autoencoder._autoencoder import AutoEncoder
    from skgen.autoencoder._distance import (
        sliced_wasserstein_distance,
    )
    from skgen.autoencoder._swae import SWAE
    from skgen.autoencoder._vae import VAE
    from skgen.compose._classifier import GenerativeClassifier
    from skgen.compose._log_det import register_log_det
    from skgen.compose._make import make_generative_pipeline
    from skgen.compose._outliers import DensityOutlierDetector
    from skgen.compose._pipeline import GenerativePipeline
    from skgen.display._density import DensityDisplay
    from skgen.display._sample import SampleDisplay
    from skgen.kde._gaussian_kde import GaussianKDE
    from skgen.mixture._em import EMGaussianMixture
    from skgen.mixture._sgd import SGDGaussianMixture

__all__ = [
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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
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
        "dequantize": "skgen._ties",
        "make_generative_pipeline": "skgen.compose._make",
        "register_log_det": "skgen.compose._log_det",
        "sliced_wasserstein_distance": "skgen.autoencoder._distance",
        "autoencoder": "skgen.autoencoder",
        "base": "skgen.base",
        "compose": "skgen.compose",
        "display": "skgen.display",
        "kde": "skgen.kde",
        "mixture": "skgen.mixture",
        "neural": "skgen.neural",
    },
)
