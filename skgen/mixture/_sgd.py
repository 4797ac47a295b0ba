"""Gaussian mixture fitted by stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.utils import gen_batches

import skgen._needs_torch  # noqa: F401
from skgen._checks import (
    check_integer,
    column_names,
    invalid_parameter,
    is_integer,
)
from skgen._docs import documented
from skgen._typing import RandomState
from skgen._whitening import DiagonalWhitening, loss_offset, whitening_of
from skgen.mixture import _module
from skgen.mixture._base import MIXTURE, AbstractGaussianMixture
from skgen.mixture._central import ROWS, central_whitening
from skgen.mixture._covariance import COVARIANCES
from skgen.mixture._lowrank import ALL_COVARIANCES
from skgen.mixture._one_normal import (
    completed_rows,
    incomplete_whitening,
    normal_density,
)
from skgen.mixture._restarts import first_values, n_sampled
from skgen.neural._model import GradientModel
from skgen.neural._parameters import TRAINING
from skgen.neural._schedule import Plateau
from skgen.rows._moments import ObservedMoments

# Number of rows whitened at once.
_CHUNK = 2**16

# A block of a stream that raises the number of steps from a to b keeps the fraction
# (a / b) ** _LATENESS of the average of the earlier parameters.
_LATENESS = 9

# Maximum default rank of "lowrank".
_RANK = 10


@documented(MIXTURE, TRAINING)
class SGDGaussianMixture(AbstractGaussianMixture, GradientModel):
    r"""Gaussian mixture fitted by stochastic gradient descent.

    The density of a row is a weighted sum of :math:`K` normal densities,

    .. math:: p(x) = \sum_{k=1}^{K} \pi_k \, \mathcal{N}(x; \mu_k, \Sigma_k),
              \qquad \pi = \mathrm{softmax}(\eta).

    Mini-batches minimise the mean of :math:`-\log p(x)` over unconstrained
    parameters: logits :math:`\eta`, means, and softplus variances or triangular
    factors of the precisions. It is the same model as :class:`EMGaussianMixture`,
    for large data sets, for streams (`partial_fit`) and, with
    ``covariance_type="lowrank"``, for hundreds of features. Read more in the
    :doc:`/guide/gaussian_mixture`.

    Parameters
    ----------
    covariance_type : {"full", "tied", "diag", "spherical", "block", "lowrank"}
        Type of the covariances:

        - "full": each component has its own covariance matrix;
        - "tied": all components share one covariance matrix;
        - "diag": each component has its own variance for each feature;
        - "spherical": each component has its own single variance;
        - "block": each component has its own covariance matrix, in which only features
          of one group of `blocks` are correlated;
        - "lowrank": :math:`\Sigma_k = A_k A_k^\top + D_k` with `rank` columns in
          :math:`A_k` and a diagonal :math:`D_k`.
    blocks : list of lists
        Groups of features for "block", as lists of feature names or indices: for
        example ``[[0, 1], [2, 3, 4]]``. A feature in no group is a group of its own.
        Ignored for other covariance types.
    rank : int
        Number of columns of :math:`A_k` for "lowrank". Ignored for other covariance
        types. None uses 10, or half the number of features if there are fewer than
        20 features.
    tol : float
        Smallest decrease of the loss that counts as an improvement, in nats per row.
    reg_covar : float
        Minimum variance of a component in any direction, as a fraction of the
        variance of the data in that direction, as in :class:`EMGaussianMixture`. For
        "lowrank", it is the minimum entry
        of :math:`D_k`, as a fraction of the variance of the feature. Values below
        1e-10, the limit of single precision, are replaced by 1e-10.
    batch_size : int or "auto"
        Maximum number of rows in a batch. "auto" uses a fortieth of the rows, or a
        tenth of the block in `partial_fit`, but at least 16 and at most 1,024.
    lr : float
        Initial learning rate. It decays as one over the square root of the number of
        steps. In addition, it is divided by five whenever the loss has not improved for
        `n_iter_no_change` epochs, at most twice. Steps are in units of the width of
        each component, so the default suits data of any scale.
    early_stopping : bool
        Whether to hold out some rows and monitor their loss. Two final epochs train
        on all rows, including the held-out rows. If False, or if fewer than 5 rows
        would be held out, the training loss is monitored.
    n_iter_no_change : int
        Number of epochs without an improvement by `tol` after which the learning
        rate is reduced or, at the lowest learning rate, training stops.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}
        Initialisation method, as for :class:`EMGaussianMixture`. It uses a random
        sample of at most 20,000 rows, or of 400 rows per component if that is more.
    warm_start : bool
        Whether `fit` continues from the previous solution, in the same whitened
        coordinates and with the same net. The parameters that the net was built
        with (`n_components`, `covariance_type`, `blocks`, `rank`, `reg_covar`,
        `optimizer`, `net_callbacks`, `net_params` and `device`) must not change.
    random_state : int, RandomState, Generator or None
        Seed of the initialisation, of the order of the rows, and of the draws of
        `sample`.

    Attributes
    ----------
    covariances_ : ndarray
        The covariances :math:`\Sigma_k`. The shape depends on `covariance_type`:
        for "lowrank" it is (n_components, n_features, rank + 1), with the columns of
        :math:`A_k` followed by the diagonal of :math:`D_k`; for other types it is
        the shape given in :class:`EMGaussianMixture`.
    precisions_ : ndarray
        The inverses of the covariances, of the same shape. For "lowrank", the
        columns of :math:`C_k` followed by the diagonal of :math:`D_k^{-1}`, with
        :math:`\Sigma_k^{-1} = D_k^{-1} - C_k C_k^\top`.
    precisions_cholesky_ : ndarray
        Factors :math:`U_k` with :math:`U_k U_k^\top = \Sigma_k^{-1}`, of the same
        shape: upper triangular matrices for "full", "tied" and "block", inverse
        standard deviations for "diag" and "spherical". For "lowrank", the columns of
        :math:`P_k` followed by the diagonal of :math:`D_k^{-1/2}`, with
        :math:`U_k = D_k^{-1/2} (I - P_k P_k^\top)`.
    converged_ : bool
        Whether the loss stopped improving at the lowest learning rate. False after
        `partial_fit`.
    lower_bound_ : float
        Mean log-likelihood of the fitted parameters, in nats per row: ``score(X)``
        to single precision. After `partial_fit`, the last entry of `lower_bounds_`.
    lower_bounds_ : list of float
        Mean log-likelihood of the batches in each epoch, in nats per row. Each batch
        is evaluated before the step that it causes.
    history_ : list of dict
        Record of each epoch: its number (``epoch``), the mean negative log-likelihood
        of the batches, as in `lower_bounds_` (``train``), the mean negative
        log-likelihood of the held-out rows after the epoch (``validation``, NaN without
        held-out rows) and the duration (``seconds``). Both losses are in nats per row,
        in the units of the data.
    net_ : skorch.NeuralNet
        The trained net. Its ``module_`` holds the parameters in whitened
        coordinates.

    See Also
    --------
    EMGaussianMixture : The same model fitted by EM, which supports sample weights and
        increases the likelihood in every iteration.

    Notes
    -----
    Each parameter is a change relative to a reference, which is regularly reset to
    the current solution: a mean moves in units of the standard deviations of its
    component [1]_, and a factor is :math:`U_k = U_k^0 T_k` with a triangular
    :math:`T_k`. Rows are whitened in float64. Training uses float32, and the fitted
    mixture float64.

    A component that becomes empty is re-initialised at a row of low density. A
    component that collapses is kept at the minimum variance given by `reg_covar`.
    Both issue a :class:`~sklearn.exceptions.ConvergenceWarning`.

    With "lowrank" each component is a factor analyser [2]_. Distances and
    determinants are computed from rank x rank matrices (Woodbury, 1950), and no
    n_features x n_features matrix is formed.

    NaN in `X` is a value that was not observed, and rows contribute the density of their
    observed values. Coordinates are then scaled feature by feature also for "full" and
    "tied". A full covariance matrix is factorised for each row of a batch, which takes
    several times as long as for complete rows.

    Sample weights are not supported: in shuffled mini-batches, a weight of 2 is not
    equivalent to a repeated row.

    After `partial_fit` the parameters are an average over the parameters after each
    block, in which later blocks have larger weights [3]_.

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
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        blocks: Sequence[Sequence[int | str]] | None = None,
        rank: int | None = None,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_epochs: int = 100,
        batch_size: int | str = "auto",
        lr: float = 0.1,
        optimizer: str | type = "adam",
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 3,
        init_params: str = "kmeans",
        warm_start: bool = False,
        net_callbacks: list | None = None,
        net_params: dict | None = None,
        random_state: RandomState = None,
        device: str = "cpu",
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.blocks = blocks
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
        "blocks",
        "rank",
        "reg_covar",
        *GradientModel._fixed,
    )

    # Final epochs over all rows, including the held-out rows.
    _n_last_epochs = 2

    # A row far from a narrow component has a gradient in the thousands. With Adam's
    # default of 0.999 it would shorten the steps of thousands of batches.
    _betas = (0.9, 0.99)

    # Shorter steps are less noisy, in streams and in fits.
    _half_life = 600

    # A block is used once, so that accurate steps matter more than many steps.
    _largest_batch, _batches_of_block = 1024, 10

    # -- checks ----------------------------------------------------------------

    def _check_own(self):
        self._check_mixture(kind for kind, c in ALL_COVARIANCES.items() if c.module)
        if self.rank is not None and not is_integer(self.rank, 1):
            raise invalid_parameter(
                self, "rank", "None or an int of at least 1", self.rank
            )
        check_integer(self, "n_iter_no_change", 1)

    def _resolved_rank(self, d):
        """Return the rank of "lowrank" for `d` features."""
        if self.rank is None:
            return min(_RANK, max(1, d // 2))
        if self.covariance_type == "lowrank" and self.rank > d:
            rule = f"at most the number of features, {d}"
            raise invalid_parameter(self, "rank", rule, self.rank)
        return self.rank

    # -- fitting ----------------------------------------------------------------

    _fits_incomplete = True

    @property
    def _whitening_type(self):
        return ALL_COVARIANCES[self.covariance_type].whitening

    def _new_module(self, rows, rng):
        n, d = rows.shape
        self._check_rows(n, n)
        rank = self._resolved_rank(d)
        self._fitted_covariance_type = self.covariance_type
        self._fitted_blocks = self._chosen_blocks(column_names(self), d)
        sample = rows.sample(n_sampled(self.n_components), rng)
        self._set_coordinates(rows, sample)
        Z = self._completed(self._white(sample))
        # In float32, a variance below 1e-10 of the variance of the data is rounding.
        floor = max(self.reg_covar, 1e-10)
        covariance = self._covariance.narrowed(self._varying)
        options = self.n_components, covariance, rank, self.init_params
        factor = getattr(self._whitening, "factor", None)
        if factor is not None:
            factor = factor[:, self._varying]
        values = first_values(Z, *options, floor, rng, factor)
        module, d = getattr(_module, covariance.module), self._shift.size
        return module(*values, floor, covariance.mask(), covariance.basis_of(d))

    def _set_coordinates(self, rows, sample):
        """Set the whitened, non-constant and centred coordinates of the module."""
        moments, blocks = rows.moments, self._covariance.blocks
        few = sample[:: -(-len(sample) // ROWS)]
        options = {"dtype": self._fit_dtype, "names": column_names(self)}
        self._observed = None  # the fractions of observed values (d,)
        if isinstance(moments, ObservedMoments):
            self._check_columns(moments)
            # Coordinates that mix features would be missing if one feature is.
            kind = "spherical" if self._whitening_type == "spherical" else "diag"
            some = few, np.ones(len(few)), moments
            whitening = central = incomplete_whitening(
                *some, COVARIANCES[kind], **options
            )
            self._observed = moments.observed / moments.weight
        else:
            whitening = whitening_of(
                moments,
                self._whitening_type,
                blocks=blocks,
                projected=rows.projected,
                **options,
            )
            central = central_whitening(whitening, few, np.ones(len(few)), blocks)
        # In degenerate directions every component has the common minimum variance.
        self._whitening, self._varying = central, ~central.degenerate
        # Far from the origin the mean of the whitening is rounded, which float32 would
        # not resolve.
        shift = whitening.whitened_difference(moments.rounding)
        self._shift = shift[self._varying] * (central is whitening)

    def _white(self, X):
        """Return rows (n, d) in the coordinates of the module, in float64."""
        return self._whitening.whiten(X)[:, self._varying] - self._shift

    def _completed(self, Z):
        """Return coordinates (m, d) completed for the initialisation."""
        if not np.isnan(Z).any():
            return Z
        d = Z.shape[1]
        scaled = DiagonalWhitening(np.zeros(d), np.ones(d), np.zeros(d, dtype=bool))
        weights, normal = np.ones(len(Z)), None
        if self._covariance.dense:
            normal = normal_density(Z[:ROWS], weights[:ROWS], scaled)
        return completed_rows(Z, weights, scaled, normal)[0]

    def _encoded(self, X):
        Z = np.empty((X.shape[0], self._shift.size), dtype=np.float32)
        for rows in gen_batches(X.shape[0], _CHUNK):
            Z[rows] = self._white(X[rows])
        return Z

    def _callbacks(self):
        return [("schedule", Plateau(self.tol, self.n_iter_no_change))]

    def _finish(self, rows, watched, rng, task):
        # Training on the held-out rows as well gains a tenth of a nat if there are few
        # rows per parameter, and does no harm otherwise.
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
            # Steps scatter about the optimum; their average scatters less. Later
            # parameters, which are nearer to the optimum, have larger weights.
            old = share**_LATENESS
            values = tuple(
                old * before + (1 - old) * now
                for before, now in zip(self._average, values, strict=True)
            )
        self._average = values
        return {}

    # The fraction of rows that have each feature (d,), None if no value is missing. Not
    # in files of models that were fitted before.
    _observed = None

    def _loss_offset(self):
        return loss_offset(self._whitening, self._observed)

    def _adopted(self):
        values = self._average or self.net_.module_.values()
        weights, moved, covariances = values
        d = self._varying.size
        means = np.zeros((weights.size, d))
        means[:, self._varying] = moved + self._shift
        covariance, history = self._covariance, self._losses()
        covariances = covariance.stacked(covariances, self._shift.size)
        covariances = covariance.narrowed(self._varying).nearest(covariances)
        wide = covariance.widened(covariances, self._varying)
        mixture = weights / weights.sum(), means, wide
        return {
            **self._in_data_units(*mixture, covariance, self._whitening),
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
            covariance, covariances = self._covariance, module.values()[2]
            covariances = covariance.stacked(covariances, self._shift.size)
            least = covariance.least_variances(covariances)
            at_floor = least <= 1.01 * module.floor
        messages = {
            f"{name} did not converge within max_epochs epochs: the loss was still "
            "decreasing, or the lowest learning rate was not reached. Increase "
            "max_epochs.": not self.converged_ and not self.net_.stopped_,
            f"Some components of {name} became empty and were re-initialised at rows "
            "of low density. net_.module_.revived marks them. Leave out outliers, or try "
            "another initialisation. If the warning stays, use fewer components.": bool(
                module.revived.any()
            ),
        }
        self._warn_of(messages, at_floor)
