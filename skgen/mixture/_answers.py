"""Answers of a mixture to rows: log-densities, responsibilities and labels."""

import numpy as np

from skgen.mixture._backend import LEAST_LOSS, NUMPY, backend_of
from skgen.mixture._pass import Joint, Kernel, normalise


def log_density(X, parameters, covariance, device="cpu"):
    """Return the log-densities of rows (n, d): (n,)."""

    def function(math, joint):
        return normalise(math, joint)[0][:, 0]

    return _answers(X, parameters, covariance, device, function, np.empty(len(X)))


def posterior(X, parameters, covariance, device="cpu"):
    """Return the responsibilities of rows (n, d): (n, K)."""

    def function(math, joint):
        joint /= normalise(math, joint)[1]
        return joint.swapaxes(1, 2)

    out = np.empty((len(X), parameters.weights.size))
    return _answers(X, parameters, covariance, device, function, out)


def most_probable(X, parameters, covariance, device="cpu"):
    """Return the component of highest responsibility of each row (n, d): (n,)."""

    def function(math, joint):
        return joint.argmax(1)

    out = np.empty(len(X), dtype=np.intp)
    return _answers(X, parameters, covariance, device, function, out)


def _answers(X, parameters, covariance, device, function, out):
    """Fill `out` (n, ...) with a function of the joint log-densities of rows (n, d).

    `function` maps joint log-densities (s, K, c), which it may overwrite, to (s, c,
    ...). A device without float64 leaves the work to NumPy.
    """
    backend = backend_of(device, np.float64)
    backend = NUMPY if backend.single else backend
    shift = parameters.weights @ parameters.means
    joint = Joint(parameters, covariance, backend, LEAST_LOSS, shift)
    far = _answered(X, joint, function, out)
    if far.any():  # rows whose products overflow
        by_differences = Joint(parameters, covariance, NUMPY, -1.0)
        rest = np.empty((far.sum(), *out.shape[1:]), out.dtype)
        _answered(X[far], by_differences, function, rest)
        out[far] = rest
    return out


def _answered(X, joint, function, out):
    """Fill `out` (n, ...); return the rows (n,) for which products overflow."""
    backend, covariance = joint.backend, joint.covariance
    (n, d), far = X.shape, np.zeros(len(X), dtype=bool)
    p = covariance.n_features(d) if joint.near.size else 0

    def answer(chunks):
        kernel = Kernel(joint)
        for start, z, _ in chunks:
            with np.errstate(over="ignore", invalid="ignore"):
                F = kernel.features(z) if p else None
                values = kernel(z, F)  # (s, K, c)
                finite = backend.math.isfinite(backend.math.amax(values, axis=1))
                found = function(backend.math, values)
            for array, part in ((far, ~finite), (out, found)):
                rows = backend.rows(part)
                array[start : start + len(rows)] = rows[: n - start]

    rows = backend.hold(lambda rows: X[rows], np.ones(n))
    rows.map(answer, p, joint.constants.size)
    return far
