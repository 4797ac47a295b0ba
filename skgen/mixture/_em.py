"""Gaussian mixture fitted by expectation-maximisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Self

import numpy as np

from skgen._checks import (
    LARGEST,
    Described,
    check_boolean,
    check_integer,
    column_names,
    wrong_argument,
)
from skgen._docs import documented
from skgen._threads import one_blas_thread
from skgen._torch import check_device
from skgen._typing import ArrayLike, MatrixLike, NDArray, RandomState
from skgen._whitening import whitening_of
from skgen.base import WeightedFitMixin
from skgen.mixture._answers import log_density
from skgen.mixture._base import MIXTURE, AbstractGaussianMixture
from skgen.mixture._central import ROWS, central_whitening
from skgen.mixture._covariance import COVARIANCES
from skgen.mixture._incomplete import determined
from skgen.mixture._initialize import (
    array_of,
    completed,
    given_array,
    given_parameters,
)
from skgen.mixture._iterations import Run
from skgen.mixture._one_normal import incomplete_whitening
from skgen.mixture._problem import log_det_of, problem_of
from skgen.mixture._restarts import Levels, first_run, sample_size
from skgen.mixture._stepwise import Stepwise, step_size
from skgen.rows._moments import ObservedMoments, moments_from
from skgen.rows._source import distinct_rows

# Minimum number of rows of a block per feature to limit the influence of outliers.
_ROWS_FOR_FEATURE = 5


@documented(MIXTURE)
class EMGaussianMixture(WeightedFitMixin, AbstractGaussianMixture):
    r"""Gaussian mixture fitted by expectation-maximisation.

    The density of a row is a weighted sum of :math:`K` normal densities,

    .. math:: p(x) = \sum_{k=1}^{K} \pi_k \, \mathcal{N}(x; \mu_k, \Sigma_k),
              \qquad \sum_k \pi_k = 1.

    The latent is the one-hot encoded component. EM [1]_ increases the likelihood in
    every iteration. It runs in whitened coordinates, so that the result does not
    depend on the scale of the data, nor on the order of the rows. The rows can also
    be a memory-mapped array, a Dask array or dataframe, or a function that yields
    blocks of rows (:doc:`/guide/large_data`). Read more in the
    :doc:`/guide/gaussian_mixture`.

    NaN means "not observed". `fit` maximises the likelihood of the observed values
    [5]_, which needs no imputation: a row contributes :math:`\log p(x_\text{obs})`, the
    log-density of its observed values under the marginal density of their features,
    and a row without any observed value contributes 0.

    Parameters
    ----------
    covariance_type : {"full", "tied", "diag", "spherical", "block"}
        Type of the covariances:

        - "full": each component has its own covariance matrix;
        - "tied": all components share one covariance matrix;
        - "diag": each component has its own variance for each feature;
        - "spherical": each component has its own single variance;
        - "block": each component has its own covariance matrix, in which only features
          of one group of `blocks` are correlated.
    blocks : list of lists
        Groups of features for "block", as lists of feature names or indices: for
        example ``[[0, 1], [2, 3, 4]]``. A feature in no group is a group of its own.
        Ignored for other covariance types.
    tol : float
        Convergence threshold, in nats per row. As in scikit-learn, one last iteration
        follows after an iteration has increased the mean log-likelihood by less than
        `tol`. While steps are accelerated, a plain EM step must also gain less than
        `tol`. With 0, EM iterates until rounding errors prevent a further increase.
    reg_covar : float
        Minimum variance of a component in any direction, as a fraction of the
        variance of the data in that direction. Where outliers dominate this variance,
        it is limited to 100 times the variance of the central rows. Smaller variances
        are raised to the minimum, which keeps EM monotone [2]_. In scikit-learn, `reg_covar` is an
        absolute number that is added to the variances.
    max_iter : int
        Maximum number of iterations over all rows. 0 returns the initial parameters.
    n_init : int
        Number of initialisations. They compete by successive halving: after a few
        iterations the better half continues. "kmeans" runs up to four
        initialisations for each. Initialisations in which a component collapsed onto
        a few rows rank last.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}
        Initialisation method:

        - "kmeans": the clusters found by k-means;
        - "k-means++": the rows nearest to each of `n_components` seeds, which
          k-means++ draws from the rows;
        - "random_from_data": the same, with seeds drawn at random;
        - "random": random responsibilities.

        All methods take the sample weights into account. They work in whitened
        coordinates ("kmeans" also with features scaled to unit variance) and, if there
        are many rows, on a random sample of the rows.
    weights_init : array-like of shape (n_components,)
        Initial weights, which sum to one. If None, `init_params` is used.
    means_init : array-like of shape (n_components, n_features)
        Initial means, in the units of the data. If None, `init_params` is used.
    precisions_init : array-like
        Initial precisions (inverses of the covariances), in the units of the data
        and of the shape of `precisions_`. If None, `init_params` is used.
    warm_start : bool
        Whether `fit` continues from the previous solution. `n_init` and
        `init_params` are then ignored, unless the rows are so far from the previous
        solution that the fit starts again, with a warning.
    random_state : int, RandomState, Generator or None
        Seed of the initialisation and of the draws of `sample`.
    device : str
        Device that computes the iterations and the densities: "cpu" (NumPy), "cuda",
        "cuda:1", "mps" (PyTorch), or "auto" for the fastest one available. On a GPU,
        float32 rows are iterated in float32, never in TF32; other rows, and all
        densities, use float64. The iterations on rows with NaN run on the CPU. "mps"
        has no float64: it iterates in float32, and the
        CPU computes the densities, as it does if the device is missing when rows
        are scored. The initialisation runs on the CPU.

    Attributes
    ----------
    covariances_ : ndarray
        The covariances :math:`\Sigma_k`. The shape depends on `covariance_type`:
        (n_components, n_features, n_features) for "full" and "block", (n_features,
        n_features) for "tied", (n_components, n_features) for "diag" and
        (n_components,) for "spherical".
    precisions_ : ndarray
        The inverses of the covariances, of the same shape.
    precisions_cholesky_ : ndarray
        Factors :math:`U_k` with :math:`U_k U_k^\top = \Sigma_k^{-1}`, of the same
        shape: inverse standard deviations for "diag" and "spherical", upper triangular
        matrices for the other types.
    converged_ : bool
        Whether EM converged to within `tol`.
    n_iter_ : int
        Number of iterations over all rows, after the initialisation.
    lower_bound_ : float
        Mean log-likelihood of the fitted parameters, in nats per row:
        ``score(X, sample_weight=sample_weight)``.
    lower_bounds_ : list of float
        Mean log-likelihood after each iteration, in nats per row. It never decreases
        during `fit`, but may decrease during `partial_fit`.

    See Also
    --------
    GaussianKDE : One kernel on every row; the bandwidth is the only parameter to tune.
    sklearn.mixture.GaussianMixture : No sample weights; `sample` returns labels too.

    Notes
    -----
    An iteration is an EM step, or a longer step by L-BFGS [4]_ if that increases the
    likelihood. If `weights_init`, `means_init` and `precisions_init` are all given,
    steps are accelerated only near the optimum, so that the fit reaches the same
    optimum as EM.

    A component that becomes empty is re-initialised at the row with the lowest
    density, if that increases the likelihood. A component that collapses onto a few
    points is kept at the minimum variance given by `reg_covar`. Both issue a
    :class:`~sklearn.exceptions.ConvergenceWarning`.

    The data have zero variance along a constant feature, and in some direction if
    features are collinear. Except for "spherical", every component has the same small
    variance there: 1e-6 of the variance of a feature.

    `partial_fit` is stepwise EM [3]_.

    With NaN, the variance of the data in a direction, which `reg_covar` refers to, is
    the variance of one normal density that is fitted to the observed values of a sample
    of the rows, by maximum likelihood. Features are then collinear if a direction has
    less than 4e-10 of the variance of a feature. A feature that is observed in fewer
    rows than five times the number of features counts as uncorrelated with the others
    here, but not in the mixture. The estimates are consistent if values are missing
    at random: whether a value is missing may depend on the observed values of its row,
    but not on the missing values. Few rows with many gaps do not determine full
    covariances: the likelihood is highest in hyperplanes of one or two complete rows.
    A component in which fewer rows than features determine a variance causes a warning.

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
    .. [5] Ghahramani, Z. and Jordan, M. I. (1994). Supervised learning from incomplete
       data via an EM approach. Advances in Neural Information Processing Systems 6,
       120-127.

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

    The second feature of the last row is not observed:

    >>> X = [[0.0, 0.0], [1.0, 2.0], [2.0, 4.0], [3.0, 6.5], [4.0, np.nan]]
    >>> mixture = EMGaussianMixture(random_state=0).fit(X)
    >>> mixture.impute(X)[-1].round(1)
    array([4. , 8.5])
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        blocks: Sequence[Sequence[int | str]] | None = None,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        warm_start: bool = False,
        random_state: RandomState = None,
        device: str = "cpu",
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.blocks = blocks
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

    @classmethod
    def from_parameters(
        cls,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        *,
        covariance_type: str = "full",
        blocks: Sequence[Sequence[int | str]] | None = None,
        random_state: RandomState = None,
        device: str = "cpu",
    ) -> Self:
        """Return a fitted mixture with the given parameters, without data.

        It scores, samples and predicts as if it had been fitted. With
        ``set_params(warm_start=True)``, `fit` continues from the parameters, and so
        does `partial_fit`.

        Parameters
        ----------
        weights : array-like of shape (n_components,)
            Weights of the components, nonnegative with sum 1.
        means : array-like of shape (n_components, n_features)
            Means of the components.
        covariances : array-like
            Covariances of the components, of the shape of `covariances_`.
        covariance_type : {"full", "tied", "diag", "spherical", "block"}, default="full"
            Type of the covariances.
        blocks : list of lists of int, default=None
            Groups of features for "block".
        random_state : int, RandomState, Generator or None, default=None
            Seed of the draws of `sample`.
        device : str, default="cpu"
            Device that computes the densities.

        Returns
        -------
        object
            The mixture. Its `lower_bounds_` are empty, and it has no `lower_bound_`.

        Raises
        ------
        ValueError
            If an argument is invalid.

        Examples
        --------
        >>> from skgen import EMGaussianMixture
        >>> mixture = EMGaussianMixture.from_parameters([1.0], [[0.0]], [[[4.0]]])
        >>> mixture.score_samples([[0.0]]).round(4)
        array([-1.6121])
        """
        return cls(
            covariance_type=covariance_type,
            blocks=blocks,
            random_state=random_state,
            device=device,
        )._set_parameters(weights, means, covariances)

    def fit_predict(
        self, X: MatrixLike, y: None = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.intp]:
        """Fit the mixture and return the component label of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, as in `fit`. None gives every row a weight of 1.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``fit(X, sample_weight=sample_weight).predict(X)``.
        """
        return self._learn(X, sample_weight).predict(X)

    def partial_fit(
        self, X: MatrixLike, y: None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        r"""Update the mixture with a block of rows: one step of stepwise EM.

        The first block is fitted as by `fit`. Each later block is used once. It moves
        the moments of the components towards its own moments, by the step size

        .. math:: \gamma = (w / W)^{0.6},

        where :math:`w` is the total weight of the block and :math:`W` the total weight
        of all blocks so far, including this block (Cappe and Moulines, 2009). After
        `fit`, the updates continue from the fitted parameters. A block whose rows have
        next to no density under the mixture is fitted as a first block, with a warning.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The block. Larger blocks give less noisy parameters. The first block
            should have hundreds of rows per component, in random order.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, as in `fit`, on the scale of the first block: ratios of
            weights of different blocks matter.
            None gives every row a weight of 1.

        Returns
        -------
        self : object
            The mixture. Each later block increases `n_iter_` by one. The mean
            log-density of the block before the update becomes `lower_bound_` and is
            appended to `lower_bounds_`.

        Raises
        ------
        ValueError
            If a parameter, `X` or `sample_weight` is invalid. The mixture is then
            unchanged.
        """
        return self._learn_more(X, sample_weight)

    # -- checks ----------------------------------------------------------------

    def _set_parameters(self, weights, means, covariances):
        """Set the fitted attributes from arguments of `from_parameters`."""
        self._check_parameters()
        name = f"{type(self).__name__}.from_parameters"

        def array(argument, value, shape):
            error = partial(wrong_argument, name, argument)
            return array_of(value, argument, shape, error)

        weights = array("weights", weights, (None,))
        means = array("means", means, (weights.size, None))
        K, d = means.shape
        blocks = self._chosen_blocks(None, d)
        covariance = COVARIANCES[self.covariance_type].of(blocks)
        given = array("covariances", covariances, covariance.shape(K, d))
        stacked = covariance.stacked(given, d)
        try:
            covariance.factors_of_precisions(stacked)  # the same checks
            factors = covariance.factors(stacked)
        except np.linalg.LinAlgError:
            rule = covariance.rule
            raise wrong_argument(name, "covariances", rule, covariances) from None
        self.n_components, self.n_features_in_, self._fit_dtype = K, d, means.dtype
        self.weights_, self.means_ = weights / weights.sum(), means
        self.covariances_ = given
        self.precisions_ = covariance.public(covariance.precisions(factors))
        self.precisions_cholesky_ = covariance.public(factors)
        self.converged_, self.n_iter_, self.lower_bounds_ = True, 0, []
        self._fitted_covariance_type = self.covariance_type
        self._fitted_blocks = blocks
        return self

    def _check_parameters(self):
        self._check_mixture(COVARIANCES)
        check_integer(self, "max_iter", 0)
        check_integer(self, "n_init", 1)
        check_boolean(self, "warm_start")
        given_array(self, "weights_init", (self.n_components,))
        if self.device != "cpu":  # Import torch only when a device is requested.
            check_device(self)

    @property
    def _answering_device(self):
        return self.device

    _without_start = dict.fromkeys(("weights_init", "means_init", "precisions_init"))

    # -- fitting ----------------------------------------------------------------

    _fits_out_of_core = True
    _fits_incomplete = True

    def _fit(self, X, sample_weight, rng, task, *, again=False):
        table = X
        if isinstance(X, np.ndarray):
            table = distinct_rows(self, X, sample_weight)
        blocks = self._chosen_blocks(table.names, table.n_features)
        covariance = COVARIANCES[self.covariance_type].of(blocks)
        start = given_parameters(self, covariance, table.n_features)
        last = None
        if self._continues() and not again:
            what = "(warm_start=True) must be fitted"
            last = self._last_fit(table.n_features, blocks, what)
        with one_blas_thread():
            moments = table.moments(full=covariance.whitening == "full")
            n_rows, row_weight = table.counted(moments)
            self._row_weight *= row_weight
            self._check_rows(n_rows, moments.weight / row_weight)
            # The sample of the initialisation, so that it is drawn once.
            size = sample_size(table, moments.n_rows, self.n_components)
            sample = table.sample(size, moments)
            if last and not self._is_far_from(sample[0][:ROWS], "fit"):
                start = last
            incomplete = isinstance(moments, ObservedMoments)
            if incomplete:
                self._check_columns(moments)
                whitening = self._incomplete_coordinates(moments, covariance, *sample)
            else:
                whitening = self._coordinates(moments, covariance, table.projected)
                whitening = central_whitening(whitening, *sample, blocks)
            family = whitening, covariance, self.reg_covar
            problem = problem_of(table, *family, self.device, incomplete=incomplete)
            levels = Levels(table, problem, moments, family)
            run = first_run(self, levels, start, whitening, rng)
            log_det = log_det_of(whitening, moments)
            self._run(run, problem, whitening, log_det, task)
        fitted = self._fitted(run, whitening, covariance, log_det)
        for name, value in fitted.items():
            setattr(self, name, value)
        # The bound of the returned parameters, which are rounded in the data's units.
        few = None
        if incomplete:
            last = self.weights_, self.means_, self._parameters.factors
            last = completed(last, None, problem, whitening)
            found = problem.statistics(last)
            self.lower_bound_ = float(found.log_likelihood + log_det)
            if covariance.dense:
                few = ~determined(found, last, problem.family)
        else:
            mixture = {
                "parameters": self._parameters,
                "covariance": self._covariance,
                "device": self.device,
            }
            self.lower_bound_ = table.mean(partial(log_density, **mixture))
        self._spread = moments.rescaled(1 / row_weight)
        self._warn(run, few)

    def _fit_more(self, X, sample_weight, rng):
        if not hasattr(self, "means_"):
            self._fit(X, sample_weight, rng, NoTask())
            return
        if sample_weight.max() > LARGEST:
            rule = f"at most {LARGEST:g} times the weights of the first block"
            got = f"a ratio of {sample_weight.max():g}"
            raise wrong_argument(
                type(self).__name__, "sample_weight", rule, Described(got)
            )
        table = distinct_rows(self, X, sample_weight)
        blocks = self._chosen_blocks(table.names, table.n_features)
        what = ".partial_fit must continue"
        start = self._last_fit(table.n_features, blocks, what)
        if self._is_far_from(X[:: -(-len(X) // ROWS)], "partial_fit"):
            self._fit(X, sample_weight, rng, NoTask(), again=True)
            return
        covariance = self._covariance
        with one_blas_thread():
            moments = table.moments(full=covariance.whitening == "full")
            if isinstance(moments, ObservedMoments) and not moments.observed.any():
                self._check_columns(moments, "partial_fit")
            projected = table.projected
            if hasattr(self, "_spread"):
                projected = partial(self._projected, table, self._spread.weight)
                self._spread += moments
            else:  # parameters without rows
                self._spread = moments
            sample = table.sample(ROWS, moments)
            if isinstance(self._spread, ObservedMoments):
                self._check_columns(self._spread, "partial_fit")
                normal = self._normal()
                whitening = self._incomplete_coordinates(
                    self._spread, covariance, *sample, normal
                )
            else:
                whitening = self._coordinates(self._spread, covariance, projected)
                if len(sample[0]) >= _ROWS_FOR_FEATURE * table.n_features:
                    whitening = central_whitening(whitening, *sample, blocks)
            incomplete = isinstance(moments, ObservedMoments)
            block = problem_of(
                table,
                whitening,
                covariance,
                self.reg_covar,
                self.device,
                incomplete=incomplete,
            )
            before = completed(start, None, block, whitening)
            problem = Stepwise(
                block, before, step_size(moments.weight, self._spread.weight)
            )
            collected = problem.statistics(before)
            parameters, at_floor = problem.maximise(collected, before)
        run = Run(
            parameters,
            collected,
            bounds=[collected.log_likelihood],
            at_floor=at_floor,
            abandoned=set(np.flatnonzero(parameters.weights == 0).tolist()),
        )
        log_det = log_det_of(whitening, moments)
        fitted = self._fitted(run, whitening, covariance, log_det)
        fitted["n_iter_"] += self.n_iter_
        fitted["lower_bounds_"] = self.lower_bounds_ + fitted["lower_bounds_"]
        vars(self).update(fitted)
        self._warn(replace(run, converged=True))  # no convergence in a stream

    def _coordinates(self, moments, covariance, projected):
        """Return the whitening of rows with given moments."""
        options = {"dtype": self._fit_dtype, "names": column_names(self)}
        options |= {"blocks": covariance.blocks, "projected": projected}
        return whitening_of(moments, covariance.whitening, **options)

    def _incomplete_coordinates(
        self, moments, covariance, X, sample_weight, normal=None
    ):
        """Return the whitening of incomplete rows; see `incomplete_whitening`."""
        options = {"dtype": self._fit_dtype, "names": column_names(self)}
        return incomplete_whitening(
            X, sample_weight, moments, covariance, normal, **options
        )

    def _normal(self):
        """Return the mean (d,) and covariance (d, d) of the mixture."""
        weights, means, covariances = self._normal_components()
        mean = weights @ means
        apart = means - mean
        return mean, np.tensordot(weights, covariances, 1) + (apart.T * weights) @ apart

    def _projected(self, block, before, *, mean, matrix):
        """Return the `projected_moments` of a block and of rows of weight `before`."""
        # The mixture has the moments of the rows that it was fitted to.
        moments = block.projected(mean=mean, matrix=matrix)
        d, p = self.means_.shape[1], self._parameters
        for k in np.flatnonzero(p.weights):
            root = self._covariance.colour(np.eye(d), p.factors, k) @ matrix.T
            mean_of = (p.means[k] - mean) @ matrix.T
            moments += moments_from(before * p.weights[k], mean_of, root.T @ root)
        return moments

    def _continues(self):
        return self.warm_start and hasattr(self, "converged_")

    @property
    def _n_fit_tasks(self):
        return 1

    def _last_fit(self, d, blocks, what):
        """Return the previous weights, means and factors, in the units of the data."""
        if (
            self.means_.shape != (self.n_components, d)
            or self._fitted_covariance_type != self.covariance_type
            or self._fitted_blocks != blocks
        ):
            raise ValueError(
                f"{type(self).__name__}{what} with the same n_components, "
                "covariance_type, blocks and number of features as before. Got "
                f"{self.n_components}, {self.covariance_type!r} and {d} after "
                f"{self.means_.shape[0]}, {self._fitted_covariance_type!r} and "
                f"{self.means_.shape[1]}. Use a new estimator instead."
            )
        return self.weights_, self.means_, self._parameters.factors

    def _run(self, run, problem, whitening, log_det, task):
        """Iterate over all rows and call the callbacks."""

        def fitted():
            return self._fitted(run, whitening, problem.family.covariance, log_det)

        subtask = task.subcontext("EM", max_subtasks=self.max_iter)
        subtask.call_on_fit_task_begin(estimator=self)
        for _ in range(self.max_iter):
            iteration = subtask.subcontext("iteration")
            iteration.call_on_fit_task_begin(estimator=self)
            run.step(problem, self.tol)
            stop = iteration.call_on_fit_task_end(
                estimator=self,
                reconstruction_attributes=fitted,
            )
            if run.converged or run.stalled or stop:
                break
        subtask.call_on_fit_task_end(
            estimator=self,
            reconstruction_attributes=fitted,
        )

    def _fitted(self, run, whitening, covariance, log_det):
        """Return the fitted attributes of a run, in the units of the data.

        `log_det` are nats in these units minus nats in the coordinates of the run.
        """
        p = run.parameters
        mixture = p.weights, p.means, p.covariances
        return {
            **self._in_data_units(*mixture, covariance, whitening),
            "converged_": run.converged,
            "n_iter_": len(run.bounds),
            "lower_bound_": float(run.bound + log_det),
            "lower_bounds_": [float(b + log_det) for b in run.bounds],
            "_fitted_covariance_type": self.covariance_type,
            "_fitted_blocks": covariance.blocks,
        }

    def _warn(self, run, few=None):
        """Warn of what went wrong in the fit: too `few` rows of components (K or 1,)."""
        few = np.zeros(1, dtype=bool) if few is None else few
        name = type(self).__name__
        messages = {
            f"{name} stopped before it converged: a covariance is so close to "
            "singular that rounding keeps the likelihood from increasing. Increase "
            "reg_covar.": run.stalled,
            f"{name} did not converge to within tol={self.tol:g} before the iterations "
            "ended (see lower_bounds_). Increase max_iter or tol.": (
                not (run.converged or run.stalled) and run.bounds
            ),
            f"Some components of {name} became empty and were re-initialised at the "
            "rows with the lowest density. Leave out outliers, or try another "
            "initialisation. If the warning stays, use fewer components.": run.reseeded,
            f"Some components of {name} are empty, with a weight of 0 (see weights_). "
            "Try another initialisation. If the warning stays, use fewer components.": (
                run.abandoned
            ),
            f"Missing values leave fewer rows than features to determine a covariance "
            f"of {name}: its variance in some direction is too small, and the density "
            "overfits. Use covariance_type='tied' or 'diag', fewer components, or a "
            "higher reg_covar such as 0.2.": few.any(),
        }
        self._warn_of(messages, run.at_floor & ~few)


class NoTask:
    """Callback task of a fit without callbacks."""

    def subcontext(self, *args, **kwargs):
        """Return itself as the task of any part of the fit."""
        return self

    def call_on_fit_task_begin(self, **kwargs):
        """Do nothing."""

    def call_on_fit_task_end(self, **kwargs):
        """Never request a stop."""
        return False
