"""Semi-supervised variational autoencoder."""

from __future__ import annotations

import skgen._needs_torch  # noqa: F401

# isort: split

from typing import Any, ClassVar

import numpy as np
import torch

from skgen._checks import check_nonnegative
from skgen._typing import ArrayLike, RandomState
from skgen.autoencoder._calibration import calibrate_classes
from skgen.autoencoder._class_posteriors import ClassPosteriors
from skgen.autoencoder._labelled import LabelledAutoencoder
from skgen.autoencoder._parameters import Network, Optimizer, with_label_docs
from skgen.autoencoder._prior import standard_normal
from skgen.autoencoder._semi_variational import SemiVariational
from skgen.autoencoder._vae import Variational
from skgen.neural._parameters import Sizes


@with_label_docs
class SemiSupervisedVAE(LabelledAutoencoder):
    r"""Variational autoencoder with a class and a code that is independent of it.

    A class is drawn with probability :math:`\pi_c`, a code from :math:`\mathcal N(0,
    I)`, and a row from :math:`p(x | z, c)`, whose parameters the decoder computes from
    both [1]_. The encoder returns a classifier :math:`q(c | x)` and a normal density
    :math:`q(z | x, c)` for each class. With the lower bound

    .. math:: L(x, c) = \mathbb E_{q(z | x, c)} \log p(x | z, c) + \log \pi_c
              - \beta \, \mathrm{KL}(q(z | x, c) \,\|\, \mathcal N(0, I)),

    training maximises the mean over rows of :math:`L(x, y)` for labelled rows and of
    :math:`\sum_c q(c | x) (L(x, c) - \log q(c | x))` for others, plus `label_weight`
    times the mean of :math:`\log q(y | x)` over the labelled rows. Read more in the
    :doc:`/guide/labels`.

    Parameters
    ----------
    beta : float
        Weight of the Kullback-Leibler divergence, as in :class:`VAE`.
    encoder : torch.nn.Module or callable
        Custom encoder: a module, which is copied, or a callable that returns a module
        for ``(n_in, n_out)``. With labels of C classes, it returns ``C * (2 *
        n_components + 1)`` numbers: the logits of the classes, then the means and the
        log-variances of the codes given the first class, the second class, and so on.
    decoder : torch.nn.Module or callable
        Custom decoder, given like `encoder`. With labels, its input is the code,
        followed by C numbers: 1 for the class and 0 for the others.

    Attributes
    ----------
    latent_density_ : None
        The prior is standard normal.
    history_ : list of dict
        Record of each epoch, as in :class:`VAE`.

    See Also
    --------
    VAE : The model without labels.
    SemiSupervisedSWAE : Codes with a cluster for each class.

    Notes
    -----
    The sum over classes is exact, except that classes with :math:`q(c | x) < 10^{-6}`
    are left out. A step costs a pass through the decoder for each row without a label
    and each class that remains. The model "M1+M2" of [1]_ is
    ``make_pipeline(VAE(50), SemiSupervisedVAE(20))`` of scikit-learn. `transform`
    returns the mean of :math:`q(z | x)`, over the classes.

    References
    ----------
    .. [1] Kingma, D. P., Rezende, D. J., Mohamed, S. and Welling, M. (2014).
       Semi-supervised learning with deep generative models. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_blobs
    >>> from skgen import SemiSupervisedVAE
    >>> X, y = make_blobs(300, 5, centers=3, random_state=0)
    >>> few = np.where(np.arange(300) < 30, y, -1)  # 30 labels
    >>> model = SemiSupervisedVAE(max_epochs=30, random_state=0).fit(X, few)
    >>> bool((model.predict(X) == y).mean() > 0.9)
    True
    >>> codes = model.sample_latent(1, random_state=0)
    >>> [model.inverse_transform(codes, y=c).shape for c in model.classes_]
    [(1, 5), (1, 5), (1, 5)]
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        beta: float = 1.0,
        label_weight: float = 30.0,
        adversarial_radius: float = 0.0,
        priors: ArrayLike | None = None,
        classify_by: str = "density",
        hidden_layer_sizes: Sizes = (128,),
        activation: str = "relu",
        encoder: Network | None = None,
        decoder: Network | None = None,
        image_shape: Sizes | None = None,
        likelihood: str = "gaussian",
        noise_covariance: str = "diag",
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
        self._set_labelled(locals())
        self.beta = beta

    _loss_checks: ClassVar = dict.fromkeys(("beta",), check_nonnegative)
    _n_moments = 2
    _learns_noise = True

    def _network_sizes(self):
        k, n_classes = self.n_components, self.classes_.size
        if not n_classes:
            return super()._network_sizes()
        return k + n_classes, n_classes * (2 * k + 1)

    def _unsupervised_module(self, *networks, **parameters):
        return Variational(*networks, n_importance=1, **parameters)

    def _labelled_module(self, *networks, **parameters):
        return SemiVariational(*networks, **parameters)

    def _prior_in_training(self, codes):
        return standard_normal(self._fitted_n_components)

    def _class_priors(self):
        return [self._prior_in_training(None)] * self.classes_.size

    def _fitted_posteriors(self, module, x, y, rng):
        priors = self._class_priors()
        guessed = torch.where(y >= 0, y, module.log_class_probabilities(x).argmax(1))
        mean = module.posteriors(x)[0]  # (n, C, k)
        codes = [of_class.numpy() for of_class in mean.unbind(1)]
        posteriors = ClassPosteriors(module, priors, codes)
        calibrate_classes(posteriors.of_class, x, guessed)
        return posteriors, None

    def _conditional_mean(self, Z):
        if not self.classes_.size:
            return super()._conditional_mean(Z)
        return sum(
            prior * self._means_given(Z, np.full(Z.shape[0], c))
            for c, prior in enumerate(self.priors_)
        )
