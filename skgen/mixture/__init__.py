"""Gaussian mixtures."""

from skgen.mixture._em import EMGaussianMixture

__all__ = ["EMGaussianMixture"]
