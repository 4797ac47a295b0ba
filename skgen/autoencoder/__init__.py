"""Autoencoders: networks that map rows to codes and back, with a density.

PyTorch and skorch are imported at the first fit, not here.
"""

from skgen.autoencoder._autoencoder import AutoEncoder
from skgen.autoencoder._distance import sliced_wasserstein_distance
from skgen.autoencoder._swae import SWAE
from skgen.autoencoder._vae import VAE

__all__ = ["SWAE", "VAE", "AutoEncoder", "sliced_wasserstein_distance"]
