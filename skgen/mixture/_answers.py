"""Log-densities and responsibilities of rows, by NumPy or on a device."""

import numpy as np

from skgen.mixture._device import place_of
from skgen.mixture._device_rows import DeviceRows
from skgen.mixture._device_sums import (
    BLOCK_ROWS,
    DeviceJoint,
    blocks_in_chunk,
    normalised,
)
from skgen.mixture._joint import (
    answers,
    joint_of_answers,
    log_densities,
    shares,
    strongest,
)

# Functions of the joint log-densities (s, K, c) of a chunk: (s, c, ...).
_ON_DEVICE = {
    log_densities: lambda joint: normalised(joint)[0],
    shares: lambda joint: joint.div_(normalised(joint)[1]).transpose(1, 2),
    strongest: lambda joint: joint.argmax(dim=1),
}


def log_density(X, parameters, covariance, device="cpu"):
    """Return the log-densities of rows (n, d): (n,)."""
    out = np.empty(X.shape[0])
    return answers_on(device, X, parameters, covariance, log_densities, out)


def posterior(X, parameters, covariance, device="cpu"):
    """Return the responsibilities of rows (n, d): (n, K)."""
    out = np.empty((X.shape[0], parameters.weights.size))
    return answers_on(device, X, parameters, covariance, shares, out)


def most_probable(X, parameters, covariance, device="cpu"):
    """Return the component of highest responsibility of each row (n, d): (n,)."""
    out = np.empty(X.shape[0], dtype=np.intp)
    return answers_on(device, X, parameters, covariance, strongest, out)


def answers_on(device, X, parameters, covariance, function, out):
    """Return `out` as `answers` does, computed on a device if it has float64.

    `function` is `log_densities`, `shares` or `strongest`.
    """
    place = place_of(device, np.float64)
    if place is None or place.single:
        return answers(X, parameters, covariance, function, out)
    far = _answered(place, X, joint_of_answers(parameters, covariance), function, out)
    if far.any():
        rest = np.empty((far.sum(), *out.shape[1:]), out.dtype)
        out[far] = answers(X[far], parameters, covariance, function, rest)
    return out


def _answered(place, X, joint, function, out):
    """Compute `out`; return the rows for which products overflow: (n,)."""
    (n, d), products = X.shape, joint.products if joint.near.size else None
    far, twin = np.zeros(n, dtype=bool), DeviceJoint(joint, place)
    size = BLOCK_ROWS * blocks_in_chunk(d, twin.K, products, BLOCK_ROWS, 8)
    for start in range(0, n, size):
        part = slice(start, min(start + size, n))
        b = part.stop - start
        rows = DeviceRows(lambda rows, X=X[part]: X[rows], np.ones(b), place)
        _, chunk, _ = next(rows.chunks(rows.X.shape[0]))
        values = twin(chunk, products and twin.features(chunk))  # (s, K, c)
        finite = values.amax(dim=1).isfinite().flatten()
        far[part] = ~finite[:b].cpu().numpy()
        answer = _ON_DEVICE[function](values).flatten(0, 1)[:b]
        out[part] = answer.cpu().numpy()
    return far
