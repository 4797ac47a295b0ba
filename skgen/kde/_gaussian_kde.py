"""Kernel density estimation with a normal kernel."""

import logging

import numpy as np
from sklearn.base import OneToOneFeatureMixin

from skgen._parameters import (
    InvalidParameterError,
    check_choice,
    check_nonnegative,
    invalid_parameter,
)
from skgen._tensors import check_device
from skgen._ties import list_columns
from skgen._validation import column_names
from skgen.base import GenerativeModel, WeightedFitMixin, working_memory
from skgen.kde._blocks import boxes
from skgen.kde._bounds import (
    NEGLIGIBLE,
    check_images,
    checked_bounds,
    fold,
    folded_means,
    image_maps,
    images,
    n_images,
    within_reach,
)
from skgen.kde._device_sum import DeviceSum
from skgen.kde._fourier import REACH
from skgen.kde._kernel import check_bandwidth, fitted_kernel
from skgen.kde._kernel_sum import KernelSum
from skgen.kde._leave_one_out import SHAPES
from skgen.kde._tolerance import NotResolved, ToleratedSum, within_tolerance

_logger = logging.getLogger(__name__)

# What products of matrices may cost an exponent in nats, however large `rtol`.
_PRODUCT_ERROR = 1e-11

_ALGORITHMS = "auto", "exact", "fourier"


class GaussianKDE(OneToOneFeatureMixin, WeightedFitMixin, GenerativeModel):
    r"""Kernel density estimate with a normal kernel.

    The density of a row is the weighted average of normal densities, one centred
    on each training row:

    .. math:: p(x) = \sum_{i=1}^{n} w_i \, \mathcal{N}(x; x_i, H),
              \qquad \sum_i w_i = 1.

    Seen as a latent-variable model, the latent is the training row that `x`
    scatters around. Sums keep a tolerance in the log domain: a log-density stays
    finite and right far in the tail. Read more in the :doc:`/guide/kernel_density`.

    Parameters
    ----------
    bandwidth : float, array-like or str, default="scott"
        The standard deviation of the kernel. A float is in the units of the data
        and the same in every feature, as in
        :class:`sklearn.neighbors.KernelDensity`; an array of shape (n_features,)
        gives one for each feature. A rule, "scott", "silverman", "likelihood" or
        "isj", scales the covariance of the data:
        :math:`H = f^2 S`, with Scott's factor :math:`f = n^{-1/(d+4)}` or
        Silverman's :math:`f = (n (d + 2) / 4)^{-1/(d+4)}`, where :math:`n` is the
        sum of the weights. Without weights it is the kernel of
        :class:`scipy.stats.gaussian_kde`, which counts weighted rows otherwise.
        "likelihood" takes the factor, and with ``covariance_type="auto"`` the shape,
        that give rows the highest density by the kernels on all other rows [4]_. "isj"
        is the improved rule of Sheather and Jones [5]_, for one feature.
    covariance_type : {"auto", "full", "diag", "spherical"}, default="auto"
        What a rule scales: the whole covariance of the data, the variance of each
        feature, or the mean variance in every feature. "auto" is "full", and for
        "likelihood" the most likely of the three. A `bandwidth` of numbers is a shape
        already and leaves this without effect.
    bounds : pair or list of pairs, default=None
        The least and the largest value that each feature can have, None for an end
        without a bound: a pair for all features, or a pair or None for each. Kernels
        are folded back at the bounds [6]_, so that the density integrates to one
        between them and draws stay inside.
    algorithm : {"auto", "exact", "fourier"}, default="auto"
        How kernels are summed: "exact" takes all that matter; "fourier", for one to
        three features, a fast Fourier transform where it keeps `rtol`, and exact sums
        elsewhere, in the tails. "auto" is the cheaper of the two for as many queries
        as training rows. "fourier" needs ``finufft``
        (``pip install "skgen[fourier]"``); without it "auto" is "exact".
    rtol : float, default=1e-6
        The largest error of a log-density in nats, besides rounding: see Notes. 0 is
        exact, and up to three times slower than exact sums with a tolerance.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws of `sample`.
    device : str, default="cpu"
        Where exact sums are computed: "cpu", or "cuda", "cuda:1" and so on by PyTorch;
        "auto" takes a GPU where there is one. On a GPU float32 rows are summed in
        float32 where that keeps `rtol`, which takes 1e-3 or so. A device that is
        missing when rows are scored, or "mps", leaves the work to the CPU.

    Attributes
    ----------
    bandwidth_ : float or ndarray of shape (n_features,)
        The standard deviation of the kernel in the units of the data: a float
        where it is the same in every feature.
    covariance_ : float or ndarray
        The covariance :math:`H` of the kernel: a float, an array of shape
        (n_features,), or, for a rule with ``covariance_type="full"``, of shape
        (n_features, n_features).
    algorithm_ : str
        How kernels are summed, "exact" or "fourier".
    loo_score_ : float or None
        With ``bandwidth="likelihood"`` the mean leave-one-out log-density of the
        training rows in nats, of no more than 4,096 of them; else None.
    X_train_ : ndarray of shape (n_rows, n_features)
        The training rows whose weight is positive.
    weights_ : ndarray of shape (n_rows,)
        Their weights :math:`w_i`, which sum to one.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        The names of the features, where `X` has string names for all.

    See Also
    --------
    EMGaussianMixture : A few wide components in place of one kernel a row.
    sklearn.neighbors.KernelDensity : Other kernels; a bandwidth that ignores the
        scale of the data, and a `score` that is a sum.

    Notes
    -----
    `transform` returns the posterior mean of the latent,
    :math:`E[z | x] = \sum_i p(i | x)\, x_i = x + H \nabla \log p(x)`: one step of
    mean shift [3]_. `inverse_transform` returns its argument; with `bounds`, the mean
    of the folded kernel on it.

    An error of a log-density is at most `rtol` and 8 units of rounding,
    :math:`|\Delta \log p(x)| \le \mathtt{rtol} + 8 \epsilon m`, at every `x`, where
    `m` is the largest of 1, :math:`|\log p(x)|` and its two parts, the logarithms of
    the sum and of its normaliser. The Fourier transform [7]_ is that of a grid with
    three steps to a bandwidth, around all rows but a few far out, and is chosen where
    the grid fits scikit-learn's `working_memory` and costs less than exact sums. Its
    error is a share of the largest sum there can be; where a sum is too small for that,
    exact sums serve. The answer for a row does not depend on the rows beside it. With
    a full covariance, the error is that of whitened rows.

    With `bounds`, a row outside has a log-density of minus infinity, and a row inside
    is scored at every reflection of it that kernels reach: twice the cost for a feature
    with one bound, and more for two bounds and wide kernels. A bound that is farther
    than 39 bandwidths from all rows is none. Rules choose the bandwidth as without
    bounds.

    A constant feature, or one that others determine, has no covariance for a rule
    to scale. Across such a direction the kernel has the shared floor, 1e-6 of the
    variance of a feature (for a constant feature, of the largest variance), and a
    :class:`~sklearn.exceptions.DataDimensionalityWarning` says so. A rule needs two
    rows, and weights that sum to more than one; such directions do not count in
    its :math:`d`.

    "likelihood" leaves a row's copies out with it, or ever narrower kernels on them
    would win; a warning says where there are many. On held-out rows it is about as good
    as a grid search over factors and shapes, and is found in one fit.

    References
    ----------
    .. [1] Scott, D. W. (1992). Multivariate Density Estimation. Wiley.
    .. [2] Silverman, B. W. (1986). Density Estimation for Statistics and Data
       Analysis. Chapman and Hall.
    .. [3] Fukunaga, K. and Hostetler, L. (1975). The estimation of the gradient of
       a density function. IEEE Transactions on Information Theory 21, 32-40.

    .. [4] Duin, R. P. W. (1976). On the choice of smoothing parameters for Parzen
       estimators of probability density functions. IEEE Transactions on Computers
       25, 1175-1179.
    .. [5] Botev, Z. I., Grotowski, J. F. and Kroese, D. P. (2010). Kernel density
       estimation via diffusion. Annals of Statistics 38, 2916-2957.
    .. [6] Schuster, E. F. (1985). Incorporating support constraints into nonparametric
       estimators of densities. Communications in Statistics 14, 1123-1136.
    .. [7] Barnett, A. H., Magland, J. and af Klinteberg, L. (2019). A parallel
       nonuniform fast Fourier transform library based on an "exponential of
       semicircle" kernel. SIAM Journal on Scientific Computing 41, C479-C504.

    Examples
    --------
    >>> from skgen import GaussianKDE
    >>> kde = GaussianKDE(bandwidth=1.0).fit([[-1.0], [0.0], [1.0]])
    >>> kde.score_samples([[0.0], [3.0]]).round(4)
    array([-1.2232, -3.9364])
    >>> kde.sample(2, random_state=0).shape
    (2, 1)
    """

    def __init__(
        self,
        bandwidth="scott",
        *,
        covariance_type="auto",
        bounds=None,
        algorithm="auto",
        rtol=1e-6,
        random_state=None,
        device="cpu",
    ):
        self.bandwidth = bandwidth
        self.covariance_type = covariance_type
        self.bounds = bounds
        self.algorithm = algorithm
        self.rtol = rtol
        self.random_state = random_state
        self.device = device

    def _check_parameters(self):
        check_choice(self, "covariance_type", ("auto", *SHAPES))
        check_choice(self, "algorithm", _ALGORITHMS)
        check_nonnegative(self, "rtol")
        if self.device != "cpu":  # PyTorch is not loaded for nothing
            check_device(self)
        check_bandwidth(self)

    def _fit(self, X, sample_weight, rng, task):
        self._check_inside(X)
        self._kernel = fitted_kernel(self, X, sample_weight, self._fit_dtype)
        self.bandwidth_ = self._kernel.bandwidth
        self.covariance_ = self._kernel.covariance
        self.loo_score_ = self._kernel.loo_score
        if self._bounds is not None:
            reached = within_reach(X, *self._bounds, self._deviations)
            correlated = np.ndim(self.covariance_) == 2
            self._images = image_maps(*reached, self._deviations, correlated)
            check_images(self, self._images)
            scaled = self._kernel.coordinates(X) / self._scale
            self._box = boxes(scaled, [0])
        self.X_train_ = X.astype(self._fit_dtype)
        self.weights_ = sample_weight / sample_weight.sum()
        self._sum = self._sum_of_kernels(X, sample_weight)
        exact = not isinstance(self._sum, ToleratedSum)
        self.algorithm_ = "exact" if exact else "fourier"

    def _sum_of_kernels(self, X, sample_weight):
        """Return what sums kernels on the rows: by `algorithm`, within `rtol`."""
        log_weights = _log_shares(sample_weight)
        error = min(_PRODUCT_ERROR, self.rtol / 8)
        points = self._kernel.coordinates(X)
        if self._kernel.by_rule:
            exact = KernelSum(points, log_weights, error=error)
        else:
            exact = KernelSum(self.X_train_, log_weights, self._scale, error=error)
        if self.device != "cpu":
            exact = DeviceSum(exact, self.device, self.rtol / 8)
        if self.algorithm == "exact":
            return exact
        forced = self.algorithm == "fourier"
        try:
            return within_tolerance(
                *(exact, points, self.weights_, self._scale),
                rtol=self.rtol,
                memory=working_memory(),
                forced=forced,
                # Images of rows between bounds lie outside.
                margin=1.0 if self._bounds is None else REACH,
            )
        except NotResolved as reason:
            if forced:
                rule = f"'auto' or 'exact' here: the transform {reason}"
                raise invalid_parameter(self, "algorithm", rule, "fourier") from None
            _logger.info("GaussianKDE would be faster: the transform %s", reason)
            return exact

    def _check_inside(self, X):
        """Keep the bounds; raise for rows of a fit outside of them."""
        self._bounds = checked_bounds(self, X.shape[1])
        if self._bounds is None:
            return
        outside = np.flatnonzero(((self._bounds[0] > X) | (self._bounds[1] < X)).any(0))
        if outside.size:
            names = list_columns(outside, column_names(self))
            raise InvalidParameterError(
                f"The 'X' argument of {type(self).__name__} must lie within the "
                f"bounds. Got values outside in the columns {names} instead."
            )

    @property
    def _scale(self):
        """Return the standard deviation of the kernel in its coordinates, (d,)."""
        by_rule = self._kernel.by_rule
        return np.ones(self.n_features_in_) if by_rule else self._kernel.whitening.scale

    @property
    def _deviations(self):
        """Return the standard deviation of the kernel in each feature, (d,)."""
        return np.broadcast_to(self.bandwidth_, self.n_features_in_)

    def _log_density(self, X):
        if self._bounds is None:
            log_sum, _ = self._kernel_sum(X)
        else:
            log_sum = np.full(X.shape[0], -np.inf)
            lower, upper = self._bounds
            inside = ((lower <= X) & (upper >= X)).all(axis=1)
            log_sum[inside], _ = self._folded_sum(X[inside])
        return log_sum + self._kernel.log_normaliser

    def _posterior_mean(self, X):
        if self._bounds is None:
            _, mean = self._kernel_sum(X, with_mean=True)
        else:
            _, mean = self._folded_sum(np.clip(X, *self._bounds), with_mean=True)
        return self._kernel.from_coordinates(mean)

    def _folded_sum(self, X, with_mean=False):
        """Sum over the images of rows within the bounds; return the mean of all."""
        total = np.full(X.shape[0], -np.inf)
        mean = np.zeros(X.shape) if with_mean else None
        share = np.log(n_images(self._images))
        for image in images(X, self._images):
            # What the images before sum to says how much of this one matters.
            floor = total - share
            near = np.flatnonzero(self._most(image) > floor - NEGLIGIBLE)
            log_sum, of_image = self._kernel_sum(image[near], with_mean, floor[near])
            total[near] = np.logaddexp(total[near], log_sum)
            if with_mean:
                weight = np.exp(log_sum - total[near])[:, None]
                mean[near] += weight * (of_image - mean[near])
        return total, mean

    def _most(self, X):
        """Return the logarithm of the most that kernels can sum to at rows, (n,)."""
        rows = self._kernel.coordinates(X) / self._scale
        return -0.5 * self._box.squared_distances_of_rows(rows)[:, 0]

    def _kernel_sum(self, X, with_mean=False, floor=None):
        return self._sum(
            self._kernel.coordinates(X),
            with_mean=with_mean,
            floor=floor,
            memory=working_memory(),
        )

    def _conditional_mean(self, Z):
        if self._bounds is None:
            return Z.copy()
        return folded_means(Z, self._images, *self._bounds, self._deviations)

    def _draw(self, n_samples, rng):
        rows = rng.choice(self.weights_.size, size=n_samples, p=self.weights_)
        noise = rng.standard_normal((n_samples, self.n_features_in_))
        points = self.X_train_[rows].astype(np.float64, copy=False)
        whitening = self._kernel.whitening
        drawn = whitening.unwhiten(whitening.whiten(points) + noise)
        return drawn if self._bounds is None else fold(drawn, *self._bounds)

    @property
    def _n_fit_tasks(self):
        return 0

    @property
    def _n_latent(self):
        return self.n_features_in_

    @property
    def _bytes_per_row(self):
        return 8 * 6 * self.n_features_in_


def _log_shares(sample_weight):
    """Return the logarithms of the weights over their sum, without underflow."""
    shares = sample_weight / sample_weight.sum()
    small = shares < np.finfo(np.float64).tiny
    answer = np.log(np.where(small, 1.0, shares))
    answer[small] = np.log(sample_weight[small]) - np.log(sample_weight.sum())
    return answer
