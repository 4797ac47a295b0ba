"""Kernel density estimation with a normal kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from sklearn.base import OneToOneFeatureMixin

from skgen._checks import (
    InvalidParameterError,
    check_choice,
    check_nonnegative,
    column_names,
    invalid_argument,
    invalid_parameter,
)
from skgen._docs import documented
from skgen._lazy import cached_property
from skgen._parts import (
    PartialRows,
    incomplete_rows,
    inverse_of,
    mixture_cdf,
    new_model,
)
from skgen._torch import check_device
from skgen._typing import ArrayLike, FloatArray, RandomState
from skgen.base import GenerativeModel, WeightedFitMixin
from skgen.kde._bounds import (
    NEGLIGIBLE_IMAGE,
    checked_bounds,
    fold,
    folded_cdf,
    folded_means,
    images,
    images_within_reach,
    n_images,
)
from skgen.kde._fourier import REACH, NotTransformed, ToleratedSum, tolerated_sum
from skgen.kde._incomplete import completed_rows
from skgen.kde._kernel import check_bandwidth, fitted_kernel
from skgen.kde._kernel_sum import DeviceSum, KernelSum, boxes_around
from skgen.kde._leave_one_out import SHAPES
from skgen.kde._parts import KernelPart
from skgen.kde._together import divided

# A pair of a lower and an upper bound.
_Pair: TypeAlias = Sequence[float | None]


@documented()
class GaussianKDE(OneToOneFeatureMixin, PartialRows, WeightedFitMixin, GenerativeModel):
    r"""Kernel density estimation with a normal kernel.

    The density is the weighted mean of normal densities, one centred on each training
    row:

    .. math:: p(x) = \sum_{i=1}^{n} w_i \, \mathcal{N}(x; x_i, H),
              \qquad \sum_i w_i = 1.

    As a latent-variable model, its latent is the training row whose kernel generates
    `x`. Sums are computed in the log domain, so log-densities are accurate and finite
    far in the tails. Read more in the :doc:`/guide/kernel_density`.

    Parameters
    ----------
    bandwidth : float, array-like of shape (n_features,) or str
        Standard deviation of the kernel. A float is in the units of the data and the
        same for every feature, as in :class:`sklearn.neighbors.KernelDensity`. An
        array has a value for each feature. A string selects a rule, which sets the
        covariance of the kernel to :math:`H = f^2 S`. Here :math:`S` is the covariance
        of the data, and the factor :math:`f` follows from the number :math:`n` of rows
        (the effective number with importance weights) and the number :math:`d` of
        features:

        - "scott": :math:`f = n^{-1/(d+4)}` [1]_,
        - "silverman": :math:`f = (n (d + 2) / 4)^{-1/(d+4)}` [2]_,
        - "likelihood": the factor, and with ``covariance_type="auto"`` also the shape
          of the covariance, with the highest leave-one-out likelihood [4]_,
        - "isj": the improved rule of Sheather and Jones [5]_, for one feature.

        "scott" and "silverman" give the kernel of :class:`scipy.stats.gaussian_kde`,
        without weights and with importance weights.
    covariance_type : {"auto", "full", "diag", "spherical"}
        Covariance :math:`S` that a rule multiplies: the covariance matrix of the data
        ("full"), the variance of each feature ("diag"), or the mean of these variances
        for every feature ("spherical"). "auto" is "full"; for
        ``bandwidth="likelihood"`` it is the type with the highest likelihood, without
        "full" if there are fewer than three distinct rows for each dimension that they
        span. Ignored if `bandwidth` is a float or an array.
    bounds : pair or list of pairs
        Smallest and largest possible value of each feature: a pair
        ``(lower, upper)`` for all features, or a list of a pair or None for each
        feature. None in a pair means no bound. Kernels are reflected at the bounds
        [6]_: the density integrates to one between the bounds, and samples lie between
        the bounds.
    algorithm : {"auto", "exact", "fourier"}
        Method of summing kernels. "exact" sums all kernels that are not negligible.
        "fourier" uses a fast Fourier transform where its error is within `rtol`, and
        exact sums elsewhere, in the tails. It takes one to three features and needs
        ``finufft`` (``pip install "scikit-generative[fourier]"``). "auto" chooses the
        faster of the two for data of the size of the training data; without
        ``finufft`` it is "exact".
    rtol : float
        Maximum error of a log-density in nats, in addition to rounding errors: see
        Notes. 0 makes sums exact to rounding and up to three times slower.
    random_state : int, RandomState, Generator or None
        Seed of `sample`.
    device : str
        Device that computes exact sums: "cpu", or with PyTorch "cuda", "cuda:1" and so
        on. "auto" selects a GPU if there is one. On a GPU, float32 data are summed in
        float32 if `rtol` is large enough for its rounding errors, about 1e-3. If the
        device is missing when rows are scored, and for "mps", the CPU computes the
        sums.

    Attributes
    ----------
    bandwidth_ : ndarray of shape (n_features,)
        Standard deviation of the kernel in each feature, in the units of the data.
    covariance_ : ndarray of shape (n_features, n_features)
        Covariance :math:`H` of the kernel. It is diagonal, unless a rule multiplies
        the "full" covariance of the data.
    algorithm_ : str
        Method of summing kernels, "exact" or "fourier".
    loo_score_ : float or None
        Mean leave-one-out log-density of the training rows, in nats, for
        ``bandwidth="likelihood"``, else None. See Notes.
    loo_score_se_ : float or None
        Standard error of `loo_score_` in nats: the standard deviation of the
        leave-one-out log-densities divided by the root of their number.
    X_train_ : ndarray of shape (n_rows, n_features)
        Training rows with a positive weight. A row with missing values is replaced by
        five completed rows: see Notes.
    weights_ : ndarray of shape (n_rows,)
        Weights :math:`w_i` of these rows, which sum to one.

    See Also
    --------
    EMGaussianMixture : A few wide components instead of one kernel for each row.
    sklearn.neighbors.KernelDensity : Other kernels. Its bandwidth ignores the scale of
        the data, and its `score` is a sum.

    Notes
    -----
    `transform` returns the posterior mean of the latent,
    :math:`E[z | x] = \sum_i p(i | x)\, x_i = x + H \nabla \log p(x)`, which is one
    step of mean shift [3]_. `inverse_transform` returns its argument or, with `bounds`,
    the mean of the reflected kernel that is centred on it.

    The error of a log-density is bounded at every `x` by
    :math:`|\Delta \log p(x)| \le \mathtt{rtol} + 8 \epsilon m`. Here :math:`\epsilon`
    is the machine precision, and `m` is the largest of 1, :math:`|\log p(x)|`, and the
    magnitudes of the logarithms of the kernel sum and of its normaliser. With a full
    covariance, the bound holds for whitened rows. The log-density of a row does not
    depend on the other rows of `X`.

    The Fourier transform [7]_ has a grid of three steps per bandwidth around all
    training rows except a few distant ones. "auto" selects it if the grid fits
    scikit-learn's `working_memory` and the transform costs less than exact sums. Its
    error is relative to the largest possible sum. Sums that are too small for this
    error are computed exactly.

    With `bounds`, the log-density of a row outside of the bounds is minus infinity. A
    row inside is scored at each of its reflections within reach of the kernels. This
    doubles the cost for a feature with one bound, and costs more for two bounds and
    wide kernels. Bounds more than 39 bandwidths away from every training row are
    ignored. The bandwidth that a rule chooses does not depend on the bounds.

    NaN means "not observed". The answers to rows with missing values are exact: with
    `o` for the observed features and `m` for the missing ones, the marginal kernel has
    the covariance :math:`H_{oo}`, and given :math:`x_o` the kernel on :math:`x_i` is
    normal with the mean :math:`x_{i,m} + B (x_o - x_{i,o})`,
    :math:`B = H_{mo} H_{oo}^{-1}`, and the covariance :math:`H_{mm} - B H_{om}`.
    `marginal` and `condition` return a `GaussianKDE` with these kernels. `cdf`
    integrates the density of one feature.

    `fit` replaces each row with missing values by five kernels, a fifth of the weight
    each. They keep the observed values, and draw the missing values from the
    conditional density given the other rows, in four rounds. These draws use Scott's
    rule with a full covariance, whatever the `bandwidth`, start with draws from a
    normal density that is fitted by EM, and are the same in every fit. The density is
    right if values are missing at random: whether a value is missing may depend on the
    observed values of its row, but not on the missing value itself [8]_. In formulas
    that count rows, a row counts as the fraction of its values that is observed, on
    average. "likelihood" leaves out one completion of each row, with the noise of a
    kernel. Equal rows are merged, and rows without any value are left out.

    The data have zero variance along a constant feature, and in some direction if
    features are collinear. There, a rule gives the kernel the small variance that all
    models of skgen use: 1e-6 of the variance of a feature, or for a constant feature
    1e-6 of the largest variance. A
    :class:`~sklearn.exceptions.DataDimensionalityWarning` names the features. Such
    directions do not count in the number of dimensions :math:`d`. A rule needs at least
    two rows, and weights that sum to more than one.

    "likelihood" leaves out each row together with its copies. Otherwise the likelihood
    of copied rows would increase without bound as the bandwidth decreases. A warning is
    given if more than 1% of the rows are copies. With transforms, that is for one to
    three features and with ``finufft``, all rows are left out in turn. Without them, it
    is a random sample of up to 134 million pairs of rows, and of at least 2,048 rows.
    The factor is found to a few per cent, which is less than the likelihood's own
    uncertainty: for 1,000 to 300,000 normal rows, the bandwidth is typically within
    20% of the best one. A few rows far from all others determine the bandwidth, so
    "likelihood" is too wide for heavy tails.

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
    .. [8] Titterington, D. M. and Mill, G. M. (1983). Kernel-based density estimates
       from incomplete data. Journal of the Royal Statistical Society B 45, 258-266.

    Examples
    --------
    >>> from skgen import GaussianKDE
    >>> kde = GaussianKDE(bandwidth=1.0).fit([[-1.0], [0.0], [1.0]])
    >>> kde.score_samples([[0.0], [3.0]]).round(4)
    array([-1.2232, -3.9364])
    >>> kde.sample(2, random_state=0).shape
    (2, 1)
    >>> float(kde.cdf([[0.0]])[0])  # the probability of a negative value
    0.5

    Rows may have missing values:

    >>> from numpy import nan
    >>> kde = GaussianKDE().fit([[1.0, 2.0], [3.0, nan], [4.0, 5.1], [6.0, 7.2]])
    >>> kde.impute([[5.0, nan]]).round(1)
    array([[5. , 6.1]])
    """

    algorithm_: str
    loo_score_: float | None
    loo_score_se_: float | None
    X_train_: FloatArray
    weights_: FloatArray

    def __init__(
        self,
        bandwidth: float | str | ArrayLike = "scott",
        *,
        covariance_type: str = "auto",
        bounds: _Pair | Sequence[_Pair | None] | None = None,
        algorithm: str = "auto",
        rtol: float = 1e-6,
        random_state: RandomState = None,
        device: str = "cpu",
    ) -> None:
        self.bandwidth = bandwidth
        self.covariance_type = covariance_type
        self.bounds = bounds
        self.algorithm = algorithm
        self.rtol = rtol
        self.random_state = random_state
        self.device = device

    def _check_parameters(self):
        check_choice(self, "covariance_type", ("auto", *SHAPES))
        check_choice(self, "algorithm", ("auto", "exact", "fourier"))
        check_nonnegative(self, "rtol")
        if self.device != "cpu":  # the check imports torch
            check_device(self)
        check_bandwidth(self)

    _fits_incomplete = True

    def _fit(self, X, sample_weight, rng, task):
        self._bounds, completed = checked_bounds(self, X), None
        if np.isnan(X).any():
            completed = completed_rows(
                *(X, sample_weight, self._bounds),
                *(f"{type(self).__name__}.fit", column_names(self)),
            )
            X, sample_weight, _ = completed.kernels
        self._kernel, choice = fitted_kernel(
            self, X, sample_weight, self._fit_dtype, completed
        )
        self.loo_score_ = choice and choice.score
        self.loo_score_se_ = choice and choice.standard_error
        self.X_train_ = X.astype(self._fit_dtype)
        self.weights_ = sample_weight / sample_weight.sum()
        tiny = self.weights_ < np.finfo(np.float64).tiny
        self._log_weights = None  # the logarithms of `weights_`
        if tiny.any():  # some weights underflow
            self._log_weights = np.log(sample_weight) - np.log(sample_weight.sum())
        self._options = {"rtol": self.rtol, "device": self.device}
        if self._bounds is not None:
            self._images = images_within_reach(self, X, *self._bounds, self._kernel)
        self._prepare_sums(self.algorithm)

    def _prepare_sums(self, algorithm):
        """Choose the method of summing the kernels on `X_train_`."""
        if self._bounds is not None:
            points = self._kernel.coordinates(self.X_train_.astype(np.float64))
            self._box = boxes_around(points / self._kernel.scale, [slice(None)])
        self._sum = self._sum_of_kernels(algorithm, **self._options)
        exact = not isinstance(self._sum, ToleratedSum)
        self.algorithm_ = "exact" if exact else "fourier"

    def _loaded(self):
        super()._loaded()
        if "X_train_" in vars(self) and "_options" not in vars(self):  # format 1 or 2
            self._options = {"rtol": self.rtol, "device": self.device}
            self._log_weights = self.loo_score_se_ = None

    @property
    def bandwidth_(self) -> FloatArray:
        """Standard deviation of the kernel in each feature."""
        return self._kernel.deviations

    @property
    def covariance_(self) -> FloatArray:
        """Covariance of the kernel."""
        return self._kernel.covariance

    @cached_property
    def _sum(self):
        """Return the sum of kernels, which copies and files leave out."""
        try:
            return self._sum_of_kernels(self.algorithm_, **self._options)
        except InvalidParameterError:  # the transform needs what is missing here
            return self._sum_of_kernels("exact", **self._options)

    @property
    def _log_of_weights(self):
        """Return the logarithms of the weights, of which some may underflow: (n,)."""
        return np.log(self.weights_) if self._log_weights is None else self._log_weights

    def _sum_of_kernels(self, algorithm, rtol, device):
        """Return a sum within `rtol` on the training rows.

        It is a `KernelSum`; a `DeviceSum`, which leaves to it what loses digits on the
        device; or a `ToleratedSum`, which leaves to these what the transform loses.
        """
        scale, error = self._kernel.scale, rtol / 8
        log_weights = self._log_of_weights
        points = self.X_train_  # no second copy for a bandwidth of numbers
        if self._kernel.by_rule:
            points = self._kernel.coordinates(points.astype(np.float64, copy=False))
        exact = KernelSum(points, log_weights, scale, error=error)
        if device != "cpu":
            exact = DeviceSum(exact, device, error)
        if algorithm == "exact":
            return exact
        try:
            return tolerated_sum(
                *(exact, points, self.weights_, scale),
                rtol=rtol,
                forced=algorithm == "fourier",
                # Images of rows within the bounds lie outside of the grid of the rows.
                margin=1.0 if self._bounds is None else REACH,
            )
        except NotTransformed as reason:
            if algorithm == "auto":
                return exact
            rule = f"'auto' or 'exact' here: the transform {reason}"
            raise invalid_parameter(self, "algorithm", rule, "fourier") from None

    def _log_density(self, X):
        if self._bounds is None:
            log_sum, _ = self._kernel_sum(X)
        else:
            lower, upper = self._bounds
            inside = ((lower <= X) & (upper >= X)).all(axis=1)
            log_sum = np.full(X.shape[0], -np.inf)
            log_sum[inside], _ = self._folded_sum(X[inside])
        return log_sum + self._kernel.log_normaliser

    def _posterior_mean(self, X):
        if self._bounds is None:
            _, mean = self._kernel_sum(X, with_mean=True)
        else:
            _, mean = self._folded_sum(np.clip(X, *self._bounds), with_mean=True)
        return self._kernel.from_coordinates(mean)

    def _kernel_sum(self, X, with_mean=False, floor=None, values=None):
        """Return log-sums (n,) and means (n, v) or None at (n, d) rows.

        Means are of the training rows, in the coordinates of the kernel, or of the
        `RowValues`.
        """
        points = self._kernel.coordinates(X)
        if values is None:
            return self._sum(points, with_mean=with_mean, floor=floor)
        log_sum, mean = self._sum(
            points, with_mean=with_mean, floor=floor, values=values.centred
        )
        return log_sum, mean if mean is None else values.at(points, mean)

    def _folded_sum(self, X, with_mean=False, values=None):
        """Return log-sums (n,) and means or None over images of (n, d) rows.

        Means (n, v) are as in `_kernel_sum`.
        """
        total = np.full(X.shape[0], -np.inf)
        mean = None
        for near, _, log_sum, of_image in self._near_images(X, with_mean, values):
            total[near] = np.logaddexp(total[near], log_sum)
            if with_mean:
                if mean is None:
                    mean = np.zeros((X.shape[0], of_image.shape[1]))
                weight = np.exp(log_sum - total[near])[:, None]
                mean[near] += weight * (of_image - mean[near])
        return total, mean

    def _near_images(self, X, with_mean=False, values=None):
        """Yield the images of (n, d) rows that matter, first the rows themselves.

        Each is the indices of rows (r,), their image (r, d), and its log-sums (r,) and
        means (r, v) or None, as in `_kernel_sum`.
        """
        if self._bounds is None:
            yield np.arange(len(X)), X, *self._kernel_sum(X, with_mean, None, values)
            return
        total = np.full(X.shape[0], -np.inf)
        for image in images(X, self._images):
            # The sum over the previous images limits what can matter of this one.
            floor = total - np.log(n_images(self._images))
            scaled = self._kernel.coordinates(image) / self._kernel.scale
            most = -0.5 * self._box.squared_distances_of_rows(scaled)[:, 0]
            near = np.flatnonzero(most > floor - NEGLIGIBLE_IMAGE)
            image = image[near]
            sums = self._kernel_sum(image, with_mean, floor[near], values)
            total[near] = np.logaddexp(total[near], sums[0])
            yield near, image, *sums

    def _conditional_mean(self, Z):
        if self._bounds is None:
            return Z.copy()
        return folded_means(Z, self._images, *self._bounds, self._kernel.deviations)

    def _draw(self, n_samples, rng):
        rows = rng.choice(self.weights_.size, size=n_samples, p=self.weights_)
        noise = rng.standard_normal((n_samples, self.n_features_in_))
        drawn = self.X_train_[rows] + self._kernel.whitening.displacements(noise)
        return drawn if self._bounds is None else fold(drawn, *self._bounds)

    def _normal_components(self):
        """Return weights (n,), means (n, d) and the covariance (1, d, d), or None."""
        if self._bounds is not None:
            return None
        return self.weights_, self.X_train_.astype(np.float64), self.covariance_[None]

    # -- parts -------------------------------------------------------------------------

    def _part(self, observed):
        return KernelPart(self, observed)

    def _incomplete(self, X, bytes_per_row):
        part, together, alone = divided(self, X)
        bytes_of_part = bytes_per_row + 64 * self.n_features_in_**2
        for rows, values, missing in incomplete_rows(X, bytes_of_part, together):
            yield rows, part, values, missing
        yield from super()._incomplete(X, bytes_per_row, alone)

    def _marginal(self, features):
        rows = self.X_train_[:, features], self.weights_, self._log_weights
        return self._new_kde(features, self._kernel.restricted(features), rows)

    def _condition(self, row):
        observed = ~np.isnan(row)
        given = row[None, observed]
        if self._bounds is not None:
            lower, upper = (bound[observed] for bound in self._bounds)
            if not ((lower <= given) & (upper >= given)).all():
                rule, got = "values within the bounds", row[observed].tolist()
                raise invalid_argument(self, "condition", "given", rule, got)
        part = self._part(observed)
        return self._new_kde(part.missing, *part.conditioned(given))

    def _new_kde(self, features, kernel, rows):
        """Return a fitted density of some features.

        `rows` are its training rows (n, f), weights (n,), and their logarithms or None.
        """
        given = {}
        if not isinstance(self.bandwidth, str) and np.ndim(self.bandwidth):
            given["bandwidth"] = np.asarray(self.bandwidth)[features]
        bounds = None
        if self._bounds is not None:
            bounds = tuple(bound[features] for bound in self._bounds)
            given["bounds"] = [
                tuple(float(end) if np.isfinite(end) else None for end in pair)
                for pair in zip(*bounds, strict=True)
            ]
        new = new_model(self, features, **given)
        new.X_train_, new.weights_, new._log_weights = rows
        new.loo_score_ = new.loo_score_se_ = None
        new._kernel, new._bounds, new._options = kernel, bounds, self._options
        if bounds is not None:
            new._images = images_within_reach(new, new.X_train_, *bounds, kernel)
        try:
            new._prepare_sums(self.algorithm)
        except InvalidParameterError:  # no transform, although it is asked for
            new._prepare_sums("exact")
        return new

    def _cdf(self, x):
        if self._bounds is None:
            return super()._cdf(x)
        weights, means, deviation = self._kernels_of_one_feature()
        lower, upper = (float(bound[0]) for bound in self._bounds)
        return folded_cdf(
            x,
            lambda t: mixture_cdf(t, weights, means, deviation),
            lambda t: mixture_cdf(-t, weights, -means, deviation),
            *(self._images[0], lower, upper),
        )

    def _quantile(self, q):
        if self._bounds is None:
            return super()._quantile(q)
        _, means, deviation = self._kernels_of_one_feature()
        lower, upper = (float(bound[0]) for bound in self._bounds)
        # Kernels and their reflections are negligible beyond.
        reach = 40 * deviation[0]
        ends = [means.min() - reach, means.max() + reach]
        ends += [2 * end - t for end in (lower, upper) for t in ends]
        finite = np.array(ends)[np.isfinite(ends)]
        low = np.full(q.size, max(lower, finite.min()))
        high = np.full(q.size, min(upper, finite.max()))
        answers = inverse_of(self._cdf, q, low, high)
        return np.where(q == 0, lower, np.where(q == 1, upper, answers))

    def _kernels_of_one_feature(self):
        """Return weights, centres and standard deviations of kernels: (n,) each."""
        means = self.X_train_[:, 0].astype(np.float64)
        return self.weights_, means, np.full(means.size, self.bandwidth_[0])

    @property
    def _n_fit_tasks(self):
        return 0

    @property
    def _n_latent(self):
        return self.n_features_in_

    @property
    def _bytes_per_row(self):
        return 8 * 6 * self.n_features_in_
