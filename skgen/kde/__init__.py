"""Kernel density estimation."""

from skgen.kde._gaussian_kde import GaussianKDE

__all__ = ["GaussianKDE"]
