"""Semi-supervised sliced-Wasserstein autoencoder."""

from __future__ import annotations

import skgen._needs_torch  # noqa: F401

# isort: split

from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch

from skgen._checks import check_integer, check_nonnegative
from skgen._typing import ArrayLike, RandomState
from skgen.autoencoder._calibration import calibrate_classes
from skgen.autoencoder._class_posteriors import ClassPosteriors
from skgen.autoencoder._labelled import LabelledAutoencoder
from skgen.autoencoder._parameters import Network, Optimizer, with_label_docs
from skgen.autoencoder._prior import NormalMixture, standard_normal
from skgen.autoencoder._sliced_by_class import SlicedByClass, class_means
from skgen.autoencoder._swae import Sliced
from skgen.neural._parameters import Sizes


@with_label_docs
class SemiSupervisedSWAE(LabelledAutoencoder):
    r"""Sliced-Wasserstein autoencoder with a component of the prior for each class.

    The prior of the codes is a mixture with one normal component for each class,
    :math:`p(z) = \sum_c \pi_c \, \mathcal N(z; m_c, I)`. The classifier is the
    posterior of this mixture, :math:`p(c | z)`. Training minimises

    .. math:: -\frac1n \sum_i \log p(x_i | z_i) + \lambda k \Big(
              \mathrm{SW}_2^2(\{z_i\}, p(z)) + \sum_c \frac{m_c}{m}
              \mathrm{SW}_2^2(\{z_i : y_i = c\}, \mathcal N(m_c, I)) \Big)
              - \frac{\alpha}{m} \sum_{i \text{ labelled}} \log p(y_i | z_i),

    with the code :math:`z_i = f(x_i)` of :math:`k` dimensions, :math:`m_c` of
    :math:`m` labelled rows in class c, the sliced-Wasserstein distance [1]_ and
    :math:`\alpha` = `label_weight`. The prior by class follows [2]_. Read more in the
    :doc:`/guide/labels`.

    Parameters
    ----------
    swd_weight : float
        Weight :math:`\lambda` of the distances, as in :class:`SWAE`.
    n_projections : int
        Number of random directions for each distance and batch.
    class_separation : float
        Smallest distance between the means of two components, in their standard
        deviations. With at least ``n_classes - 1`` latent dimensions, all means have
        this distance.

    Attributes
    ----------
    latent_density_ : None
        The prior is fixed.

    See Also
    --------
    SWAE : The model without labels, with prior="normal".
    SemiSupervisedVAE : Codes that are independent of the class.

    Notes
    -----
    The distance of all codes to the mixture does not determine the classes of rows
    without a label; the terms of `adversarial_radius` do. They compete with the
    reconstruction, whose loss grows with the number of features: with hundreds of
    features, increase `label_weight` and `swd_weight` in proportion.

    References
    ----------
    .. [1] Kolouri, S., Pope, P. E., Martin, C. E. and Rohde, G. K. (2019). Sliced
       Wasserstein auto-encoders. ICLR.
    .. [2] Makhzani, A., Shlens, J., Jaitly, N., Goodfellow, I. and Frey, B. (2016).
       Adversarial autoencoders. ICLR workshop.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_blobs
    >>> from skgen import SemiSupervisedSWAE
    >>> X, y = make_blobs(300, 5, centers=3, random_state=0)
    >>> few = np.where(np.arange(300) < 30, y, -1)  # 30 labels
    >>> model = SemiSupervisedSWAE(max_epochs=30, random_state=0).fit(X, few)
    >>> bool((model.predict(X) == y).mean() > 0.9)
    True
    >>> model.sample(5, return_y=True, random_state=0)[1].shape
    (5,)
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        swd_weight: float = 1.0,
        n_projections: int = 50,
        class_separation: float = 8.0,
        label_weight: float = 30.0,
        adversarial_radius: float = 0.25,
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
        self.swd_weight, self.n_projections = swd_weight, n_projections
        self.class_separation = class_separation

    _loss_checks: ClassVar = {
        "swd_weight": check_nonnegative,
        "n_projections": partial(check_integer, minimum=1),
        "class_separation": check_nonnegative,
    }
    _prior_density = "normal"

    def _unsupervised_module(self, *networks, swd_weight, n_projections, **_):
        return Sliced(
            *networks, weight=swd_weight, n_projections=n_projections, draw=None
        )

    def _labelled_module(self, *networks, class_separation, **parameters):
        means = class_means(self.classes_.size, self.n_components, class_separation)
        return SlicedByClass(*networks, means=means, **parameters)

    def _prior_in_training(self, codes):
        return standard_normal(self._fitted_n_components)

    def _class_priors(self):
        means = self.net_.module_.means.double().cpu().numpy()  # (C, k)
        eye = np.eye(means.shape[1])[None]
        return [NormalMixture([1.0], mean[None], eye) for mean in means]

    def _fitted_posteriors(self, module, x, y, rng):
        codes = module.encode(x)
        guessed = torch.where(y >= 0, y, module.log_posterior(codes).argmax(dim=1))
        starts = [codes.numpy()] * self.classes_.size
        posteriors = ClassPosteriors(module, self._class_priors(), starts)
        calibrate_classes(posteriors.of_class, x, guessed)
        return posteriors, None
