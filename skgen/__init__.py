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
``ClassSupervisedAutoEncoder``       Autoencoder whose codes are shaped by classes.
``SemiSupervisedSWAE``               Sliced-Wasserstein autoencoder with few labels.
``SemiSupervisedVAE``                Variational autoencoder with few labels.
``NormalizingFlow``                  Invertible map of rows to latents, with exact
                                     scores.
``DiffusionModel``                   Noise that becomes a row by a differential
                                     equation, with exact scores.
``GenerativePipeline``               Transformers followed by a density, scored
                                     in the units of the data.
``make_generative_pipeline``         Pipeline whose steps are named automatically.
``register_log_det``                 Log-determinant of the Jacobian of a custom
                                     transformer.
``GenerativeClassifier``             Classifier by Bayes' rule, with one density
                                     per class.
``DensityOutlierDetector``           Outlier detection by low density.
``GenerativeImputer``                Imputation of missing values by a density.
``DensityDisplay``                   Plot of a density beside the data.
``OutlierExplanationDisplay``        Columns that make a row an outlier.
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

from skgen._lazy import lazy_names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from skgen import base as base
    from skgen import neural as neural
    from skgen._dequantize import dequantize as dequantize
    from skgen._persistence import TRUSTED_TYPES as TRUSTED_TYPES
    from skgen.autoencoder import *  # noqa: F403
    from skgen.compose import *  # noqa: F403
    from skgen.diffusion import *  # noqa: F403
    from skgen.display import *  # noqa: F403
    from skgen.flow import *  # noqa: F403
    from skgen.kde import *  # noqa: F403
    from skgen.mixture import *  # noqa: F403

# Hidden from type checkers, for which a module with `__getattr__` has every name.
if not TYPE_CHECKING:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__,
        {"TRUSTED_TYPES": "_persistence", "dequantize": "_dequantize"},
        rooms=(
            *("autoencoder", "compose", "diffusion", "display", "flow", "kde"),
            "mixture",
        ),
        modules=("base", "neural"),
    )
