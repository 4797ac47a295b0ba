r"""Changes of variables: log-determinants, ranges and inverses of transformers.

For an invertible map :math:`y = T(x)` with the Jacobian :math:`J_T`,

.. math:: \log p_x(x) = \log p_y(T(x)) + \log |\det J_T(x)|.

Each formula is a function of the fitted transformer `step`, the rows `X` of shape
(n, d) and the transformed rows `Y` of shape (n, k).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from skgen._checks import InvalidParameterError, wrong_argument
from skgen._columns import ROUNDING_STEPS, label_of
from skgen._typing import ArrayLike
from skgen._warnings import warn_user
from skgen._whitening import DEGENERATE_VARIANCE


@dataclass(frozen=True)
class Change:
    """The change of variables of a class of transformers."""

    # (step, X, Y) -> (n,): log |det J| plus the log-density of the noise of X given Y.
    log_det: Callable | None
    # None or, for increasing functions of single features, (step, X, Y) -> (n, d): the
    # logarithms of their slopes, whose sum is `log_det`.
    log_slopes: Callable | None = None
    # None or, if X is a constant plus Y @ W plus noise, step -> W (k, d).
    linear: Callable | None = None
    # step -> None or the smallest and the largest value of each column of Y, (k,) each.
    bounds: Callable = lambda step: None
    # (step, X) -> Y for arrays, without scikit-learn's checks; None calls `transform`.
    forward: Callable | None = None
    # (step, Y) -> X.
    invert: Callable = lambda step, Y: step.inverse_transform(Y)
    # None or (step, n, rng) -> (n, d): samples of the noise of X given Y.
    noise: Callable | None = None
    # (step, X, errors): correct the attributes of a step that was fitted to rows X, of
    # which the columns have rounding errors.
    settle: Callable = lambda step, X, errors: None
    # Whether `invert` returns the training rows. Transformers of users may clip them.
    is_invertible: bool = True


def featurewise(log_slopes, *arguments, **options):
    """Return the change of variables of increasing functions of single features."""

    def log_det(step, X, Y):
        return log_slopes(step, X, Y).sum(axis=1)

    return Change(log_det, log_slopes, *arguments, **options)


# -- scalers -----------------------------------------------------------------------


def scaled(step, X):
    """Return rows (n, d) as a scaler transforms them, without its clipping."""
    if isinstance(step, MinMaxScaler):
        return X * step.scale_ + step.min_
    if isinstance(step, StandardScaler):
        centre = step.mean_ if step.with_mean else None
    else:
        centre = getattr(step, "center_", None)
    X = X if centre is None else X - centre
    return X if step.scale_ is None else X / step.scale_


def divided(step, X, Y):
    """Return the log-slopes of a scaler (n, d); -inf for clipped values."""
    log_slopes = np.zeros(X.shape)
    if step.scale_ is not None:  # not centring only
        sign = 1 if isinstance(step, MinMaxScaler) else -1
        log_slopes += sign * np.log(np.abs(step.scale_))
    if (limits := clipped_limits(step)) is not None:
        lower, upper = limits
        log_slopes[(lower > X) | (upper < X)] = -math.inf
    return log_slopes


def rescaling(step):
    """Return the matrix W (d, d) of a scaler."""
    if step.scale_ is None:
        return np.eye(step.n_features_in_)
    return np.diag(1 / step.scale_ if isinstance(step, MinMaxScaler) else step.scale_)


def clipped_limits(step):
    """Return the limits (d,) of the rows that a scaler does not clip; or None."""
    if not getattr(step, "clip", False):
        return None
    if isinstance(step, MinMaxScaler):
        lower, upper = step.data_min_, step.data_max_
        constant = lower == upper
    else:
        lower, upper = -step.max_abs_, step.max_abs_
        constant = step.scale_ != step.max_abs_
    # The density of a constant feature is wider than its range.
    return np.where(constant, -math.inf, lower), np.where(constant, math.inf, upper)


def clipped_range(step):
    """Return the bounds of a scaler, (d,) each; None unless it clips."""
    limits = clipped_limits(step)
    return None if limits is None else tuple(scaled(step, limit) for limit in limits)


def _same_bounds(step, lower, upper):
    """Return the same bounds for each feature, (d,) each."""
    d = step.n_features_in_
    return np.full(d, float(lower)), np.full(d, float(upper))


# -- power transforms ----------------------------------------------------------------


def power(step, X, Y):
    r"""Return the log-slopes of a PowerTransformer: (n, d).

    They are :math:`(\lambda_j - 1) \operatorname{sign}(x_j) \log(1 + |x_j|)` (Yeo and
    Johnson, 2000) or :math:`(\lambda_j - 1) \log x_j` (Box and Cox, 1964), minus the
    logarithms of the scales of a standardisation.
    """
    if step.method == "box-cox":
        logs = np.log(X)  # (n, d)
    else:
        logs = np.sign(X) * np.log1p(np.abs(X))
    slopes = logs * (step.lambdas_ - 1)
    return slopes + divided(step._scaler, X, Y) if step.standardize else slopes


def power_range(step):
    """Return the bounds of a PowerTransformer, (d,) each; some powers are bounded."""
    powers = step.lambdas_  # (d,)
    with np.errstate(divide="ignore"):
        upper = np.where(powers < 0, -1 / powers, math.inf)
        if step.method == "box-cox":
            lower = np.where(powers > 0, -1 / powers, -math.inf)
        else:
            lower = np.where(powers > 2, 1 / (2 - powers), -math.inf)
    if step.standardize:
        scaler = step._scaler
        lower, upper = ((b - scaler.mean_) / scaler.scale_ for b in (lower, upper))
    return lower, upper


# -- quantiles -----------------------------------------------------------------------

# Distance from 0 and 1 at which scikit-learn clips quantiles of a normal output.
_EDGE = 1e-7


class TiedQuantilesError(ValueError):
    """Quantiles coincide in `columns`: the map jumps there and has no slope."""

    def __init__(self, columns):
        super().__init__(columns)
        self.columns = columns

    def message(self, names=None):
        """Return the message for the user, with the names of columns if known."""
        n_tied = self.columns.size
        more = f" ({n_tied} columns have ties)" if n_tied > 1 else ""
        return (
            "The quantiles of QuantileTransformer must differ to have a density. "
            f"Column {label_of(self.columns[0], names)} has ties{more}: add noise of "
            "one grid step with skgen.dequantize first."
        )


def log_slopes(step, X, Y):
    """Return the log-slopes of a QuantileTransformer (n, d); -inf outside quantiles."""
    # Between the quantiles q_i and q_{i+1} the slope is (r_{i+1} - r_i) over
    # (q_{i+1} - q_i), divided by the normal density at Y for a normal output.
    steps = np.diff(step.quantiles_, axis=0)  # (q - 1, d)
    tied = np.flatnonzero((steps <= 0).any(axis=0))
    if tied.size:
        raise TiedQuantilesError(tied)
    log_slope = np.log(np.diff(step.references_)[:, None] / steps)
    answer = np.zeros(X.shape)
    for j, quantiles in enumerate(step.quantiles_.T):
        x = X[:, j]
        i = np.searchsorted(quantiles, x, side="right") - 1
        answer[:, j] = log_slope[i.clip(0, quantiles.size - 2), j]
        if step.output_distribution == "normal":
            answer[:, j] += (Y[:, j] ** 2 + math.log(2 * math.pi)) / 2
        answer[(x < quantiles[0]) | (x > quantiles[-1]), j] = -math.inf
    return answer


def quantile_ranks(step, X):
    """Return the output (n, d) of a QuantileTransformer."""
    # scikit-learn takes values within 1e-7 of the extremes for the extremes, whatever
    # the scale of the data.
    r = step.references_  # (q,)
    Y = np.empty(X.shape)
    for j, (x, q) in enumerate(zip(X.T, step.quantiles_.T, strict=True)):
        # Tied quantiles have the mean of their ranks.
        Y[:, j] = (np.interp(x, q, r) - np.interp(-x, -q[::-1], -r[::-1])) / 2
    return Y if step.output_distribution == "uniform" else _normal_quantiles(Y)


def _normal_quantiles(u):
    """Return the quantiles of the normal distribution, clipped as by scikit-learn."""
    edge = _EDGE - np.spacing(1)
    return special.ndtri(u.clip(edge, 1 - edge))


def values_at_ranks(step, Y):
    """Return the rows (n, d) of which a QuantileTransformer returns `Y`."""
    u = Y
    if step.output_distribution == "normal":
        u = special.ndtr(Y)
        u = np.where(u <= _EDGE, 0, np.where(u >= 1 - _EDGE, 1, u))
    columns = zip(u.T, step.quantiles_.T, strict=True)
    return np.column_stack([np.interp(x, step.references_, q) for x, q in columns])


def include_extremes(step, X, errors):
    """Widen the range of quantiles, which are of a sample, to all rows (n, d)."""
    step.quantiles_[0] = np.minimum(step.quantiles_[0], np.nanmin(X, axis=0))
    step.quantiles_[-1] = np.maximum(step.quantiles_[-1], np.nanmax(X, axis=0))


def quantile_range(step):
    """Return the bounds of the output of a QuantileTransformer, (d,) each."""
    if step.output_distribution == "uniform":
        return _same_bounds(step, 0, 1)
    return _same_bounds(step, *_normal_quantiles(np.array([0.0, 1.0])))


# -- principal components --------------------------------------------------------------

# With fewer components than features, rows are x = mean + V' y + noise. The noise is
# normal with the variance `noise_variance_` in the orthogonal complement of the rows of
# V (probabilistic PCA; Tipping and Bishop, 1999). scikit-learn's value has other
# meanings: for IncrementalPCA it is from the last batch, and with fewer rows than
# features the variance that is left is divided by a number of rows.

PRINCIPAL = PCA, IncrementalPCA


def principal_log_det(step, X, Y):
    r"""Return log |det J| plus the log-density of the noise: (n,).

    .. math:: -\sum_i \log s_i - \tfrac{d - k}{2} \log(2 \pi \sigma^2)
              - \frac{|r|^2}{2 \sigma^2}, \qquad r = x - \mu - V^\top (s y)
    """
    k, d = step.components_.shape
    answer = np.full(X.shape[0], -np.log(whitening_scales(step)).sum())
    if k < d:
        residual = X - step.mean_ - (Y * whitening_scales(step)) @ step.components_
        variance = _noise_variance(step)
        answer -= 0.5 * (d - k) * math.log(2 * math.pi * variance)
        answer -= 0.5 * np.einsum("ij,ij->i", residual, residual) / variance
    return answer


def principal_codes(step, X):
    """Return the components (n, k) of (n, d) rows."""
    # scikit-learn projects before it centres, which loses digits far from the origin,
    # and divides components of rounding errors by their size.
    return (X - step.mean_) @ step.components_.T / whitening_scales(step)


def set_noise_variance(step, X, errors):
    """Set the variance of the noise to what the components leave of (n, d) rows.

    `errors` (d,) are the rounding errors of the columns, which count as 0.
    """
    (n, _), (k, d) = X.shape, step.components_.shape
    if k == d:
        return
    V, rest = step.components_, X - step.mean_
    codes = rest @ V.T
    rest -= codes @ V
    squares = np.einsum("ij,ij->", rest, rest)
    step.noise_variance_ = squares / (max(n - 1, 1) * (d - k))
    if step.noise_variance_ <= DEGENERATE_VARIANCE * largest_variance(step):
        # Far from the origin, errors of the components mix the codes into the rest.
        rest -= codes @ np.linalg.lstsq(codes, rest)[0]
        if (np.einsum("ij,ij->j", rest, rest) <= n * errors.max() ** 2).all():
            step.noise_variance_ = 0.0


def principal_mean(step, Y):
    """Return the mean rows (n, d) of components (n, k)."""
    return step.mean_ + (Y * whitening_scales(step)) @ step.components_


def principal_slopes(step):
    """Return the matrix W (k, d) of principal components."""
    return whitening_scales(step)[:, None] * step.components_


def noise_covariance(step):
    """Return the covariance (d, d) of the noise of X given Y of a linear step."""
    if not isinstance(step, PRINCIPAL):
        return 0.0
    V = step.components_  # (k, d)
    return _noise_variance(step) * (np.eye(V.shape[1]) - V.T @ V)


def principal_noise(step, n, rng):
    """Return (n, d) samples of the noise in the complement of the components."""
    V = step.components_  # (k, d)
    draws = rng.standard_normal((n, V.shape[1]))
    draws -= (draws @ V.T) @ V
    return math.sqrt(_noise_variance(step)) * draws


def _unresolved(step):
    """Return which variances are rounding errors of the largest variance: (k,)."""
    variances = step.explained_variance_  # (k,)
    eps = np.finfo(variances.dtype).eps
    return variances <= ROUNDING_STEPS * eps * variances.max()


def whitening_scales(step):
    """Return the scales by which components are divided: (k,)."""
    # Components without variance are divided by the largest scale. The density of a
    # constant column is then as wide as the shared floor.
    if not step.whiten:
        return np.ones(step.components_.shape[0])
    scales = np.sqrt(step.explained_variance_)
    return np.where(_unresolved(step), scales.max() or 1.0, scales)


def _noise_variance(step):
    """Return the variance of the noise, or the shared floor if it is 0."""
    return float(step.noise_variance_ or DEGENERATE_VARIANCE * largest_variance(step))


def largest_variance(step):
    """Return the largest variance of a feature, estimated from the components."""
    V, explained = step.components_, step.explained_variance_
    left = 1 - np.einsum("ij,ij->j", V, V)  # fraction in the complement, (d,)
    variances = explained @ V**2 + step.noise_variance_ * left.clip(min=0)
    return float(variances.max()) or 1.0


def warn_without_noise(step):
    """Warn if the floor replaces the variance of the noise of principal components."""
    if not isinstance(step, PRINCIPAL):
        return
    k, d = step.components_.shape
    if k < d and _noise_variance(step) != step.noise_variance_:
        warn_user(
            f"The components of {type(step).__name__} leave no variance to the other "
            "dimensions, because there are too few rows or features are collinear. "
            "Across each of these dimensions the model is a normal density with "
            f"{DEGENERATE_VARIANCE:g} of the largest variance of a feature.",
            DataDimensionalityWarning,
        )


# -- functions -----------------------------------------------------------------------


def function_inverse(step, Y):
    """Return the rows whose transform is `Y`; raise without an inverse function."""
    if step.func is not None and step.inverse_func is None:
        raise InvalidParameterError(
            "The 'inverse_func' parameter of FunctionTransformer must be the inverse "
            f"function of {step.func!r} for samples and inverse transforms. Got None "
            "instead."
        )
    return step.inverse_transform(Y)


def _of_rows(function):
    """Return a function of (step, X, Y) from a function of rows (n, d)."""

    def of_rows(step, X, Y):
        with np.errstate(divide="ignore"):
            return np.asarray(function(X), dtype=np.float64)

    return of_rows


def _ends(lower=-math.inf, upper=math.inf):
    """Return the arguments of the `Change` of a function with this range."""

    def bounds(step):
        if (lower, upper) == (-math.inf, math.inf):
            return None
        return _same_bounds(step, lower, upper)

    return {"bounds": bounds, "invert": function_inverse}


def _function(log_det, *bounds):
    """Return the change of variables of a function, with log_det(X) of shape (n,)."""
    return Change(_of_rows(log_det), **_ends(*bounds))


def _elementwise(log_slope, *bounds, **options):
    """Return the change of variables of an increasing function of single values."""
    return featurewise(_of_rows(log_slope), **_ends(*bounds), **options)


# Functions for a FunctionTransformer: common ones, and those that users register.
_FUNCTIONS = {
    None: _elementwise(np.zeros_like, linear=lambda step: np.eye(step.n_features_in_)),
    np.log: _elementwise(lambda X: -np.log(X)),
    np.log2: _elementwise(lambda X: -np.log(X * math.log(2))),
    np.log10: _elementwise(lambda X: -np.log(X * math.log(10))),
    np.log1p: _elementwise(lambda X: -np.log1p(X)),
    np.exp: _elementwise(lambda X: X, 0.0),
    np.expm1: _elementwise(lambda X: X, -1.0),
    np.sqrt: _elementwise(lambda X: -np.log(4 * X) / 2, 0.0),
    np.arcsinh: _elementwise(lambda X: -np.log1p(X**2) / 2),
    np.sinh: _elementwise(lambda X: np.logaddexp(X, -X) - math.log(2)),
    special.logit: _elementwise(lambda X: -np.log(X) - np.log1p(-X)),
    special.expit: _elementwise(
        lambda X: special.log_expit(X) + special.log_expit(-X), 0.0, 1.0
    ),
}


# -- the table -----------------------------------------------------------------------

_CHANGES = {
    **dict.fromkeys(
        (StandardScaler, RobustScaler, MaxAbsScaler, MinMaxScaler),
        featurewise(divided, rescaling, bounds=clipped_range, forward=scaled),
    ),
    PowerTransformer: featurewise(power, bounds=power_range),
    QuantileTransformer: featurewise(
        log_slopes,
        bounds=quantile_range,
        forward=quantile_ranks,
        invert=values_at_ranks,
        settle=include_extremes,
    ),
    **dict.fromkeys(
        PRINCIPAL,
        Change(
            principal_log_det,
            linear=principal_slopes,
            forward=principal_codes,
            invert=principal_mean,
            noise=principal_noise,
            settle=set_noise_variance,
            is_invertible=False,
        ),
    ),
}

# Transformers to discrete values.
_DISCRETE = Binarizer, KBinsDiscretizer, OneHotEncoder, OrdinalEncoder


def change_of(step):
    """Return the `Change` of a fitted transformer, which may have no `log_det`."""
    for cls in type(step).__mro__:
        if cls is FunctionTransformer:
            # Its arguments can change the function.
            known = step.func is None or not step.kw_args
            unknown = Change(None, invert=function_inverse, is_invertible=False)
            return _FUNCTIONS.get(step.func, unknown) if known else unknown
        if cls in _CHANGES:
            return _CHANGES[cls]
    return Change(None, is_invertible=False)


def unknown_log_det(step, pipeline, d, k):
    """Return the error for scoring through a transformer without a log-determinant.

    The transformer maps `d` columns to `k`.
    """
    if isinstance(step, _DISCRETE):
        problem = (
            f"{step!r} returns discrete values, which have no density, so {pipeline} "
            "cannot score rows. Leave categorical features out, or fit a density to "
            "the rows of each category, for example with skgen.GenerativeClassifier."
        )
    elif d != k or isinstance(step, Normalizer):
        change = "loses a dimension" if d == k else f"returns {k} columns for {d}"
        problem = (
            f"{step!r} {change}, so its Jacobian has no determinant and {pipeline} "
            "cannot score in the units of its input. Transform columns one to one, or "
            "reduce them with PCA, whose other directions have a density of noise."
        )
    else:
        problem = (
            f"The log-determinant of the Jacobian of {step!r} is not known, so "
            f"{pipeline} cannot score in the units of its input. Register it with "
            "skgen.register_log_det."
        )
    return InvalidParameterError(problem)


def register_log_det(
    transformer: type | Callable[..., Any],
    log_det: Callable[..., ArrayLike],
    *,
    bounds: Callable[[Any], Any] | tuple[float, float] | None = None,
) -> None:
    r"""Register the log-determinant of a transformer for generative pipelines.

    A `GenerativePipeline` scores rows in the units of its input by the change of
    variables

    .. math:: \log p_x(x) = \log p_y(T(x)) + \log |\det J_T(x)|,

    which needs the logarithm of the Jacobian determinant of each transformer. It is
    built in for scikit-learn's scalers, `PowerTransformer`, `QuantileTransformer`,
    `PCA`, and common NumPy functions in a `FunctionTransformer`. This function adds
    another transformer.

    Parameters
    ----------
    transformer : type or callable
        Class of the transformer, which includes its subclasses, or the function that
        a `FunctionTransformer` applies (its `func`).
    log_det : callable
        For a class, a function of the fitted transformer and of rows of shape
        (n_samples, n_features). It returns :math:`\log |\det J_T|` at each row, an
        array of shape (n_samples,). For a function, it takes the rows only.
    bounds : callable or tuple of two floats, default=None
        Smallest and largest possible value of the transformed data. For a class, it can
        be a function of the fitted transformer that returns two arrays of shape
        (n_features,). The density of the next step is truncated to this range and
        renormalised. None means an unbounded range.

    Returns
    -------
    None
        The transformer is registered in the current process. Worker processes register
        it if they import the module that calls this function.

    Raises
    ------
    ValueError
        If `transformer` is neither a class nor callable, `log_det` is not callable, or
        `bounds` are not two numbers in increasing order.

    Notes
    -----
    The map has to be invertible. Samples need an ``inverse_transform``.

    References
    ----------
    .. [1] Papamakarios, G., Nalisnick, E., Rezende, D. J., Mohamed, S. and
       Lakshminarayanan, B. (2021). Normalizing flows for probabilistic modeling and
       inference. JMLR 22.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> from skgen import GaussianKDE, make_generative_pipeline, register_log_det
    >>> def cube_root(X):
    ...     return np.cbrt(X)
    >>> def cube(X):
    ...     return X**3
    >>> register_log_det(cube_root, lambda X: -np.log(3 * np.cbrt(X) ** 2).sum(axis=1))
    >>> model = make_generative_pipeline(
    ...     FunctionTransformer(cube_root, cube), GaussianKDE(1.0)
    ... )
    >>> X = np.array([[1.0], [8.0], [27.0]])
    >>> in_data_space = model.fit(X).score_samples(X)
    >>> in_code_space = GaussianKDE(1.0).fit(np.cbrt(X)).score_samples(np.cbrt(X))
    >>> bool(np.allclose(in_data_space - in_code_space, -np.log([3, 12, 27])))
    True
    """
    if not callable(transformer):
        rule = "a class of transformers or a function"
        raise wrong_argument("register_log_det", "transformer", rule, transformer)
    if not callable(log_det):
        raise wrong_argument("register_log_det", "log_det", "callable", log_det)
    if inspect.isclass(transformer):
        pair = bounds if bounds is None or callable(bounds) else _pair(bounds)
        _CHANGES[transformer] = Change(
            lambda step, X, Y: np.asarray(log_det(step, X), dtype=np.float64),
            bounds=bounds if callable(bounds) else lambda step: pair,
            is_invertible=False,
        )
    else:
        pair = () if bounds is None else _pair(bounds)
        _FUNCTIONS[transformer] = _function(log_det, *pair)


def _pair(bounds):
    """Return bounds as two floats in order."""
    try:
        lower, upper = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        lower, upper = math.nan, math.nan
    if not lower < upper:
        rule = "two numbers in increasing order, or, for a class, a function"
        raise wrong_argument("register_log_det", "bounds", rule, bounds)
    return lower, upper
