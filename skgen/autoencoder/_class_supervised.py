"""Class-supervised autoencoder."""

from __future__ import annotations

import skgen._needs_torch  # noqa: F401

# isort: split

from typing import Any

import torch

from skgen._torch import torch_seed
from skgen._typing import ArrayLike, RandomState
from skgen.autoencoder._autoencoder import Reconstruction
from skgen.autoencoder._calibration import (
    calibrate,
    normal_density_of,
    posterior_draws,
)
from skgen.autoencoder._class_posteriors import ClassPosteriors
from skgen.autoencoder._labelled import LabelledAutoencoder
from skgen.autoencoder._labelled_module import LabelledModule
from skgen.autoencoder._latent_density import LEAST_DRAWS
from skgen.autoencoder._parameters import (
    Density,
    Network,
    Optimizer,
    with_label_docs,
)
from skgen.autoencoder._posterior import Posterior
from skgen.neural._parameters import Sizes


class ClassSupervised(LabelledModule):
    """Reconstruction loss plus `label_weight` times the cross-entropy of a head."""

    def __init__(self, *networks, n_codes, priors, **parameters):
        super().__init__(*networks, priors=priors, **parameters)
        self.head = torch.nn.Linear(n_codes, len(priors), dtype=torch.float32)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def log_class_probabilities(self, x):
        return torch.log_softmax(self.head(self.encode(x)), dim=1)

    def forward(self, x):
        n = x.shape[0]
        x, y = self.batch(x)
        x = self.observed.seen(x, self.generator)
        inputs = self.inputs(x)
        z = self.encoder(inputs)
        a = self.decode(z[:n])
        fit = self.observed.log_density(self.rows(x[:n]), a)  # (n,)
        log_q = torch.log_softmax(self.head(z), dim=1)
        return self.class_loss(inputs, log_q, y, n) - fit.mean()


@with_label_docs
class ClassSupervisedAutoEncoder(LabelledAutoencoder):
    r"""Autoencoder whose codes are shaped by class labels.

    Training minimises the reconstruction loss plus the cross-entropy of a linear
    classifier :math:`q(c | z)` of the codes [1]_,

    .. math:: -\frac1n \sum_i \log p(x_i | z_i)
              - \frac{\lambda}{m} \sum_{i \text{ labelled}} \log q(y_i | z_i),
              \qquad z_i = f(x_i),

    with encoder :math:`f`, :math:`m` labelled rows and :math:`\lambda` =
    `label_weight`. After training, a density of codes is fitted for each class, so that
    the model has the joint density :math:`p(x, c) = \pi_c \int p(z | c) p(x | z) dz`.
    Read more in the :doc:`/guide/labels`.

    Parameters
    ----------
    latent_density : estimator
        Density to fit to the codes of each class after training: an estimator with
        `fit`, `score_samples` and `sample`, which is cloned. If None, a Gaussian
        mixture whose number of components, from 1 to 32, is chosen on held-out rows.

    Attributes
    ----------
    latent_density_ : list of estimators
        Fitted density of the codes of each class. Without labels, one estimator.

    See Also
    --------
    AutoEncoder : The model without labels.
    SemiSupervisedSWAE : Model for few labels, with a prior in training.
    GenerativeClassifier : A separate density of the rows of each class.

    Notes
    -----
    The density of a class is fitted to draws from the posteriors of the codes of its
    rows, as for :class:`AutoEncoder`. The classifier of the codes decides the class of
    rows without a label.

    References
    ----------
    .. [1] Le, L., Patterson, A. and White, M. (2018). Supervised autoencoders:
       improving generalization performance with unsupervised regularizers. NeurIPS.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgen import ClassSupervisedAutoEncoder, dequantize
    >>> X, y = load_iris(return_X_y=True)
    >>> X = dequantize(X, random_state=0)
    >>> model = ClassSupervisedAutoEncoder(random_state=0).fit(X, y)
    >>> bool((model.predict(X) == y).mean() > 0.9)
    True
    >>> model.sample(y=[0, 2], random_state=0).shape
    (2, 4)
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
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
        self._set_labelled(locals())

    def _unsupervised_module(self, *networks, **parameters):
        return Reconstruction(*networks, **parameters)

    def _labelled_module(self, *networks, **parameters):
        return ClassSupervised(*networks, n_codes=self.n_components, **parameters)

    def _prior_in_training(self, codes):
        return None

    def _fitted_posteriors(self, module, x, y, rng):
        codes = module.encode(x)
        guessed = torch.where(y >= 0, y, module.head(codes).argmax(dim=1)).numpy()
        codes = codes.numpy()
        posterior = Posterior(module, normal_density_of(codes), codes)
        calibrate(posterior, x, True)
        draws = posterior_draws(posterior, x, -(-LEAST_DRAWS // x.shape[0]), rng)
        seed = torch_seed(rng)
        densities, priors, starts = [], [], []
        for c in range(self.classes_.size):
            rows = guessed == c
            rows = rows if rows.any() else slice(None)
            density, prior = self._fitted_prior(self.latent_density, draws[rows], seed)
            densities.append(density)
            priors.append(prior)
            starts.append(codes[rows])
        return ClassPosteriors(module, priors, starts), densities
