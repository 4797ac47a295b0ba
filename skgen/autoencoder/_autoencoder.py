"""Autoencoder with a density model of its latent codes."""

from __future__ import annotations

from typing import Any

from skgen._typing import RandomState
from skgen.autoencoder._base import AbstractAutoencoder
from skgen.autoencoder._networks import AutoencoderModule
from skgen.autoencoder._parameters import Density, Network, Optimizer, with_docs
from skgen.autoencoder._parts import AutoencoderParts
from skgen.neural._parameters import Sizes


class Reconstruction(AutoencoderModule):
    """Negative mean log-likelihood of rows given their codes."""

    def forward(self, x):
        return -self.reconstruct(x)[1].mean()


@with_docs
class AutoEncoder(AutoencoderParts, AbstractAutoencoder):
    r"""Autoencoder with a density model of its latent codes.

    An encoder :math:`f` maps a row to a code, a point of a latent space of few
    dimensions. A decoder :math:`g` maps the code back. Training minimises

    .. math:: -\frac1n \sum_i \log p(x_i | z = f(x_i)),

    which for normal features of unit noise variance is half the squared error, up to a
    constant. This loss does not determine the distribution of the codes. After
    training, a density of the codes and the variances of the noise are fitted, so that
    the model has a density :math:`p(x)`. Read more in the :doc:`/guide/autoencoders`.

    See Also
    --------
    VAE : Autoencoder with a normal prior, trained by a lower bound.
    SWAE : Autoencoder whose codes are matched to a prior by sorted projections.

    Notes
    -----
    The density is not fitted to the encoder's codes but to draws from a normal
    approximation (Laplace's method) of the posterior of each row's code. The encoder's
    codes contain the noise of the rows, so the noise would count twice. EM estimates
    the noise variances under the same posterior. A linear autoencoder with
    spherical noise is probabilistic PCA [1]_. Generating rows by decoding draws from a
    density that is fitted to codes follows [2]_. If the density cannot be fitted, the
    trained networks are kept; `fit_latent_density` fits another density.

    References
    ----------
    .. [1] Tipping, M. E. and Bishop, C. M. (1999). Probabilistic principal component
       analysis. Journal of the Royal Statistical Society B 61, 611-622.
    .. [2] Ghosh, P., Sajjadi, M. S. M., Vergari, A., Black, M. and Scholkopf, B.
       (2020). From variational to deterministic autoencoders. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import AutoEncoder
    >>> rng = np.random.RandomState(0)
    >>> t = rng.uniform(0, 3, 200)
    >>> X = np.column_stack([np.sin(t), np.cos(t)]) + 0.05 * rng.normal(size=(200, 2))
    >>> model = AutoEncoder(n_components=1, max_epochs=20, random_state=0).fit(X)
    >>> model.sample(3).shape
    (3, 2)
    >>> model.inverse_transform(model.transform(X)).shape
    (200, 2)
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        hidden_layer_sizes: Sizes = (128,),
        activation: str = "relu",
        encoder: Network | None = None,
        decoder: Network | None = None,
        image_shape: Sizes | None = None,
        encode_mask: bool = False,
        likelihood: str = "gaussian",
        noise_covariance: str = "diag",
        latent_density: Density | None = None,
        n_importance_samples: int = 64,
        max_epochs: int = 100,
        batch_size: int | str = "auto",
        lr: float = 5e-3,
        optimizer: Optimizer = "adam",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        net_callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | None = None,
        random_state: RandomState = None,
        device: str = "cpu",
    ) -> None:
        self._set_shared(locals())

    def _loss_module(self, *networks, **parameters):
        return Reconstruction(*networks, **parameters)

    def _prior_in_training(self, codes):
        return None
