"""Correction of the likelihood for the rounding of parameters to float32."""

import numpy as np

from skgen.mixture._covariance import Tied
from skgen.mixture._device_sums import constants_of


def left_out(expectation, sums):
    """Return the first-order effect of rounded parameters on a log-likelihood: a float.

    `sums` are the totals of `Moments`, about the shift or the means of the components.
    """
    # To first order, the effect is the rounding error of coefficients and precisions
    # times the sums of features and the scatter, which the M-step needs anyway. Without
    # the correction, rounding would change the likelihood between iterations by more
    # than a late iteration improves it.
    joint, moments, place = expectation.joint, expectation.moments, expectation.place
    counts, _, scatter, *products = sums
    left = 0.0
    near = np.intersect1d(joint.near, moments.near)
    if near.size:
        lost = _lost(joint.coefficients[np.searchsorted(joint.near, near)], place)
        features = products[0][:, np.searchsorted(moments.near, near)]  # (p, m)
        left += np.vdot(lost.T, features)
    apart = np.intersect1d(joint.apart, moments.apart)
    filled = apart[joint.parameters.weights[apart] > 0]
    left += _lost(constants_of(joint)[filled], place) @ counts[filled]
    factors, precisions = joint.parameters.factors, joint.covariance.precisions
    lost = precisions(factors) - precisions(place.rounded(factors))
    if isinstance(joint.covariance, Tied):  # all components are near, or all are apart
        second = products[1] if near.size else scatter * (apart.size > 0)
        return left - 0.5 * np.vdot(lost, second)
    return left - 0.5 * np.vdot(lost[filled], scatter[filled])


def _lost(array, place):
    """Return the rounding error of an array."""
    return array - place.rounded(array)
