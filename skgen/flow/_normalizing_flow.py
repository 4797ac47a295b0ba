"""Normalizing flow of rational-quadratic splines."""

from __future__ import annotations

import skgen._needs_torch  # noqa: F401

# isort: split

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from skgen._checks import (
    Described,
    check_boolean,
    check_integer,
    column_names,
    invalid_parameter,
    is_real,
)
from skgen._docs import documented
from skgen._interop import is_density, normal_components
from skgen._threads import one_blas_thread
from skgen._torch import float64_copy, threads_for, torch_seed
from skgen._typing import RandomState
from skgen._whitening import full_and_scaled, loss_offset
from skgen.flow._mixture_map import log_normal, mixture_map
from skgen.flow._transforms import Flow, build_transforms
from skgen.mixture._central import ROWS, limits_of
from skgen.mixture._chosen import chosen_mixture, fitted_density
from skgen.neural._compared import ComparesBases
from skgen.neural._parameters import TRAINING, are_sizes, check_dropout, dropout_of
from skgen.neural._schedule import Plateau

# Maximum number of rows to which the base is fitted, and rows in a block of an answer
# and of what a net takes.
_BASE_ROWS, _BLOCK, _ENCODED = 20_000, 1_000, 10_000

# Numbers of components in turn without a better score that end the search for the base.
_PATIENCE = 2

_NAMED = ("auto", "normal", "mixture")
_BASES = "'auto', 'normal', 'mixture' or a Gaussian mixture"


# Parameters and attributes that the flow shares with other models trained by gradients
# are documented in TRAINING.
@documented(TRAINING)
class NormalizingFlow(ClassNamePrefixFeaturesOutMixin, ComparesBases):
    r"""Normalizing flow: an invertible map of rows to latents with a simple density.

    A flow :math:`f` maps a row :math:`x` to a latent :math:`z = f(x)` of the same
    dimension, and

    .. math:: \log p(x) = \log p(z) + \log \left|\det \frac{df}{dx}\right|,

    where the density :math:`p(z)` of the latents is standard normal. Each transform of
    the flow maps every feature by a monotonic rational-quadratic spline, whose
    parameters a network computes from other features [1]_. With a Gaussian mixture as
    base, the first transform is fixed: it maps the mixture to the standard normal
    density [2]_. Training maximises the mean of :math:`\log p(x)`. Scores are exact,
    and `transform` and `inverse_transform` are inverses of each other. Read more in
    the :doc:`/guide/flows`.

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
        If True, the spline of a feature depends on all features before it [3]_, and
        `sample` needs one pass through the networks for each feature. If False, the
        transforms are couplings: the splines of half of the features depend on the
        other half, and `sample` needs two passes. Scores need one pass in both cases.
    base : {"auto", "normal", "mixture"} or estimator
        Density of the rows before training.

        - "normal": standard normal density of the scaled features.
        - "mixture": Gaussian mixture of the scaled features, whose number of
          components, from 1 to 32, is chosen on held-out rows.
        - "auto": "normal" or "mixture". Two flows are trained, for a fifth of
          `max_epochs` from the mixture and for the others from the normal density, and
          the flow with the lower loss of held-out rows is kept. "normal" in
          `partial_fit`, and where no rows are held out.
        - unfitted estimator: Gaussian mixture, which is cloned and fitted to the
          scaled features.
        - fitted estimator: Gaussian mixture in the units of the data, which is used as
          it is. In a search, wrap it in ``sklearn.frozen.FrozenEstimator``, because a
          clone of it is not fitted.

        A mixture of several components gets 0.001 of its mass as another component,
        which is four times as wide as the whole mixture.
    batch_size : int or "auto"
        Maximum number of rows in a batch. "auto" is one twentieth of the rows, but at
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
    base_ : str or estimator
        "normal", or the Gaussian mixture from which training started. Unless `base` is
        a fitted estimator, the mixture is fitted to the scaled features.
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
    and directions without variance get the normal density that all models share.

    A mixture as base maps feature :math:`j` to :math:`\Phi^{-1}(F(x_j | x_1, ...,
    x_{j-1}))`, where :math:`F` is the conditional distribution function of the mixture
    and :math:`\Phi` the standard normal one. Without the additional
    component, :math:`F` would be constant between narrow components, rows there would
    not come back from their latents, and outliers would score lower.

    References
    ----------
    .. [1] Durkan, C., Bekasov, A., Murray, I. and Papamakarios, G. (2019). Neural
       spline flows. NeurIPS.
    .. [2] Rosenblatt, M. (1952). Remarks on a multivariate transformation. Annals of
       Mathematical Statistics 23, 470-472.
    .. [3] Papamakarios, G., Pavlakou, T. and Murray, I. (2017). Masked autoregressive
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
        base: str | BaseEstimator = "auto",
        dropout: float | str = "auto",
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

    # -- hooks of ComparesBases ------------------------------------------------

    # Scores from mixtures hardly rise after a dozen epochs.
    _trials = {"mixture": 0.2, "normal": 0.8}  # noqa: RUF012 (read only)

    @property
    def _held_out_loss(self):
        return dict(self.net_.callbacks_)["schedule"].lowest_

    def _quick_log_density(self, X):
        return self._log_densities(X)

    # -- hooks of GradientModel ------------------------------------------------

    _anneals = True
    _least_batch, _largest_batch, _batches_of_fit = 128, 256, 20
    _whitening_type = "full"
    _fixed = (
        "n_transforms",
        "hidden_layer_sizes",
        "n_bins",
        "tail_bound",
        "autoregressive",
        "base",
        "dropout",
        *ComparesBases._fixed,
    )

    def _check_own(self):
        check_integer(self, "n_transforms", 1)
        sizes = self.hidden_layer_sizes
        if not are_sizes(sizes):
            rule = "a tuple of ints of at least 1"
            raise invalid_parameter(self, "hidden_layer_sizes", rule, sizes)
        check_integer(self, "n_bins", 2)
        if not (is_real(self.tail_bound) and self.tail_bound > 0):
            rule = "a finite number above 0"
            raise invalid_parameter(self, "tail_bound", rule, self.tail_bound)
        check_boolean(self, "autoregressive")
        check_dropout(self)
        check_integer(self, "n_iter_no_change", 1)
        named = isinstance(self.base, str) and self.base in _NAMED
        if not named and not is_density(self.base):
            raise invalid_parameter(self, "base", _BASES, self.base)

    def _prepare(self, rows, rng):
        self._set_coordinates(rows)
        self.base_, self._map = "normal", None
        if self._named_base == "normal" or not self._varying.any():
            return
        if not isinstance(self.base, str) and is_fitted(self.base):
            self._set_map(self.base, self._components_of(self.base))
            return
        Z = self._moved(rows.sample(_BASE_ROWS, rng))[:, None]
        if isinstance(self.base, str):
            base = chosen_mixture(Z, torch_seed(rng), patience=_PATIENCE)
        else:
            base = fitted_density(self.base, Z, torch_seed(rng))
        self._set_map(base, normal_components(base))

    def _set_map(self, base, components):
        """Set the base and its map, given normal components in scaled units or None."""
        if components is None:
            got = Described(f"{base!r}, whose density is no Gaussian mixture")
            raise invalid_parameter(self, "base", _BASES, got)
        self.base_, self._map = base, mixture_map(*components)

    def _components_of(self, base):
        """Return the components, in scaled units, of a base that is fitted to rows."""
        width = getattr(base, "n_features_in_", None)
        if width != self._varying.size:
            got = Described(f"a mixture of {width} features")
            rule = f"{_BASES} of {self._varying.size} features"
            raise invalid_parameter(self, "base", rule, got)
        components = normal_components(base)
        if components is None:
            return None
        weights, means, covariances = components
        linear = self._whitening.whitened_difference(np.eye(self._varying.size))
        linear = linear[:, self._varying]  # (d, d')
        return weights, self._white(means), linear.T @ covariances @ linear

    def _new_module(self, rows, rng):
        transforms = build_transforms(
            int(self._varying.sum()),
            self.n_transforms,
            self.autoregressive,
            self.hidden_layer_sizes,
            self.n_bins,
            self.tail_bound,
            dropout_of(self, *rows.shape),
        )
        return Flow(transforms)

    def _set_coordinates(self, rows):
        """Set the scaling of the features; collinear features are whitened."""
        options = {"dtype": self._fit_dtype, "names": column_names(self)}
        full, scaled = full_and_scaled(rows.moments, rows.projected, **options)
        collinear = full.degenerate.sum() > scaled.degenerate.sum()
        whitening = full if collinear else scaled
        few = rows.sample(ROWS, np.random.RandomState(0))
        self._whitening, self._limits = limits_of(whitening, few)
        self._varying = ~self._whitening.degenerate
        # Far from the origin the mean of the whitening is rounded, which float32 would
        # not resolve.
        shift = self._whitening.whitened_difference(rows.moments.rounding)
        self._shift = shift * self._varying * (self._whitening is whitening)

    def _scaled(self, X):
        """Return rows (n, d) in units of the whitening: (n, d)."""
        return self._whitening.whiten(X) - self._shift

    def _white(self, X):
        """Return rows (n, d) in the coordinates of the flow: (n, d')."""
        return self._scaled(X)[:, self._varying]

    def _moved(self, X):
        """Return what `_white` does, of rows whose outliers are moved to the others."""
        return self._white(np.clip(X, *self._limits))

    def _normal(self, U):
        """Return the inputs (n, d') of the flow, and log p(u) - log N(input) (n,).

        U: rows (n, d') in scaled units, with the density p(u) of the base.
        """
        if self._map is None:
            return U, np.zeros(len(U))
        Z, log_density = self._map.to_normal(U)
        return Z, log_density - log_normal(Z).sum(axis=1)

    def _encoded(self, X):
        encoded = np.empty((X.shape[0], self._varying.sum() + 1), np.float32)
        for rows in gen_batches(X.shape[0], _ENCODED):  # float64 takes much memory
            encoded[rows] = np.column_stack(self._normal(self._moved(X[rows])))
        return encoded

    def _variances_of(self, X):
        return self._moved(X).var(axis=0)

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

    # -- hooks of GenerativeModel ------------------------------------------------

    def _by_blocks(self, function, Z):
        """Apply a function of tensors to blocks of (n, d') rows."""
        blocks = gen_batches(Z.shape[0], _BLOCK)
        with one_blas_thread(), threads_for(0), torch.no_grad():
            answers = [function(torch.from_numpy(Z[rows])).numpy() for rows in blocks]
        return np.concatenate(answers)

    def _latents_and_log_det(self, X):
        """Return the latents (n, d) of rows (n, d) and the log-determinants (n,)."""

        def both(u):
            z, log_det = self._flow.latents(u)
            return torch.column_stack([z, log_det])

        Z = self._scaled(X)
        U, more = self._normal(Z[:, self._varying])
        found = self._by_blocks(both, U)
        Z[:, self._varying] = found[:, :-1]
        return Z, found[:, -1] + more + self._whitening.log_det

    def _log_density(self, X):
        Z, log_det = self._latents_and_log_det(X)
        return log_normal(Z).sum(axis=1) + log_det

    def _draw(self, n_samples, rng):
        return self._conditional_mean(
            rng.standard_normal((n_samples, self._varying.size))
        )

    def _posterior_mean(self, X):
        return self._latents_and_log_det(X)[0]

    def _conditional_mean(self, Z):
        U = Z.copy()
        rows = self._by_blocks(self._flow.rows, Z[:, self._varying])
        if self._map is not None:
            with one_blas_thread():
                rows = self._map.from_normal(rows)
        U[:, self._varying] = rows
        return self._whitening.unwhiten(U + self._shift)

    @property
    def _n_latent(self):
        return self.n_features_in_

    _n_features_out = _n_latent

    @property
    def _bytes_per_row(self):
        return 64 * self.n_features_in_  # blocks limit all other memory


def is_fitted(estimator):
    """Return whether an estimator is fitted."""
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True
