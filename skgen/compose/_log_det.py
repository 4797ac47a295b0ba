r"""Changes of variables: how transformers change a density, and where they map to.

For an invertible map :math:`y = T(x)`,

.. math:: \log p_x(x) = \log p_y(T(x)) + \log |\det J_T(x)|,

with the Jacobian :math:`J_T` of `T`. Each formula is a function of the fitted
transformer, the rows `X` of shape (n, d) and what it makes of them, `Y`.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

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

from skgen._parameters import InvalidParameterError, wrong_argument
from skgen.compose import _principal
from skgen.compose._quantiles import log_slopes, quantile_range


def _everywhere(step):
    """Return no bounds: the map reaches every point."""


def _forward(step, X):
    """Return what a transformer makes of rows."""
    return step.transform(X)


def _inverse(step, Y):
    """Return the rows that a transformer maps to `Y`."""
    return step.inverse_transform(Y)


def _unknown_rounding(step, resolution):
    """Return that of rounding in what a transformer returns nothing is known."""
    return 0.0, False


@dataclass(frozen=True)
class Change:
    """How one kind of transformer changes a density."""

    # (step, X, Y) -> (n,): log |det J|, and the log-density of what Y leaves out.
    log_det: Callable
    # step -> None or the least and the largest values of Y, (k,) each.
    bounds: Callable = _everywhere
    # (step, X) -> Y.
    forward: Callable = _forward
    # (step, Y) -> X.
    invert: Callable = _inverse
    # None or (step, n, rng) -> (n, d), what Y leaves out of X.
    noise: Callable | None = None
    # (step, how far X is rounded (d,)) -> how far Y is, and which columns of Y are
    # nothing else, (k,) each.
    rounding: Callable = _unknown_rounding


# -- scalers -----------------------------------------------------------------------


def divided(step, X, Y):
    """Return log |det J| of a division by `scale_`."""
    if getattr(step, "scale_", None) is None:  # it only centres
        return np.zeros(X.shape[0])
    return np.full(X.shape[0], -np.log(np.abs(step.scale_)).sum())


def multiplied(step, X, Y):
    """Return log |det J| of a multiplication by `scale_`."""
    return np.full(X.shape[0], np.log(np.abs(step.scale_)).sum())


def rounding_of_divided(step, resolution):
    """Return how far the quotients are rounded, and that none is rounding alone."""
    scale = getattr(step, "scale_", None)
    return resolution / (1.0 if scale is None else np.abs(scale)), False


def rounding_of_multiplied(step, resolution):
    """Return how far the products are rounded, and that none is rounding alone."""
    return resolution * np.abs(step.scale_), False


def clipped_range(step):
    """Return the range of a MinMaxScaler; None where it does not clip."""
    if not step.clip:
        return None
    low, high = np.asarray(step.feature_range, dtype=float)
    d = step.n_features_in_
    return np.full(d, low), np.full(d, high)


def within_range(step, X, Y):
    """Return log |det J| of a MinMaxScaler, which may clip: -inf where it does."""
    log_det = multiplied(step, X, Y)
    if step.clip:
        outside = (step.data_min_ > X) | (step.data_max_ < X)
        log_det[outside.any(axis=1)] = -math.inf
    return log_det


# -- power transforms ----------------------------------------------------------------


def power(step, X, Y):
    r"""Return log |det J| of the transforms of Yeo and Johnson, and of Box and Cox.

    .. math:: \sum_j (\lambda_j - 1) \operatorname{sign}(x_j) \log(1 + |x_j|)

    of Yeo and Johnson (2000), :math:`\sum_j (\lambda_j - 1) \log x_j` of Box and Cox
    (1964), less the logarithms of the scales that standardise.
    """
    if step.method == "box-cox":
        logs = np.log(X)  # (n, d)
    else:
        logs = np.sign(X) * np.log1p(np.abs(X))
    return logs @ (step.lambdas_ - 1) + _standardised(step, X, Y)


def _standardised(step, X, Y):
    return divided(step._scaler, X, Y) if step.standardize else 0.0


def power_range(step):
    """Return the range of a power transform, which some powers bound."""
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
    """The change that a function of every value makes."""

    # X -> (n,)
    log_det: Callable
    lower: float = -math.inf
    upper: float = math.inf


def _sum(log_slope):
    """Return a function of (n, d) values to the sums of logarithms of slopes."""
    return lambda X: log_slope(X).sum(axis=1)


# The functions that people write into a FunctionTransformer.
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
    """Return the declared change of a FunctionTransformer; None without one."""
    change = _FUNCTIONS.get(step.func)
    if change is not None and step.kw_args and step.func is not None:
        return None  # the arguments may make another function of it
    return change


def function_log_det(step, X, Y):
    """Return the declared log |det J| of a FunctionTransformer."""
    with np.errstate(divide="ignore"):
        return np.asarray(of_function(step).log_det(X), dtype=np.float64)


def function_range(step):
    """Return the declared range of a FunctionTransformer."""
    change = of_function(step)
    if change is None or (change.lower, change.upper) == (-math.inf, math.inf):
        return None
    d = step.n_features_in_
    return np.full(d, change.lower), np.full(d, change.upper)


def function_inverse(step, Y):
    """Return the inverse of a FunctionTransformer, which has to be given."""
    if step.func is not None and step.inverse_func is None:
        raise InvalidParameterError(
            "The 'inverse_func' parameter of FunctionTransformer must be a function to "
            f"map draws back through {step.func!r}. Got None instead."
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

# Where draws are inverted and nothing more is known.
UNKNOWN = Change(log_det=None)


def change_of(step):
    """Return how a fitted transformer changes a density; `UNKNOWN` if nobody said."""
    for cls in type(step).__mro__:
        if cls in _CHANGES:
            if cls is FunctionTransformer and of_function(step) is None:
                return Change(None, invert=function_inverse)
            return _CHANGES[cls]
    return UNKNOWN


def register_log_det(transformer, log_det, *, bounds=None):
    r"""Say how a transformer changes a density, for pipelines that hold it.

    A `GenerativePipeline` scores rows in the units of its input by the change of
    variables

    .. math:: \log p_x(x) = \log p_y(T(x)) + \log |\det J_T(x)|,

    for which it has to know the logarithm of the Jacobian determinant of each step.
    It knows those of scikit-learn's scalers, of `PowerTransformer`,
    `QuantileTransformer` and `PCA`, and of common NumPy functions in a
    `FunctionTransformer`. This function adds one.

    Parameters
    ----------
    transformer : type or callable
        A class of transformers, whose subclasses are meant as well; or the function
        that a `FunctionTransformer` has as its `func`.
    log_det : callable
        For a class, maps the fitted transformer and rows of shape
        (n_samples, n_features) to :math:`\log |\det J_T|` at each, of shape
        (n_samples,); for a function, maps the rows alone.
    bounds : callable or tuple of two floats, default=None
        The least and the largest value that the map reaches; for a class, a callable
        that maps the fitted transformer to two arrays of shape (n_features,). The
        density of the next step is renormalised to this range, and draws outside it
        are drawn again. None says that every value is reached.

    Returns
    -------
    None
        The map is known from now on, in this process: a worker process knows it where
        the module that calls this function is imported there.

    Raises
    ------
    ValueError
        If `transformer` is neither a class nor callable, or `log_det` is not callable.

    Notes
    -----
    The map has to be invertible, with an ``inverse_transform`` if rows are to be drawn.

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
    """Return two numbers in order."""
    try:
        lower, upper = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        lower, upper = math.nan, math.nan
    if not lower < upper:
        rule = "two numbers in order, or for a class a function"
        raise wrong_argument("register_log_det", "bounds", rule, bounds)
    return lower, upper
