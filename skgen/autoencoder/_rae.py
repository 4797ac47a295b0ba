"""Regularised autoencoder."""

from __future__ import annotations

from typing import Any

from skgen._checks import check_nonnegative
from skgen._typing import RandomState
from skgen.autoencoder._base import AbstractAutoencoder
from skgen.autoencoder._networks import AutoencoderModule
from skgen.autoencoder._parameters import Density, Network, Optimizer, with_docs
from skgen.autoencoder._parts import AutoencoderParts
from skgen.neural._parameters import Sizes


class Regularised(AutoencoderModule):
    """Reconstruction loss plus half the squared norms of codes and decoder."""

    def forward(self, x):
        z, fit = self.reconstruct(x)  # (n, k), (n,)
        loss = 0.5 * self.code_weight * z.square().sum(-1) - fit  # (n,)
        weights = sum(p.square().sum() for p in self.decoder.parameters())
        return loss.mean() + 0.5 * self.decoder_decay * weights


@with_docs
class RAE(AutoencoderParts, AbstractAutoencoder):
    r"""Regularised autoencoder.

    Small codes and a smooth decoder. Training minimises

    .. math:: -\frac1n \sum_i \log p(x_i | z_i) + \frac{\beta}{2n} \sum_i |z_i|^2
              + \frac{\lambda}{2} |\theta|^2, \qquad z_i = f(x_i),

    with encoder :math:`f` and weights :math:`\theta` of the decoder [1]_. A density is
    fitted to the codes after training, as in :class:`AutoEncoder`. Read more in the
    :doc:`/guide/autoencoders`.

    Parameters
    ----------
    code_weight : float
        Weight :math:`\beta` of the squared norm of the codes.
    decoder_decay : float
        Weight :math:`\lambda` of the squared norm of the weights of the decoder.

    See Also
    --------
    AutoEncoder : Autoencoder without the two norms.

    References
    ----------
    .. [1] Ghosh, P., Sajjadi, M. S. M., Vergari, A., Black, M. and Scholkopf, B.
       (2020). From variational to deterministic autoencoders. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import RAE
    >>> X = np.random.RandomState(0).normal(size=(200, 2))
    >>> RAE(n_components=1, max_epochs=20, random_state=0).fit(X).sample(3).shape
    (3, 2)
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        code_weight: float = 1e-2,
        decoder_decay: float = 1e-4,
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
        self.code_weight, self.decoder_decay = code_weight, decoder_decay

    _loss_checks = dict.fromkeys(("code_weight", "decoder_decay"), check_nonnegative)

    def _loss_module(self, *networks, **parameters):
        return Regularised(*networks, **parameters)

    def _prior_in_training(self, codes):
        return None
