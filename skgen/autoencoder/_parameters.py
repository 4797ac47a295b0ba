"""Parameters that the autoencoders share: texts, annotations and checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from sklearn.base import BaseEstimator
from torch import nn

from skgen._checks import (
    check_boolean,
    check_choice,
    check_integer,
    invalid_parameter,
)
from skgen._docs import documented
from skgen._interop import is_density
from skgen._typing import RandomState
from skgen.autoencoder._networks import ACTIVATIONS
from skgen.neural._parameters import TRAINING, Sizes, are_sizes, check_image_shape

Density: TypeAlias = BaseEstimator
Network = nn.Module | Callable[[int, int], nn.Module]
Optimizer = str | type[torch.optim.Optimizer]

AUTOENCODER = r"""
Parameters
----------
n_components : int
    Dimension of the latent space.
hidden_layer_sizes : tuple or list of int
    Number of units in each hidden layer of the encoder. The decoder has the same
    layers in reverse order. If empty, the networks are linear. With `image_shape`,
    these layers lie between the convolutions and the code.
activation : str
    Activation function of the hidden layers: "relu", "tanh", "silu", "gelu",
    "softplus" or "identity".
encoder : torch.nn.Module or callable
    Custom encoder: a module, which is copied, or a callable that returns a module
    for ``(n_in, n_out)``, such as the class ``torch.nn.Linear``. It maps rows,
    which are scaled for "gaussian", to codes of `n_components` numbers. The default
    encoder is defined by `hidden_layer_sizes`, `activation` and `image_shape`.
decoder : torch.nn.Module or callable
    Custom decoder, given like `encoder`. It maps codes to the means of the scaled
    features for "gaussian", and to logits for other likelihoods.
image_shape : tuple or list of int
    Shape of the image in each row: (height, width) or (channels, height, width).
    If given, the default networks are convolutional. A custom encoder then takes
    images with channels first, and a custom decoder returns them.
likelihood : {"gaussian", "bernoulli", "continuous_bernoulli"}
    Distribution :math:`p(x | z)` of each feature.

    - "gaussian": normal; the decoder returns the mean.
    - "bernoulli": 0 or 1; the decoder returns the logit of a 1. `X` must lie in
      [0, 1]. Values between 0 and 1 are probabilities, from which each training
      step draws zeros and ones. Scores are log-probabilities for rows of zeros and
      ones only.
    - "continuous_bernoulli": a density on [0, 1]; the decoder returns its logit.
noise_covariance : {"diag", "spherical"}
    Noise variances of "gaussian". "diag": one variance for each feature, and each
    feature is scaled to unit variance for training. "spherical": one variance and
    one scale for all features.
latent_density : estimator
    Density to fit to the codes after training: an estimator with `fit`,
    `score_samples` and `sample`, which is cloned. If None, a Gaussian mixture whose
    number of components, from 1 to 32, is chosen on held-out rows.
n_importance_samples : int
    Number of codes that `score_samples` draws for each row. Use 256 or more for
    scores that you report. With 0, only Laplace's approximation is used. It is not
    a lower bound. It requires a density of codes that is normal, uniform, a
    Gaussian mixture or a set of at most 32 samples.
batch_size : int or "auto"
    Maximum number of rows in a batch. "auto" is one fortieth of the rows, but at
    least 16 and at most 128.
lr : float
    Learning rate. In `fit` it decreases to nearly 0 along half a cosine; in
    `partial_fit` it is constant.
early_stopping : bool
    Whether to stop training when the loss of held-out rows no longer improves, and
    to keep the weights with the lowest held-out loss. Ignored if fewer than 5 rows
    would be held out.
n_iter_no_change : int
    Number of epochs without an improvement of the held-out loss after which
    training stops. Only used if `early_stopping` is True.
warm_start : bool
    If True, `fit` continues to train the networks of the previous fit, with the
    same scaling of the features, unless the rows are far from it: then `fit` starts
    again, with a :class:`~sklearn.exceptions.ConvergenceWarning`. Parameters that
    define the networks, the loss or the optimiser must not have changed.
random_state : int, RandomState, Generator or None
    Seed or generator of the initial weights, the order of the rows, the noise in
    training and the draws of `sample`. Pass an int for reproducible results.

Attributes
----------
noise_variance_ : float or ndarray of shape (n_features,)
    Noise variances of "gaussian", in squared units of the data; one float for
    "spherical". Not set for other likelihoods.
latent_density_ : estimator or None
    Fitted density of the codes.
history_ : list of dict
    Record of each epoch: its number (``epoch``), the mean loss of the training
    batches during the epoch (``train``), the loss of the held-out rows after the
    epoch (``validation``, NaN without early stopping) and the duration
    (``seconds``). For "gaussian" the loss assumes unit noise variances, so it
    cannot be compared with `score`.
net_ : skorch.NeuralNet
    Trained net. Its ``module_`` holds the networks `encoder` and `decoder`, which
    take and return scaled features (see `noise_covariance`).

Notes
-----
`score_samples` estimates :math:`\log \int p(z) p(x | z) \, dz` for each row by
importance sampling around the modes of the integrand. Damped Gauss-Newton steps
find the modes, from the encoder's code and from a set of other codes. The estimate
is a lower bound in expectation. It lies within hundredths of a nat of quadrature
for one or two latent dimensions, and tenths of a nat below annealed importance
sampling for tens of latent dimensions. Rows far from all training rows can be
underestimated by tens of nats; they remain outliers. Scoring a row costs about 100
passes through the decoder for each latent dimension.
"""

MISSING = r"""
Parameters
----------
encode_mask : bool
    Whether the encoder also takes the mask of observed features: 1 for a value, 0
    for NaN. The inputs of the encoder are then the features followed by the mask, in
    an image as further channels. If False, the encoder cannot distinguish
    a missing value from the mean of the feature.

Notes
-----
NaN means that a value was not observed. Features are independent given the code, so
that training and `score_samples` leave the terms of missing features out. The
encoder takes the mean of the feature for a missing value, which is 0 for "gaussian",
where features are scaled, and the mask if `encode_mask` is True. For rows with NaN,
`transform` returns :math:`E[z | x_\text{obs}]` by importance sampling, which is also
how `impute` and `sample_conditional` integrate over the code. Rows of the training data
that have no value at all teach nothing, and a column without any value is an error.
"""

LABELS = r"""
Parameters
----------
label_weight : float
    Weight of the cross-entropy, the mean of :math:`-\log q(y | x)` over the labelled
    rows. The other terms of the loss are means over all rows, in nats.
adversarial_radius : float
    Length of the perturbations of virtual adversarial training, as a fraction of the
    root mean squared distance of rows from their mean. If positive, three terms of all
    rows are added to the cross-entropy: the divergence of :math:`q(c | x)` from its
    value at a perturbed row, the mean entropy of :math:`q(c | x)`, and the divergence
    of its mean from the priors. With 0, rows without a label do not enter the loss of
    the classifier.
priors : array-like of shape (n_classes,)
    Probabilities :math:`\pi_c` of the classes, in the order of `classes_`. None uses
    :math:`(n_c + 1) / (n + C)`, with :math:`n_c` labelled rows of class c, :math:`n`
    of all :math:`C` classes.
classify_by : {"density", "encoder"}
    What `predict`, `predict_proba` and `predict_log_proba` compute.

    - "density": Bayes' rule on the joint density :math:`p(x, c)` of
      `predict_joint_log_proba`, which costs a score for each class.
    - "encoder": the classifier :math:`q(c | x)` that training fits, one pass
      through the encoder. The two differ where training has not brought
      :math:`q` close to the posterior of the class, mostly for rows far from the
      labelled ones.

Attributes
----------
classes_ : ndarray of shape (n_classes,)
    Class labels in sorted order, without -1. Empty if the model was fitted without
    labels.
priors_ : ndarray of shape (n_classes,)
    Probabilities of the classes.

Notes
-----
For a positive `adversarial_radius` :math:`\epsilon`, the loss of the classifier also
has the mean over all rows, labelled or not, of

.. math:: \mathrm{KL}(q(c | x) \,\|\, q(c | x + r)) + \mathrm H(q(c | x))
          \quad \text{and} \quad
          3 \, \mathrm{KL} \Big( \frac1n \sum_i q(c | x_i) \,\Big\|\, \pi \Big)

with the perturbation :math:`r` of length :math:`\epsilon s` that changes :math:`q`
fastest, by one step of a power iteration, and the root mean squared distance :math:`s`
of the rows of a batch from their mean (virtual adversarial training: Miyato, T., Maeda,
S., Koyama, M. and Ishii, S. (2018). IEEE TPAMI 41, 1979-1993). It places the borders of
the classes where rows are sparse, and assumes that the priors hold for the rows without
a label.

Where fewer than a quarter of the rows have a label, each step draws more labelled
rows, for the terms of the labels only. Without labels, the model is the unsupervised
one, with equal results for equal parameters. The densities of all classes are
integrated separately, so that scores take `n_classes` times as long. `score` is the
mean log-density, as for all densities; use ``scoring="accuracy"`` in a search.
NaN means that a value was not observed, as for :class:`AutoEncoder`. Rows with NaN are
classified by the density of their observed values, also by ``classify_by="encoder"``.
A table with the classes -1 and 1 only raises an error, because -1 marks rows without
a label.
"""

# Decorators of autoencoders that complete their docstrings.
with_docs = documented(AUTOENCODER, MISSING, TRAINING)
with_label_docs = documented(AUTOENCODER, TRAINING, LABELS)

LIKELIHOODS = ("gaussian", "bernoulli", "continuous_bernoulli")


class AutoencoderParameters:
    """Parameters of every autoencoder."""

    n_components: int
    hidden_layer_sizes: Sizes
    activation: str
    encoder: Network | None
    decoder: Network | None
    image_shape: Sizes | None
    encode_mask: bool = False
    likelihood: str
    noise_covariance: str
    latent_density: Density | None
    n_importance_samples: int
    max_epochs: int
    batch_size: int | str
    lr: float
    optimizer: Optimizer
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    warm_start: bool
    net_callbacks: list[Any] | None
    net_params: dict[str, Any] | None
    random_state: RandomState
    device: str

    def _set_shared(self, values):
        """Set the shared parameters, given `locals()` of a constructor."""
        for name in AutoencoderParameters.__annotations__:
            if name in values:
                setattr(self, name, values[name])

    def _check_shared(self):
        """Raise for an invalid shared parameter that is not one of the training."""
        check_integer(self, "n_components", 1)
        sizes = self.hidden_layer_sizes
        if not are_sizes(sizes):
            rule = "a tuple of ints of at least 1, empty for a linear network"
            raise invalid_parameter(self, "hidden_layer_sizes", rule, sizes)
        check_choice(self, "activation", ACTIVATIONS)
        check_image_shape(self)
        check_boolean(self, "encode_mask")
        check_choice(self, "likelihood", LIKELIHOODS)
        check_choice(self, "noise_covariance", ("diag", "spherical"))
        check_integer(self, "n_importance_samples", 0)
        check_integer(self, "n_iter_no_change", 1)
        density = getattr(self, "latent_density", None)
        if density is not None and not is_density(density):
            rule = "None or an estimator with fit, score_samples and sample"
            raise invalid_parameter(self, "latent_density", rule, density)
