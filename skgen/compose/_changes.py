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
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from skgen._checks import InvalidParameterError, wrong_argument
from skgen._typing import ArrayLike
from skgen.compose import _principal
from skgen.compose._quantiles import log_slopes, quantile_range


def _everywhere(step):
    """Return no bounds, for a map that is onto."""


def _forward(step, X):
    """Return the transformed rows."""
    return step.transform(X)


def _inverse(step, Y):
    """Return the rows whose transform is `Y`."""
    return step.inverse_transform(Y)


def _unknown_rounding(step, resolution):
    """Return a rounding error of 0 and False for the mask, for unknown maps."""
    return 0.0, False


@dataclass(frozen=True)
class Change:
    """The change of variables of a class of transformers."""

    # (step, X, Y) -> (n,): log |det J| plus the log-density of the noise of X given Y.
    log_det: Callable | None
    # step -> None or the smallest and the largest value of each column of Y, (k,) each.
    bounds: Callable = _everywhere
    # (step, X) -> Y.
    forward: Callable = _forward
    # (step, Y) -> X.
    invert: Callable = _inverse
    # None or (step, n, rng) -> (n, d): samples of the noise of X given Y.
    noise: Callable | None = None
    # (step, rounding error of X (d,)) -> rounding error of Y, and the mask of columns
    # that hold rounding errors only, (k,) each.
    rounding: Callable = _unknown_rounding


# -- scalers -----------------------------------------------------------------------


def divided(step, X, Y):
    """Return log |det J| of a division by `scale_`: (n,)."""
    if getattr(step, "scale_", None) is None:  # centring only
        return np.zeros(X.shape[0])
    return np.full(X.shape[0], -np.log(np.abs(step.scale_)).sum())


def multiplied(step, X, Y):
    """Return log |det J| of a multiplication by `scale_`: (n,)."""
    return np.full(X.shape[0], np.log(np.abs(step.scale_)).sum())


def rounding_of_divided(step, resolution):
    """Return the rounding error of the quotients (d,), and False for the mask."""
    scale = getattr(step, "scale_", None)
    return resolution / (1.0 if scale is None else np.abs(scale)), False


def rounding_of_multiplied(step, resolution):
    """Return the rounding error of the products (d,), and False for the mask."""
    return resolution * np.abs(step.scale_), False


def clipped_range(step):
    """Return the bounds of a MinMaxScaler, (d,) each; None unless it clips."""
    if not step.clip:
        return None
    low, high = np.asarray(step.feature_range, dtype=float)
    d = step.n_features_in_
    return np.full(d, low), np.full(d, high)


def within_range(step, X, Y):
    """Return log |det J| of a MinMaxScaler (n,); -inf for clipped rows."""
    log_det = multiplied(step, X, Y)
    if step.clip:
        outside = (step.data_min_ > X) | (step.data_max_ < X)
        log_det[outside.any(axis=1)] = -math.inf
    return log_det


# -- power transforms ----------------------------------------------------------------


def power(step, X, Y):
    r"""Return log |det J| of a PowerTransformer: (n,).

    It is :math:`\sum_j (\lambda_j - 1) \operatorname{sign}(x_j) \log(1 + |x_j|)`
    (Yeo and Johnson, 2000) or :math:`\sum_j (\lambda_j - 1) \log x_j` (Box and Cox,
    1964), minus the logarithms of the scales of a standardisation.
    """
    if step.method == "box-cox":
        logs = np.log(X)  # (n, d)
    else:
        logs = np.sign(X) * np.log1p(np.abs(X))
    return logs @ (step.lambdas_ - 1) + _standardised(step, X, Y)


def _standardised(step, X, Y):
    return divided(step._scaler, X, Y) if step.standardize else 0.0


def power_range(step):
    """Return the bounds of a PowerTransformer, (d,) each; some powers are bounded."""
    powers = step.lambdas_  # (d,)
    lower, upper = np.full(powers.size, -math.inf), np.full(powers.size, math.inf)
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


# -- functions -----------------------------------------------------------------------


@dataclass(frozen=True)
class FunctionChange:
    """The change of variables of a function of rows."""

    # X -> (n,)
    log_det: Callable
    lower: float = -math.inf
    upper: float = math.inf


def _sum(log_slope):
    """Return the function that sums the log-slopes of (n, d) values: (n,)."""
    return lambda X: log_slope(X).sum(axis=1)


# Functions for a FunctionTransformer: common ones, and those that users register.
_FUNCTIONS = {
    None: FunctionChange(lambda X: np.zeros(X.shape[0])),
    np.log: FunctionChange(_sum(lambda X: -np.log(X))),
    np.log2: FunctionChange(_sum(lambda X: -np.log(X * math.log(2)))),
    np.log10: FunctionChange(_sum(lambda X: -np.log(X * math.log(10)))),
    np.log1p: FunctionChange(_sum(lambda X: -np.log1p(X))),
    np.exp: FunctionChange(_sum(lambda X: X), lower=0.0),
    np.expm1: FunctionChange(_sum(lambda X: X), lower=-1.0),
    np.sqrt: FunctionChange(_sum(lambda X: -np.log(4 * X) / 2), lower=0.0),
    np.arcsinh: FunctionChange(_sum(lambda X: -np.log1p(X**2) / 2)),
    np.sinh: FunctionChange(_sum(lambda X: np.logaddexp(X, -X) - math.log(2))),
    special.logit: FunctionChange(_sum(lambda X: -np.log(X) - np.log1p(-X))),
    special.expit: FunctionChange(
        _sum(lambda X: special.log_expit(X) + special.log_expit(-X)), 0.0, 1.0
    ),
}


def of_function(step):
    """Return the registered change of a FunctionTransformer, or None."""
    change = _FUNCTIONS.get(step.func)
    if change is not None and step.kw_args and step.func is not None:
        return None  # its arguments can change the function
    return change


def function_log_det(step, X, Y):
    """Return the registered log |det J| of a FunctionTransformer: (n,)."""
    with np.errstate(divide="ignore"):
        return np.asarray(of_function(step).log_det(X), dtype=np.float64)


def function_range(step):
    """Return the registered bounds of a FunctionTransformer, (d,) each, or None."""
    change = of_function(step)
    if change is None or (change.lower, change.upper) == (-math.inf, math.inf):
        return None
    d = step.n_features_in_
    return np.full(d, change.lower), np.full(d, change.upper)


def function_inverse(step, Y):
    """Return the rows whose transform is `Y`; raise without an inverse function."""
    if step.func is not None and step.inverse_func is None:
        raise InvalidParameterError(
            "The 'inverse_func' parameter of FunctionTransformer must be the inverse "
            f"function of {step.func!r} for samples and inverse transforms. Got None "
            "instead."
        )
    return step.inverse_transform(Y)


# -- the table -----------------------------------------------------------------------

_PRINCIPAL = Change(
    _principal.log_det,
    forward=_principal.forward,
    invert=_principal.invert,
    noise=_principal.noise,
    rounding=_principal.rounding,
)
_DIVIDED = Change(divided, rounding=rounding_of_divided)
_CHANGES = {
    StandardScaler: _DIVIDED,
    RobustScaler: _DIVIDED,
    MaxAbsScaler: _DIVIDED,
    MinMaxScaler: Change(within_range, clipped_range, rounding=rounding_of_multiplied),
    PowerTransformer: Change(power, power_range),
    QuantileTransformer: Change(log_slopes, quantile_range),
    FunctionTransformer: Change(
        function_log_det, function_range, invert=function_inverse
    ),
    **dict.fromkeys(_principal.CLASSES, _PRINCIPAL),
}

# A transformer whose log-determinant is not known. It can be inverted.
UNKNOWN = Change(log_det=None)


def change_of(step):
    """Return the `Change` of a fitted transformer, which may be `UNKNOWN`."""
    for cls in type(step).__mro__:
        if cls in _CHANGES:
            if cls is FunctionTransformer and of_function(step) is None:
                return Change(None, invert=function_inverse)
            return _CHANGES[cls]
    return UNKNOWN


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
        if bounds is not None and not callable(bounds):
            pair = _pair(bounds)

            def bounds(step):
                return pair

        _CHANGES[transformer] = Change(
            lambda step, X, Y: np.asarray(log_det(step, X), dtype=np.float64),
            bounds or _everywhere,
        )
    else:
        lower, upper = (-math.inf, math.inf) if bounds is None else _pair(bounds)
        _FUNCTIONS[transformer] = FunctionChange(log_det, lower, upper)


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
