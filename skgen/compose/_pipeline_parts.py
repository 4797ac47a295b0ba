r"""Parts of rows under a pipeline: marginals and conditionals in the units of the data.

Two structures are exact. Steps that act on each feature alone keep the parts of the
density after them: for the observed features `o`,

.. math:: \log p(x_o) = \log p_y(T_o(x_o)) + \sum_{j \in o} \log T_j'(x_j).

Linear steps and the noise of principal components in front of a mixture of normals are
a mixture of normals in the data's space.
"""

import copy

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import (
    FunctionTransformer,
    PowerTransformer,
    QuantileTransformer,
)

from skgen._checks import InvalidParameterError
from skgen._interop import normal_components
from skgen._lazy import lazy_module
from skgen._parts import AbstractPart
from skgen.compose._changes import change_of, noise_covariance
from skgen.compose._wrapper import allows_nan

_mixture = lazy_module("skgen.mixture")

# A value in the domain of common transformers, in the place of missing values.
_ANY = 0.5

# Magnitude that stands for infinity in an inverse.
_HUGE, _INFINITE = 1e300, 1e150

# Attributes of fitted transformers with one entry for each feature, in the last axis.
_OF_FEATURES = (
    *("mean_", "var_", "scale_", "center_", "min_", "max_abs_"),
    *("data_min_", "data_max_", "data_range_", "lambdas_", "quantiles_"),
)


# Steps whose range is bounded for some data, which then truncates the density.
_CAN_TRUNCATE = PowerTransformer, QuantileTransformer


class InexactPartsError(InvalidParameterError):
    """A step of a pipeline prevents exact parts of rows."""

    def explained(self, pipeline):
        """Return the error for the user of a pipeline."""
        return ValueError(
            "Input X contains NaN, or a marginal or conditional was requested. "
            f"{type(pipeline).__name__} has no exact answer, because {self}."
        )


def refusing_missing(steps, density):
    """Return the unfitted step that cannot be fitted to missing values, or None."""
    for step in steps:
        passes = isinstance(step, FunctionTransformer) and not step.validate
        truncates = isinstance(step, _CAN_TRUNCATE) or getattr(step, "clip", False)
        apart = change_of(step).log_slopes is not None and not truncates
        if not (apart and (passes or allows_nan(step))):
            return step
    return None if allows_nan(density) else density


def split_of(steps, density):
    """Return leading steps that act on each feature, and the density after them.

    Raise an error that names a step if the density has no parts.
    """
    changes = [change_of(step) for step in steps]
    for step, change in zip(steps, changes, strict=True):
        bounds = change.bounds(step)
        if bounds is not None and np.isfinite(bounds).any():
            raise InexactPartsError(
                f"{step!r} has a bounded range, which truncates the density"
            )
    mixing = [s for s, c in zip(steps, changes, strict=True) if c.log_slopes is None]
    inner = density.estimator if isinstance(density, FrozenEstimator) else density
    if not mixing and getattr(inner, "_answers_incomplete", False):
        return steps, inner
    components = normal_components(inner)
    if components is None:
        culprit = mixing[0] if getattr(inner, "_answers_incomplete", False) else inner
        if culprit is inner:
            raise InexactPartsError(
                f"{inner!r} has no answers to rows with missing values"
            )
        raise InexactPartsError(
            f"{culprit!r} mixes features, and {inner!r} is not normal"
        )
    nonlinear = [i for i, change in enumerate(changes) if change.linear is None]
    start = nonlinear[-1] + 1 if nonlinear else 0
    for step in steps[:start]:
        if change_of(step).log_slopes is None:
            raise InexactPartsError(
                f"{step!r} mixes features, and a step is not linear"
            )
    return steps[:start], mixture_before(steps[start:], components)


def mixture_before(steps, components):
    """Return the Gaussian mixture of rows (n, d) before linear fitted steps.

    `components` are the weights (C,), means (C, k) and covariances (C or 1, k, k) of
    the density after them.
    """
    weights, means, covariances = components
    for step in reversed(steps):
        change = change_of(step)
        W = change.linear(step)  # (k, d)
        means = inverted(step, means)
        covariances = W.T @ covariances @ W + noise_covariance(step)
    shared = len(covariances) < len(means)
    return _mixture.EMGaussianMixture.from_parameters(
        weights,
        means,
        covariances[0] if shared else covariances,
        covariance_type="tied" if shared else "full",
    )


class PipelinePart(AbstractPart):
    """The observed features of a pipeline, a mask (d,), and the other features.

    `steps` act on each feature, and precede a density with parts.
    """

    def __init__(self, pipeline, steps, density, observed):
        self._pipeline, self._steps, self._observed = pipeline, steps, observed
        self._part = density._part(observed)

    def through(self, X):
        """Return the codes (n, o) of rows (n, o), and their log-slopes (n,)."""
        o = self._observed
        slopes, whole = np.zeros(len(X)), np.full((len(X), o.size), _ANY)
        whole[:, o] = X
        for step in self._steps if len(X) else ():
            with np.errstate(all="ignore"):
                Y = self._pipeline._transformed(step, whole)
                slopes += change_of(step).log_slopes(step, whole, Y)[:, o].sum(axis=1)
            finite = np.isfinite(Y)
            slopes[~finite[:, o].all(axis=1) | np.isnan(slopes)] = -np.inf
            whole = np.where(finite, Y, _ANY)
        return np.ascontiguousarray(whole[:, o]), slopes

    def log_density(self, X):
        Y, answer = self.through(X)
        possible = answer > -np.inf
        if possible.any():
            answer[possible] += self._part.log_density(Y[possible])
        return answer

    def posterior_mean(self, X):
        if self._pipeline._refuses_latents():
            return np.full((len(X), self._pipeline._n_latent), np.nan)
        return self._part.posterior_mean(self.through(X)[0])

    def conditional_mean(self, X):
        for step in self._steps:
            if change_of(step).linear is None:
                raise InvalidParameterError(
                    f"The conditional mean behind the nonlinear step {step!r} is not "
                    "known: use the mean of draws of sample_conditional."
                )
        Y = self.through(X)[0]
        return self._inverse(Y, self._part.conditional_mean(Y)[None])[0]

    def draw(self, X, n_samples, rng):
        Y = self.through(X)[0]
        return self._inverse(Y, self._part.draw(Y, n_samples, rng))

    def _inverse(self, Y, missing):
        """Return codes (s, n, m) of the missing features as values (s, n, m)."""
        o, s = self._observed, len(missing)
        whole = np.empty((s, len(Y), o.size))
        whole[:, :, o], whole[:, :, ~o] = Y, missing
        whole = whole.reshape(-1, o.size)
        for step in reversed(self._steps):
            whole = inverted(step, whole)
        return whole.reshape(s, len(Y), o.size)[:, :, ~o]


def on_features(step, features):
    """Return a fitted step that acts on each feature, for some of its features."""
    new = copy.copy(step)
    d = step.n_features_in_
    for name, value in vars(step).items():
        if name in _OF_FEATURES and np.ndim(value) and value.shape[-1] == d:
            setattr(new, name, value[..., features])
        elif name == "_scaler":  # of a PowerTransformer
            setattr(new, name, on_features(value, features))
    new.n_features_in_ = len(features)
    if hasattr(step, "feature_names_in_"):
        new.feature_names_in_ = step.feature_names_in_[features]
    return new


def inverted(step, codes):
    """Return the rows (n, d) whose transforms are `codes` (n, k), in a new array."""
    if not hasattr(step, "inverse_transform"):
        raise InvalidParameterError(
            f"Samples cannot be transformed back by {step!r}, which has no "
            "'inverse_transform'."
        )
    return np.array(change_of(step).invert(step, codes), dtype=np.float64)


def one_feature_codes(steps, x, transform):
    """Return the codes (n,) of values (n,) of the only feature under increasing steps.

    Values below and above the domain of a step have codes of minus and plus infinity.
    """
    code = x.copy()
    for step in steps:
        inside = np.isfinite(code)
        with np.errstate(all="ignore"):
            Y = transform(step, np.where(inside, code, _ANY)[:, None])[:, 0]
        beyond = np.where(code > _ANY, np.inf, -np.inf)
        code = np.where(inside & ~np.isnan(Y), Y, beyond)
    return code


def one_feature_values(steps, y):
    """Return the values (n,) of the only feature with codes y (n,), also infinite."""
    with np.errstate(all="ignore"):
        for step in reversed(steps):
            inner = inverted(step, np.clip(y, -_HUGE, _HUGE)[:, None])[:, 0]
            far = np.abs(inner) > _INFINITE
            y = np.where(far, np.copysign(np.inf, inner), inner)
    return y
