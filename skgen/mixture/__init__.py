"""Gaussian mixtures."""

from skgen.mixture._em import EMGaussianMixture
from skgen.mixture._sgd import SGDGaussianMixture

__all__ = ["EMGaussianMixture", "SGDGaussianMixture"]
