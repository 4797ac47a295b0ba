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
``skgen.base``                   the contract: every public method checks here, once
``skgen.neural``                 the engine that descends gradients
``python -m skgen``              compares the models on a table
===============================  ==============================================
"""

from skgen._ties import dequantize
from skgen.autoencoder import SWAE, VAE, AutoEncoder, sliced_wasserstein_distance
from skgen.compose import (
    DensityOutlierDetector,
    GenerativeClassifier,
    GenerativePipeline,
    make_generative_pipeline,
    register_log_det,
)
from skgen.display import DensityDisplay, SampleDisplay
from skgen.kde import GaussianKDE
from skgen.mixture import EMGaussianMixture, SGDGaussianMixture

__all__ = [
    "SWAE",
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
