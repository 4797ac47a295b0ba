"""Autoencoders with a density: networks that map rows to codes and back."""

from typing import TYPE_CHECKING

from skgen._lazy import importable, lazy_names

if TYPE_CHECKING:
    from skgen.autoencoder._autoencoder import AutoEncoder
    from skgen.autoencoder._rae import RAE
    from skgen.autoencoder._sliced_wasserstein import (
        sliced_wasserstein_distance,
    )
    from skgen.autoencoder._swae import SWAE
    from skgen.autoencoder._vae import VAE

__all__ = ["RAE", "SWAE", "VAE", "AutoEncoder", "sliced_wasserstein_distance"]

# Hidden from type checkers, for which a module with `__getattr__` has every name.
if not TYPE_CHECKING:
    __all__ = importable(__all__)
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "RAE": "skgen.autoencoder._rae",
            "SWAE": "skgen.autoencoder._swae",
            "VAE": "skgen.autoencoder._vae",
            "AutoEncoder": "skgen.autoencoder._autoencoder",
            "sliced_wasserstein_distance": "skgen.autoencoder._sliced_wasserstein",
        },
    )
