"""Gaussian mixture fitted by stochastic gradient descent."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches

from skgen._parameters import (
    check_choice,
    check_integer,
    check_nonnegative,
    invalid_parameter,
    is_integer,
)
from skgen._validation import column_names
from skgen._whitening import estimate_whitening
from skgen.mixture._base import AbstractGaussianMixture
from skgen.mixture._init import INIT_PARAMS
from skgen.mixture._lowrank import ALL_COVARIANCES
from skgen.mixture._sgd_start import first_values, start_rows
from skgen.neural import GradientModel

# Rows that are whitened at once.
_CHUNK = 2**16

# How much more the later part of a stream weighs in the mean of its path: a power of
# the share of the steps taken so far.
_LATENESS = 9

# The rank of "lowrank" where the user names none, at most.
_RANK = 10


class SGDGaussianMixture(AbstractGaussianMixture, GradientModel):
    r"""Gaussian mixture fitted by stochastic gradient descent.

    The density of a row is a weighted sum of :math:`K` normal densities,

    .. math:: p(x) = \sum_{k=1}^{K} \pi_k \, \mathcal{N}(x; \mu_k, \Sigma_k),
              \qquad \pi = \mathrm{softmax}(\eta).

    Mini-batches of rows minimise the mean of :math:`-\log p(x)` over unconstrained
    parameters: logits :math:`\eta`, means, softplus variances or Cholesky factors.
    It is the mixture of :class:`EMGaussianMixture` for many rows, for streams
    (`partial_fit`), and, with ``covariance_type="lowrank"``, for hundreds of
    features. Read more in the :doc:`/guide/gaussian_mixture`.

    Parameters
    ----------
    n_components : int, default=1
        The number of components.
    covariance_type : {"full", "tied", "diag", "spherical", "lowrank"}, default="full"
        The shape of the covariances: one matrix for each component, one for all,
        one variance for each component and feature, one for each component, or
        :math:`\Sigma_k = A_k A_k^\top + D_k` with `rank` columns in :math:`A_k` and
        :math:`D_k` diagonal.
    rank : int, default=None
        The number of columns of :math:`A_k` for "lowrank", of which other types
        take no notice. None takes 10, or half of the features where those are
        fewer than 20.
    tol : float, default=1e-3
        What counts as a fall of the loss, in nats per row.
    reg_covar : float, default=1e-6
        The least variance that a component may have in any direction, as a share
        of the variance of the data in that direction; for "lowrank", the least
        entry of :math:`D_k`.
    max_epochs : int, default=100
        The most passes over the rows.
    batch_size : int or "auto", default="auto"
        The most rows in a batch. "auto" takes a fortieth of the rows, for
        `partial_fit` a tenth of the block, but at least 16 and at most 1,024.
    lr : float, default=0.1
        The first learning rate. It falls with the root of the steps, and to a
        fifth, twice, where the loss stays level for `n_iter_no_change` epochs.
        Steps are taken in units of each component's own width, so that one value
        serves all data.
    optimizer : str or type, default="adam"
        "adam", "adamw", "rmsprop", "sgd", or a subclass of
        ``torch.optim.Optimizer``.
    early_stopping : bool, default=True
        Whether the loss to watch is that of held-out rows. They join the others
        for two last epochs. Where they would be fewer than 5, or for False, the
        loss is that of training, over all rows.
    validation_fraction : float, default=0.1
        The share of rows to hold out, chosen at random.
    n_iter_no_change : int, default=3
        How many epochs without a fall by `tol` end a learning rate, and the last
        of them the fit.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        The start, as for :class:`EMGaussianMixture`, from at most 20,000 rows or
        400 for each component.
    warm_start : bool, default=False
        Whether a second `fit` goes on where the first ended, in its coordinates
        and with its net: parameters that the net was built with must not change.
    net_callbacks : list, default=None
        Callbacks of skorch, which see every epoch of `net_`.
    net_params : dict, default=None
        Further parameters of ``skorch.NeuralNet``, such as
        ``{"optimizer__weight_decay": 1e-4}`` or ``{"compile": True}``.
    random_state : int, RandomState instance or None, default=None
        Seeds the start, the order of rows, and the draws of `sample`.
    device : str, default="cpu"
        Where to train: "cpu", "cuda", "cuda:1", "mps", or "auto" for the fastest
        there is. Answers are computed on the CPU in double precision.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        The weights :math:`\pi_k`.
    means_ : ndarray of shape (n_components, n_features)
        The means :math:`\mu_k`.
    covariances_ : ndarray
        The covariances :math:`\Sigma_k`, of the shapes of
        :class:`EMGaussianMixture`; for "lowrank" (n_components, n_features,
        rank + 1): the columns of :math:`A_k`, then the diagonal of :math:`D_k`.
    precisions_ : ndarray
        Their inverses, of the same shape; for "lowrank" the columns of
        :math:`C_k`, then the diagonal of :math:`D_k^{-1}`, with
        :math:`\Sigma_k^{-1} = D_k^{-1} - C_k C_k^\top`.
    precisions_cholesky_ : ndarray
        Some :math:`U_k` with :math:`U_k U_k^\top = \Sigma_k^{-1}`, of the same
        shape: upper triangular, or one over the standard deviations; for "lowrank"
        the columns of :math:`P_k`, then the diagonal of :math:`D_k^{-1/2}`, with
        :math:`U_k = D_k^{-1/2} (I - P_k P_k^\top)`.
    converged_ : bool
        Whether the loss stayed level at the last learning rate.
    n_iter_ : int
        The number of epochs.
    lower_bound_ : float
        The mean log-likelihood of the fitted parameters, in nats per row:
        ``score(X)`` to single precision. After `partial_fit`, that of the last
        block as it went by.
    lower_bounds_ : list of float
        The mean log-likelihood of the batches in each epoch, as they went by.
    history_ : list of dict
        For each epoch its number, the mean negative log-likelihood of the batches
        as they went by (``train``) and of the held-out rows after them
        (``validation``, NaN without any), in nats per row and in the units of the
        data, and how many ``seconds`` it took.
    net_ : skorch.NeuralNet
        The net, whose ``module_`` holds the parameters in whitened coordinates.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        The names of the features, where `X` has string names for all.

    See Also
    --------
    EMGaussianMixture : By EM: takes weights; the likelihood rises in every step.

    Notes
    -----
    The parameters are changes from a start that moves along: a mean in units of its
    component's standard deviations [1]_, a factor :math:`U_k = U_k^0 T_k` with a
    triangular :math:`T_k`. Training is in float32, after whitening in float64;
    answers are in float64. A component that loses its rows is set on a row of low
    density, and one that collapses stays at the floor of `reg_covar`; either is
    named in a :class:`~sklearn.exceptions.ConvergenceWarning`.

    With "lowrank" each component is a factor analyser [2]_; distances and
    determinants come from matrices of rank x rank (Woodbury, 1950), and none of
    n_features x n_features is ever formed.

    It takes no weights: over shuffled batches, a weight of 2 cannot be the row
    twice. After `partial_fit` the parameters are the mean of the path that they took
    through the stream, of its later part above all [3]_.

    References
    ----------
    .. [1] Hosseini, R. and Sra, S. (2015). Matrix manifold optimization for Gaussian
       mixtures. Advances in Neural Information Processing Systems 28.
    .. [2] Richardson, E. and Weiss, Y. (2018). On GANs and GMMs. Advances in Neural
       Information Processing Systems 31.
    .. [3] Polyak, B. T. and Juditsky, A. B. (1992). Acceleration of stochastic
       approximation by averaging. SIAM Journal on Control and Optimization 30,
       838-855.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import SGDGaussianMixture
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.normal(-2, 1, (500, 1)), rng.normal(2, 1, (500, 1))])
    >>> mixture = SGDGaussianMixture(n_components=2, random_state=0).fit(X)
    >>> np.sort(mixture.means_, axis=0).round(0)
    array([[-2.],
           [ 2.]])
    """

    def __init__(
        self,
        n_components=1,
        *,
        covariance_type="full",
        rank=None,
        tol=1e-3,
        reg_covar=1e-6,
        max_epochs=100,
        batch_size="auto",
        lr=0.1,
        optimizer="adam",
        early_stopping=True,
        validation_fraction=0.1,
        n_iter_no_change=3,
        init_params="kmeans",
        warm_start=False,
        net_callbacks=None,
        net_params=None,
        random_state=None,
        device="cpu",
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.rank = rank
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.init_params = init_params
        self.warm_start = warm_start
        self.net_callbacks = net_callbacks
        self.net_params = net_params
        self.random_state = random_state
        self.device = device

    _fixed = (
        "n_components",
        "covariance_type",
        "rank",
        "reg_covar",
        *GradientModel._fixed,
    )

    # Epochs over all rows, held-out ones as well, once the watched loss is level.
    _n_last_epochs = 2

    # A row far from a narrow component has a gradient of thousands; with Adam's own
    # 0.999 its memory would shorten the next thousands of steps.
    _betas = (0.9, 0.99)

    # The noise of steps falls with their length, in a stream as in a fit.
    _half_life = 600

    # -- checks ----------------------------------------------------------------

    def _check_own(self):
        check_integer(self, "n_components", 1)
        check_choice(self, "covariance_type", tuple(ALL_COVARIANCES))
        if self.rank is not None and not is_integer(self.rank, 1):
            raise invalid_parameter(
                self, "rank", "None or an int of at least 1", self.rank
            )
        check_nonnegative(self, "tol")
        check_nonnegative(self, "reg_covar")
        check_integer(self, "n_iter_no_change", 1)
        check_choice(self, "init_params", INIT_PARAMS)

    def _resolved_rank(self, d):
        """Return the number of directions of "lowrank" in `d` features."""
        if self.rank is None:
            return min(_RANK, max(1, d // 2))
        if self.covariance_type == "lowrank" and self.rank > d:
            rule = f"at most the number of features, {d}"
            raise invalid_parameter(self, "rank", rule, self.rank)
        return self.rank

    # -- fitting ----------------------------------------------------------------

    def _new_module(self, X, training, rng):
        from skgen.mixture._modules import MODULES

        n, d = X.shape
        self._check_rows(n, n)
        kind, rank = self.covariance_type, self._resolved_rank(d)
        self._fitted_covariance_type = kind
        self._set_coordinates(X)
        chosen = start_rows(training.size, self.n_components, rng)
        Z = self._white(X[training[chosen]])
        # Less than 1e-10 of the variance of the data is rounding to float32.
        floor = max(self.reg_covar, 1e-10)
        values = first_values(
            Z, self.n_components, kind, rank, self.init_params, floor, rng
        )
        return MODULES[kind](*values, floor)

    def _set_coordinates(self, X):
        """Choose the whitened coordinates of the module, those that vary."""
        self._whitening = estimate_whitening(
            X,
            np.ones(X.shape[0]),
            self._covariance.whitening,
            dtype=self._fit_dtype,
            names=column_names(self),
        )
        # Across degenerate directions every component has the shared floor.
        self._varying = ~self._whitening.degenerate
        # Far from the origin the mean itself is rounded, and float32 would show it.
        self._shift = np.zeros(self._varying.sum())
        total = sum(self._white(X[rows]).sum(axis=0) for rows in _chunks(X))
        self._shift = total / X.shape[0]

    def _white(self, X):
        """Return rows in the coordinates of the module, in float64."""
        return self._whitening.whiten(X)[:, self._varying] - self._shift

    def _encoded(self, X):
        Z = np.empty((X.shape[0], self._shift.size), dtype=np.float32)
        for rows in _chunks(X):
            Z[rows] = self._white(X[rows])
        return Z

    def _resolved_batch(self, n_samples, streams):
        if self.batch_size != "auto":
            return self.batch_size
        # A block is seen once: its steps must be sure rather than many.
        return min(1024, max(16, n_samples // (10 if streams else 40)))

    def _callbacks(self):
        from skgen.neural._schedule import Plateau

        return [("schedule", Plateau(self.tol, self.n_iter_no_change))]

    def _finish(self, rows, watched, rng, task):
        # Held-out rows said when to stop. A last look at all rows is worth a tenth
        # of a nat where rows are few for the parameters, and costs nothing elsewhere.
        net, schedule = self.net_, dict(self.net_.callbacks_)["schedule"]
        converged = schedule.converged_
        if watched and (converged or not net.stopped_):
            net.set_rate(self.lr * schedule.factor, self._half_life)
            self._train(rows, None, self._n_last_epochs, rng, task)
        bound = -float(net.mean_loss(rows) + self._loss_offset())
        return {"converged_": converged, "lower_bound_": bound}

    def _follow(self, rows, share, rng):
        values = self.net_.module_.values()
        if self._average is not None:
            # The mean of the path, its later parts weighing more: steps scatter
            # about the optimum, their mean does not.
            old = share**_LATENESS
            values = tuple(
                old * before + (1 - old) * now
                for before, now in zip(self._average, values, strict=True)
            )
        self._average = values
        return {}

    def _loss_offset(self):
        n_missing = self._varying.size - self._shift.size
        return 0.5 * n_missing * np.log(2 * np.pi) - self._whitening.log_det

    def _adopted(self):
        values = self._average or self.net_.module_.values()
        weights, moved, covariances = values
        d = self._varying.size
        means = np.zeros((weights.size, d))
        means[:, self._varying] = moved + self._shift
        wide = self._covariance.widened(covariances, self._varying)
        covariances, factors = self._covariance.to_data(wide, self._whitening)
        history = self._losses()
        return {
            "weights_": weights / weights.sum(),
            "means_": self._whitening.unwhiten(means),
            "covariances_": covariances,
            "precisions_": self._covariance.precisions(factors),
            "precisions_cholesky_": factors,
            "converged_": False,
            "n_iter_": len(history),
            "lower_bound_": -history[-1]["train"],
            "lower_bounds_": [-epoch["train"] for epoch in history],
            "history_": history,
        }

    def _warn(self):
        name, module = type(self).__name__, self.net_.module_
        at_floor = np.zeros(1, dtype=bool)
        if self._varying.any():
            least = self._covariance.least_variances(module.values()[2])
            at_floor = least <= 1.01 * module.floor
        reseeded = module.revived.nonzero()[:, 0].tolist()
        messages = {
            f"{name} did not converge in {self.max_epochs} epochs: the loss still fell "
            "or the last learning rate was not reached. Raise max_epochs or tol.": (
                not self.converged_ and not self.net_.stopped_
            ),
            f"Components {reseeded} of {name} lost their rows and were set on rows of "
            "low density. Fewer components, or another start, may serve better.": (
                len(reseeded) > 0
            ),
            self._collapsed(at_floor): at_floor.any(),
        }
        for message, happened in messages.items():
            if happened:
                warnings.warn(message, ConvergenceWarning, stacklevel=2)


def _chunks(X):
    """Return slices of rows that are whitened at once."""
    return gen_batches(X.shape[0], _CHUNK)
