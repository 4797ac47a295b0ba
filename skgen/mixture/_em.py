"""Gaussian mixture fitted by expectation and maximisation."""

import warnings
from dataclasses import replace
from functools import partial

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skgen._parameters import (
    Described,
    check_boolean,
    check_choice,
    check_integer,
    check_nonnegative,
    wrong_argument,
)
from skgen._tensors import check_device
from skgen._threads import one_blas_thread
from skgen._validation import column_names
from skgen._whitening import whitening_of
from skgen.base import WeightedFitMixin
from skgen.mixture._answers import log_density
from skgen.mixture._base import AbstractGaussianMixture
from skgen.mixture._covariance import COVARIANCES
from skgen.mixture._elsewhere import table_elsewhere
from skgen.mixture._init import INIT_PARAMS
from skgen.mixture._iterations import Run
from skgen.mixture._race import Levels, first_run
from skgen.mixture._start import completed, start_array, user_start
from skgen.mixture._stepwise import Stepwise, step_size
from skgen.mixture._tables import ArrayTable


class EMGaussianMixture(WeightedFitMixin, AbstractGaussianMixture):
    r"""Gaussian mixture fitted by expectation-maximisation.

    The density of a row is a weighted sum of :math:`K` normal densities,

    .. math:: p(x) = \sum_{k=1}^{K} \pi_k \, \mathcal{N}(x; \mu_k, \Sigma_k),
              \qquad \sum_k \pi_k = 1.

    The latent is the component, one-hot. EM [1]_ raises the likelihood in every
    iteration; it runs in whitened coordinates, so that the scale of the data does
    not matter, and gives the same answer for rows in any order. Rows may also be a
    memory-mapped file, a Dask array or dataframe, or blocks that a function yields
    (:doc:`/guide/large_data`). Read more in the :doc:`/guide/gaussian_mixture`.

    Parameters
    ----------
    n_components : int, default=1
        The number of components.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        The shape of the covariances: one matrix for each component, one for all,
        one variance for each component and feature, or one for each component.
    tol : float, default=1e-3
        EM ends with the iteration after one that raised the mean log-likelihood
        by less than this, in nats per row, as scikit-learn does; where steps are made
        longer, the step of EM must be small as well. 0 goes on until rounding ends
        the rise.
    reg_covar : float, default=1e-6
        The least variance that a component may have in any direction, as a share
        of the variance of the data in that direction. Covariances that would fall
        below are raised to it, which keeps EM monotone [2]_. It is relative,
        while scikit-learn adds an absolute number to the variances.
    max_iter : int, default=100
        The most iterations over all rows. 0 returns the first start.
    n_init : int, default=1
        How many starts to try, twice or four times as many for "kmeans". They race: the
        half of the higher likelihood goes on after a few iterations, and so on; those
        with a few rows that collapsed only where there is no other.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        The start: the clusters of k-means; the rows nearest to each of
        `n_components` seeds that k-means++ or chance draws from the rows; or
        random responsibilities. All in whitened coordinates ("kmeans" in coordinates
        of unit variance as well), by the weights, and on a sample of many rows.
    weights_init : array-like of shape (n_components,), default=None
        Weights to start from, which sum to one. None takes those of `init_params`.
    means_init : array-like of shape (n_components, n_features), default=None
        Means to start from, in the units of the data.
    precisions_init : array-like, default=None
        Inverses of the covariances to start from, in the units of the data; of
        the shape of `precisions_`.
    warm_start : bool, default=False
        Whether a second `fit` starts where the first ended; `n_init` is then 1.
    random_state : int, RandomState instance or None, default=None
        Seeds the start, and the draws of `sample`.
    device : str, default="cpu"
        Where iterations and answers are computed: "cpu" by NumPy, or "cuda",
        "cuda:1" and so on by PyTorch, or "mps"; "auto" takes the fastest there is.
        On a device float32 rows are iterated over in float32, never in TF32; others,
        and all answers, in float64. "mps", which has none, iterates in float32 and
        leaves answers to the CPU, as does a device that is missing when rows are
        scored. A start is looked for on the CPU, in a sample of many rows.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        The weights :math:`\pi_k`.
    means_ : ndarray of shape (n_components, n_features)
        The means :math:`\mu_k`.
    covariances_ : ndarray
        The covariances :math:`\Sigma_k`: of shape (n_components, n_features,
        n_features) for "full", (n_features, n_features) for "tied", (n_components,
        n_features) for "diag" and (n_components,) for "spherical".
    precisions_ : ndarray
        Their inverses, of the same shape.
    precisions_cholesky_ : ndarray
        Upper triangular :math:`U_k` with :math:`U_k U_k^\top = \Sigma_k^{-1}`, or
        one over the standard deviations; of the same shape.
    converged_ : bool
        Whether EM stopped by `tol`.
    n_iter_ : int
        The number of iterations over all rows, after the race of starts.
    lower_bound_ : float
        The mean log-likelihood of the fitted parameters, in nats per row:
        ``score(X, sample_weight=sample_weight)``.
    lower_bounds_ : list of float
        The mean log-likelihood after each iteration; it never falls. What
        `partial_fit` adds may.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        The names of the features, where `X` has string names for all.

    See Also
    --------
    GaussianKDE : One kernel on every row; nothing to choose but the bandwidth.
    sklearn.mixture.GaussianMixture : Without weights; `sample` returns labels too.

    Notes
    -----
    Steps are those of EM, or longer ones that L-BFGS makes of them [4]_ where these
    raise the likelihood. From a start that is given whole (`weights_init`,
    `means_init` and `precisions_init`), they are made longer only when the optimum is
    near, so that the fit ends in that of EM.

    A component that loses its rows is set on the row of the least density if that
    raises the likelihood; one that shrinks onto a few points stays at the floor of
    `reg_covar`. Either is named in a
    :class:`~sklearn.exceptions.ConvergenceWarning`.

    A constant feature, or one that others determine, gets the shared floor: a
    normal density with 1e-6 of the variance of a feature across that direction
    (not for "spherical", whose one variance needs none).

    `partial_fit` is stepwise EM [3]_.

    References
    ----------
    .. [1] Dempster, A. P., Laird, N. M. and Rubin, D. B. (1977). Maximum
       likelihood from incomplete data via the EM algorithm. Journal of the Royal
       Statistical Society B 39, 1-38.
    .. [2] Ingrassia, S. and Rocci, R. (2007). Constrained monotone EM algorithms
       for finite mixture of multivariate Gaussians. Computational Statistics and
       Data Analysis 51, 5339-5351.
    .. [3] Cappe, O. and Moulines, E. (2009). On-line expectation-maximization
       algorithm for latent data models. Journal of the Royal Statistical Society B
       71, 593-613.
    .. [4] Jamshidian, M. and Jennrich, R. I. (1997). Acceleration of the EM algorithm
       by using quasi-Newton methods. Journal of the Royal Statistical Society B 59,
       569-587.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import EMGaussianMixture
    >>> X = np.array([[-1.2], [-0.9], [-1.1], [0.8], [1.1], [1.3]])
    >>> mixture = EMGaussianMixture(n_components=2, random_state=0).fit(X)
    >>> np.sort(mixture.means_, axis=0).round(3)
    array([[-1.067],
           [ 1.067]])
    >>> bool(np.isclose(mixture.lower_bound_, mixture.score(X)))
    True
    """

    def __init__(
        self,
        n_components=1,
        *,
        covariance_type="full",
        tol=1e-3,
        reg_covar=1e-6,
        max_iter=100,
        n_init=1,
        init_params="kmeans",
        weights_init=None,
        means_init=None,
        precisions_init=None,
        warm_start=False,
        random_state=None,
        device="cpu",
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device

    def fit_predict(self, X, y=None, sample_weight=None):
        """Fit the mixture and return the most probable component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts. None counts each once.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``fit(X, sample_weight=sample_weight).predict(X)``.
        """
        return self._learn(X, sample_weight).predict(X)

    def partial_fit(self, X, y=None, sample_weight=None):
        r"""Go on learning from a block of rows: one step of stepwise EM.

        The first block is fitted as `fit` would. Every later one is seen once: its
        moments move those of the rows before by the share

        .. math:: \gamma = (w / W)^{0.6},

        where :math:`w` is the weight of the block and :math:`W` that of all rows so
        far, its own included (Cappe and Moulines, 2009). After `fit`, the blocks go on
        from there.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The block. The more rows it has, the less the parameters scatter; the first
            should have hundreds of rows for every component, in random order.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts: 2 is the row twice, 0 the row absent.
            None counts each row once.

        Returns
        -------
        self : object
            The mixture. A later block adds one to `n_iter_`, and to `lower_bounds_`
            its mean log-density before it was learned from, which is `lower_bound_`.

        Raises
        ------
        ValueError
            If a parameter, `X` or `sample_weight` is not what it must be; the mixture
            stays what it was.
        """
        return self._learn_more(X, sample_weight)

    # -- checks ----------------------------------------------------------------

    def _check_parameters(self):
        check_integer(self, "n_components", 1)
        check_choice(self, "covariance_type", tuple(COVARIANCES))
        check_nonnegative(self, "tol")
        check_nonnegative(self, "reg_covar")
        check_integer(self, "max_iter", 0)
        check_integer(self, "n_init", 1)
        check_choice(self, "init_params", INIT_PARAMS)
        check_boolean(self, "warm_start")
        start_array(self, "weights_init", (self.n_components,))
        if self.device != "cpu":  # PyTorch is not loaded for nothing
            check_device(self)

    @property
    def _answering_device(self):
        return self.device

    # -- fitting ----------------------------------------------------------------

    _table_elsewhere = staticmethod(table_elsewhere)

    def _fit(self, X, sample_weight, rng, task):
        table = X
        if isinstance(X, np.ndarray):
            table = ArrayTable(self, X, sample_weight)
        start = user_start(self, table.n_features)
        if self._continues():
            start = self._last_fit(table.n_features, "(warm_start=True) must be fitted")
        covariance = COVARIANCES[self.covariance_type]
        with one_blas_thread():
            spread = table.spread(full=covariance.whitening == "full")
            n_rows, weight = table.counted(spread)
            self._check_rows(n_rows, weight)
            whitening = self._coordinates(spread, covariance)
            family = whitening, covariance, self.reg_covar
            problem = table.problem(*family)
            levels = Levels(table, problem, spread, family)
            run = first_run(self, levels, start, whitening, rng)
            self._run(run, problem, whitening, task)
        for name, value in self._fitted(run, whitening).items():
            setattr(self, name, value)
        # Of the parameters as they are returned, rounded to the data's units.
        mixture = {
            "parameters": self._parameters,
            "covariance": self._covariance,
            "device": self.device,
        }
        self.lower_bound_ = table.mean(partial(log_density, **mixture))
        self._spread = spread.rescaled(weight / spread.weight)
        self._warn(run)

    def _fit_more(self, X, sample_weight, rng):
        if not hasattr(self, "means_"):
            self._fit(X, sample_weight, rng, NoTask())
            return
        start = self._last_fit(X.shape[1], ".partial_fit must go on")
        covariance, table = self._covariance, ArrayTable(self, X, sample_weight)
        with one_blas_thread():
            spread = table.spread(full=covariance.whitening == "full")
            weight = table.counted(spread)[1]
            with np.errstate(over="ignore"):
                total = self._spread.weight + weight
            if not np.isfinite(total):
                rule = "of a finite sum, with those of the blocks before"
                got = Described(f"{weight:g} after {self._spread.weight:g}")
                raise wrong_argument(type(self).__name__, "sample_weight", rule, got)
            self._spread += spread.rescaled(weight / spread.weight)
            whitening = self._coordinates(self._spread, covariance)
            block = table.problem(whitening, covariance, self.reg_covar)
            before = completed(start, None, block, whitening)
            problem = Stepwise(block, before, step_size(weight, self._spread.weight))
            collected = problem.statistics(before)
            parameters, at_floor = problem.maximise(collected, before)
        run = Run(
            parameters,
            collected,
            bounds=[collected.log_likelihood],
            at_floor=at_floor,
            abandoned=set(np.flatnonzero(parameters.weights == 0).tolist()),
        )
        fitted = self._fitted(run, whitening)
        fitted["n_iter_"] += self.n_iter_
        fitted["lower_bounds_"] = self.lower_bounds_ + fitted["lower_bounds_"]
        vars(self).update(fitted)
        self._warn(replace(run, converged=True))  # of which a stream knows nothing

    def _coordinates(self, spread, covariance):
        """Return the whitened coordinates of rows of a given spread."""
        options = {"dtype": self._fit_dtype, "names": column_names(self)}
        return whitening_of(spread, covariance.whitening, **options)

    def _continues(self):
        return self.warm_start and hasattr(self, "converged_")

    @property
    def _n_fit_tasks(self):
        return 1

    def _last_fit(self, d, what):
        """Return where the last fit ended, in the units of the data."""
        if (
            self.means_.shape != (self.n_components, d)
            or self._fitted_covariance_type != self.covariance_type
        ):
            raise ValueError(
                f"{type(self).__name__}{what} with the same n_components, "
                "covariance_type and number of features as before. Got "
                f"{self.n_components}, {self.covariance_type!r} and {d} after "
                f"{self.means_.shape[0]}, {self._fitted_covariance_type!r} and "
                f"{self.means_.shape[1]}: start afresh with a new estimator."
            )
        return self.weights_, self.means_, self.precisions_cholesky_

    def _run(self, run, problem, whitening, task):
        """Iterate over all rows, reporting to callbacks."""
        subtask = task.subcontext("EM", max_subtasks=self.max_iter)
        subtask.call_on_fit_task_begin(estimator=self)
        for _ in range(self.max_iter):
            iteration = subtask.subcontext("iteration")
            iteration.call_on_fit_task_begin(estimator=self)
            run.step(problem, self.tol)
            stop = iteration.call_on_fit_task_end(
                estimator=self,
                reconstruction_attributes=lambda: self._fitted(run, whitening),
            )
            if run.converged or run.stalled or stop:
                break
        subtask.call_on_fit_task_end(
            estimator=self,
            reconstruction_attributes=lambda: self._fitted(run, whitening),
        )

    def _fitted(self, run, whitening):
        """Return the fitted attributes of a run, in the units of the data."""
        parameters, covariance = run.parameters, COVARIANCES[self.covariance_type]
        covariances, factors = covariance.to_data(parameters.covariances, whitening)
        return {
            "weights_": parameters.weights,
            "means_": whitening.unwhiten(parameters.means),
            "covariances_": covariances,
            "precisions_": covariance.precisions(factors),
            "precisions_cholesky_": factors,
            "converged_": run.converged,
            "n_iter_": len(run.bounds),
            # A density in whitened units, taken to the units of the data.
            "lower_bound_": float(run.bound + whitening.log_det),
            "lower_bounds_": [float(b + whitening.log_det) for b in run.bounds],
            "_fitted_covariance_type": self.covariance_type,
        }

    def _warn(self, run):
        """Warn about what went wrong, and was mended, in the best run."""
        name = type(self).__name__
        messages = {
            f"{name} stopped after {len(run.bounds)} iterations: covariances so near "
            "to singular that rounding kept the likelihood from rising. Raise "
            "reg_covar.": run.stalled,
            f"{name} did not converge in {len(run.bounds)} iterations: the last raised "
            f"the mean log-likelihood by {run.rise:.3g} nats, tol={self.tol:g}. Raise "
            "max_iter or tol.": not (run.converged or run.stalled) and run.bounds,
            f"Components {sorted(run.reseeded)} of {name} lost their rows and were set "
            "on the rows of the least density. Fewer components, or another start, "
            "may serve better.": run.reseeded,
            f"Components {sorted(run.abandoned)} of {name} have no rows and the "
            "weight 0. Use fewer components, or another start.": run.abandoned,
            self._collapsed(run.at_floor): run.at_floor.any(),
        }
        for message, happened in messages.items():
            if happened:
                warnings.warn(message, ConvergenceWarning, stacklevel=2)


class NoTask:
    """Stand in for a callback's task where none listens."""

    def subcontext(self, *args, **kwargs):
        """Return itself: there is nothing beneath either."""
        return self

    def call_on_fit_task_begin(self, **kwargs):
        """Tell nobody."""

    def call_on_fit_task_end(self, **kwargs):
        """Tell nobody, who asks for nothing."""
        return False
