"""Autoencoders with a density: networks that map rows to codes and back."""

from typing import TYPE_CHECKING

from skgen._lazy import lazy_names

if TYPE_CHECKING:
    from skgen.autoencoder._autoencoder import AutoEncoder as AutoEncoder
    from skgen.autoencoder._class_supervised import (
        ClassSupervisedAutoEncoder as ClassSupervisedAutoEncoder,
    )
    from skgen.autoencoder._rae import RAE as RAE
    from skgen.autoencoder._semi_supervised_swae import (
        SemiSupervisedSWAE as SemiSupervisedSWAE,
    )
    from skgen.autoencoder._semi_supervised_vae import (
        SemiSupervisedVAE as SemiSupervisedVAE,
    )
    from skgen.autoencoder._sliced_wasserstein import (
        sliced_wasserstein_distance as sliced_wasserstein_distance,
    )
    from skgen.autoencoder._swae import SWAE as SWAE
    from skgen.autoencoder._vae import VAE as VAE

# Hidden from type checkers, for which a module with `__getattr__` has every name.
if not TYPE_CHECKING:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__,
        {"sliced_wasserstein_distance": "_sliced_wasserstein"},
        neural={
            "AutoEncoder": "_autoencoder",
            "ClassSupervisedAutoEncoder": "_class_supervised",
            "RAE": "_rae",
            "SemiSupervisedSWAE": "_semi_supervised_swae",
            "SemiSupervisedVAE": "_semi_supervised_vae",
            "SWAE": "_swae",
            "VAE": "_vae",
        },
    )
