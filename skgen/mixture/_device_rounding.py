"""What float32 takes from the parameters, and so from the likelihood."""

import numpy as np

from skgen.mixture._covariance import Tied
from skgen.mixture._device_sums import constants_of


def left_out(expectation, sums):
    """Return what rounding of the parameters takes from a log-likelihood.

    To first order that is what it takes from coefficients and precisions times the sums
    of features and the scatter, which the M-step needs anyway. Otherwise it would
    differ between iterations by more than a late one brings.

    Parameters
    ----------
    expectation : DeviceExpectation
        Whose components have their moments about here or their means.
    sums : list of ndarrays
        Of moments, by `Moments`, over all rows.

    Returns
    -------
    float
    """
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
    if isinstance(joint.covariance, Tied):  # components are near or apart together
        second = products[1] if near.size else scatter * (apart.size > 0)
        return left - 0.5 * np.vdot(lost, second)
    return left - 0.5 * np.vdot(lost[filled], scatter[filled])


def _lost(array, place):
    """Return what rounding takes from an array."""
    return array - place.rounded(array)
