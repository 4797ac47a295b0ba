"""Normalizing flow of rational-quadratic splines."""

from __future__ import annotations

import skgen._needs_torch  # noqa: F401

# isort: split

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin
from sklearn.utils import gen_batches

from skgen._checks import (
    Described,
    check_boolean,
    check_integer,
    column_names,
    invalid_parameter,
    is_integer,
    is_real,
)
from skgen._docs import documented
from skgen._interop import normal_components
from skgen._threads import one_blas_thread
from skgen._torch import float64_copy, threads_for, torch_seed
from skgen._typing import RandomState
from skgen._whitening import loss_offset, whitening_of
from skgen.autoencoder._latent_density import fit_latent_density, is_density
from skgen.autoencoder._prior import NormalMixture, standard_normal
from skgen.flow._transforms import Flow, build_transforms
from skgen.mixture._central import ROWS, limits_of
from skgen.neural import GradientModel
from skgen.neural._parameters import TRAINING
from skgen.neural._schedule import Plateau

# Maximum number of rows to which the base is fitted, and rows in a block of an answer.
_BASE_ROWS, _BLOCK = 20_000, 1_000

_BASES = "'normal', 'mixture' or a Gaussian mixture"


# Parameters and attributes that the flow shares with other models trained by gradients
# are documented in TRAINING.
@documented(TRAINING)
class NormalizingFlow(ClassNamePrefixFeaturesOutMixin, GradientModel):
    r"""Normalizing flow: an invertible map of rows to latents with a simple density.

    A flow :math:`f` maps a row :math:`x` to a latent :math:`z = f(x)` of the same
    dimension, and

    .. math:: \log p(x) = \log p(z) + \log \left|\det \frac{df}{dx}\right|,

    where the base density :math:`p(z)` is standard normal or a Gaussian mixture. Each
    transform of the flow maps every feature by a monotonic rational-quadratic spline,
    whose parameters a network computes from other features [1]_. Training maximises
    the mean of :math:`\log p(x)`. Scores are exact, and `transform` and
    `inverse_transform` are inverses of each other. Read more in the
    :doc:`/guide/flows`.

    Parameters
    ----------
    n_transforms : int
        Number of transforms. Successive transforms use the features in opposite
        orders.
    hidden_layer_sizes : tuple or list of int
        Number of units in each hidden layer of the network of each transform.
    n_bins : int
        Number of bins of each spline.
    tail_bound : float
        Splines act on scaled features between ``-tail_bound`` and ``tail_bound``;
        outside, they are the identity.
    autoregressive : bool
        If True, the spline of a feature depends on all features before it [2]_, and
        `sample` needs one pass through the networks for each feature. If False, the
        transforms are couplings: the splines of half of the features depend on the
        other half, and `sample` needs two passes. Scores need one pass in both cases.
    base : {"normal", "mixture"} or estimator
        Density of the latents.

        - "normal": standard normal.
        - "mixture": Gaussian mixture of the scaled rows, whose number of components,
          from 1 to 32, is chosen on held-out rows. The flow starts as the identity,
          so that training starts from the density of the mixture.
        - estimator: Gaussian mixture, which is cloned and fitted to the scaled rows.

        The weights of the components are trained with the flow.
    dropout : float
        Probability with which hidden units are omitted in training. It prevents
        overfitting.
    batch_size : int or "auto"
        Maximum number of rows in a batch. "auto" is one fortieth of the rows, but at
        least 128 and at most 256.
    lr : float
        Learning rate. In `fit` it decreases to nearly 0 along half a cosine; in
        `partial_fit` it is constant.
    early_stopping : bool
        Whether to stop training when the loss of held-out rows no longer improves, and
        to keep the weights with the lowest held-out loss, which may be those before
        training. Ignored if fewer than 5 rows would be held out.
    n_iter_no_change : int
        Number of epochs without an improvement of the held-out loss after which
        training stops. Only used if `early_stopping` is True.
    warm_start : bool
        If True, `fit` continues to train the flow of the previous fit, with the same
        scaling of the features. Parameters that define the flow or the optimiser must
        not have changed.
    random_state : int, RandomState, Generator or None
        Seed or generator of the initial weights, the held-out rows, the order of the
        rows, dropout, the base and the draws of `sample`. Pass an int for reproducible
        results.

    Attributes
    ----------
    history_ : list of dict
        Record of each epoch: its number (``epoch``), the mean loss of the training
        batches during the epoch (``train``), the loss of the held-out rows after the
        epoch (``validation``, NaN without early stopping) and the duration
        (``seconds``). The loss is the negative mean log-density, in nats per row and
        in the units of the data.
    net_ : skorch.NeuralNet
        Trained net. Its ``module_`` is the flow of the scaled features.

    See Also
    --------
    EMGaussianMixture : Gaussian mixture, which needs fewer rows.
    VAE : Model with a latent space of fewer dimensions.

    Notes
    -----
    Features are scaled to unit variance. If features are collinear, rows are whitened,
    and directions without variance get the normal density that all models share. A
    continuous invertible map cannot separate clusters completely: between them a flow
    with a normal base leaves a bridge of low density, which a mixture as base avoids.

    References
    ----------
    .. [1] Durkan, C., Bekasov, A., Murray, I. and Papamakarios, G. (2019). Neural
       spline flows. NeurIPS.
    .. [2] Papamakarios, G., Pavlakou, T. and Murray, I. (2017). Masked autoregressive
       flow for density estimation. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import NormalizingFlow
    >>> rng = np.random.RandomState(0)
    >>> t = rng.uniform(0, 3, 200)
    >>> X = np.column_stack([np.sin(t), np.cos(t)]) + 0.05 * rng.normal(size=(200, 2))
    >>> flow = NormalizingFlow(max_epochs=20, random_state=0).fit(X)
    >>> flow.sample(3).shape
    (3, 2)
    >>> np.allclose(flow.inverse_transform(flow.transform(X)), X)
    True
    """

    def __init__(
        self,
        n_transforms: int = 3,
        *,
        hidden_layer_sizes: tuple[int, ...] | list[int] = (128, 128),
        n_bins: int = 8,
        tail_bound: float = 5.0,
        autoregressive: bool = True,
        base: str | BaseEstimator = "normal",
        dropout: float = 0.1,
        max_epochs: int = 60,
        batch_size: int | str = "auto",
        lr: float = 5e-3,
        optimizer: str | type[torch.optim.Optimizer] = "adam",
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 20,
        warm_start: bool = False,
        net_callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | None = None,
        random_state: RandomState = None,
        device: str = "cpu",
    ) -> None:
        self.n_transforms = n_transforms
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_bins = n_bins
        self.tail_bound = tail_bound
        self.autoregressive = autoregressive
        self.base = base
        self.dropout = dropout
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.net_callbacks = net_callbacks
        self.net_params = net_params
        self.random_state = random_state
        self.device = device

    # -- hooks of GradientModel ------------------------------------------------

    _anneals = True
    _least_batch, _largest_batch = 128, 256
    _whitening_type = "full"
    _fixed = (
        "n_transforms",
        "hidden_layer_sizes",
        "n_bins",
        "tail_bound",
        "autoregressive",
        "base",
        "dropout",
        *GradientModel._fixed,
    )

    def _check_own(self):
        check_integer(self, "n_transforms", 1)
        sizes = self.hidden_layer_sizes
        if not (
            isinstance(sizes, (tuple, list)) and all(is_integer(v, 1) for v in sizes)
        ):
            rule = "a tuple of ints of at least 1"
            raise invalid_parameter(self, "hidden_layer_sizes", rule, sizes)
        check_integer(self, "n_bins", 2)
        if not (is_real(self.tail_bound) and self.tail_bound > 0):
            rule = "a finite number above 0"
            raise invalid_parameter(self, "tail_bound", rule, self.tail_bound)
        check_boolean(self, "autoregressive")
        if not (is_real(self.dropout) and 0 <= self.dropout < 1):
            rule = "a number of at least 0 and below 1"
            raise invalid_parameter(self, "dropout", rule, self.dropout)
        check_integer(self, "n_iter_no_change", 1)
        if self.base not in ("normal", "mixture") and not is_density(self.base):
            raise invalid_parameter(self, "base", _BASES, self.base)

    def _new_module(self, rows, rng):
        self._set_coordinates(rows)
        d = int(self._varying.sum())
        transforms = build_transforms(
            d,
            self.n_transforms,
            self.autoregressive,
            self.hidden_layer_sizes,
            self.n_bins,
            self.tail_bound,
            self.dropout,
        )
        return Flow(transforms, self._new_base(rows, d, rng))

    def _set_coordinates(self, rows):
        """Set the scaling of the features; collinear features are whitened."""
        options = {"dtype": self._fit_dtype, "names": column_names(self)}
        full = whitening_of(rows.moments, "full", projected=rows.projected, **options)
        scaled = whitening_of(rows.moments, "diag", **options)
        collinear = full.degenerate.sum() > scaled.degenerate.sum()
        whitening = full if collinear else scaled
        few = rows.sample(ROWS, np.random.RandomState(0))
        self._whitening, self._limits = limits_of(whitening, few)
        self._varying = ~self._whitening.degenerate
        # Far from the origin the mean of the whitening is rounded, which float32 would
        # not resolve.
        shift = self._whitening.whitened_difference(rows.moments.rounding)
        self._shift = shift * self._varying * (self._whitening is whitening)

    def _new_base(self, rows, d, rng):
        """Return the base of d' features, as a `NormalMixture`."""
        if not d or (isinstance(self.base, str) and self.base == "normal"):
            return standard_normal(d)
        Z = self._moved(rows.sample(_BASE_ROWS, rng))
        wanted = None if isinstance(self.base, str) else self.base
        base = fit_latent_density(wanted, Z[:, None], torch_seed(rng))
        components = normal_components(base)
        if components is None:
            got = Described(f"{self.base!r}, whose density is no Gaussian mixture")
            raise invalid_parameter(self, "base", _BASES, got)
        weights, means, covariances = components
        kept = weights > 0
        covariances = np.broadcast_to(covariances, (kept.size, d, d))[kept]
        return NormalMixture(weights[kept], means[kept], np.linalg.inv(covariances))

    def _scaled(self, X):
        """Return rows (n, d) in units of the whitening: (n, d)."""
        return self._whitening.whiten(X) - self._shift

    def _white(self, X):
        """Return rows (n, d) in the coordinates of the flow: (n, d')."""
        return self._scaled(X)[:, self._varying]

    def _moved(self, X):
        """Return what `_white` does, of rows whose outliers are moved to the others."""
        return self._white(np.clip(X, *self._limits))

    def _encoded(self, X):
        return self._moved(X).astype(np.float32)

    def _callbacks(self):
        patience = Plateau(
            0,
            self.n_iter_no_change,
            keeps_start=True,
            n_levels=1,
            watches_training=False,
        )
        return [("schedule", patience)]

    def _loss_offset(self):
        return loss_offset(self._whitening)

    def _adopted(self):
        history = self._losses()
        flow = float64_copy(self.net_.module_).cpu()
        return {"history_": history, "n_iter_": len(history), "_flow": flow}

    def _finish(self, rows, watched, rng, task):
        return {}

    def _follow(self, rows, share, rng):
        return {}

    def _warn(self):
        pass

    # -- hooks of GenerativeModel ------------------------------------------------

    def _by_blocks(self, function, Z):
        """Apply a function of tensors to blocks of (n, d') rows."""
        blocks = gen_batches(Z.shape[0], _BLOCK)
        with one_blas_thread(), threads_for(0), torch.no_grad():
            answers = [function(torch.from_numpy(Z[rows])).numpy() for rows in blocks]
        return np.concatenate(answers)

    def _log_density(self, X):
        U = self._scaled(X)
        floor = 0.5 * (U[:, ~self._varying] ** 2 + np.log(2 * np.pi)).sum(axis=1)
        answer = self._by_blocks(self._flow.log_density, U[:, self._varying])
        return answer + self._whitening.log_det - floor

    def _draw(self, n_samples, rng):
        Z = rng.standard_normal((n_samples, self._varying.size))
        Z[:, self._varying] = self._flow.base().draw(n_samples, rng).numpy()
        return self._conditional_mean(Z)

    def _posterior_mean(self, X):
        Z = self._scaled(X)
        Z[:, self._varying] = self._by_blocks(
            lambda x: self._flow.latents(x)[0], Z[:, self._varying]
        )
        return Z

    def _conditional_mean(self, Z):
        U = Z.copy()
        U[:, self._varying] = self._by_blocks(self._flow.rows, Z[:, self._varying])
        return self._whitening.unwhiten(U + self._shift)

    @property
    def _n_latent(self):
        return self.n_features_in_

    _n_features_out = _n_latent

    @property
    def _bytes_per_row(self):
        return 64 * self.n_features_in_  # blocks limit all other memory
