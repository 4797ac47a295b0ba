"""Density of latents or codes: a mixture that held-out rows choose, or a given one."""

import math

from skgen._interop import seeded_clone
from skgen._warnings import quiet
from skgen.mixture._em import EMGaussianMixture

# Candidates for the number of components, in this order.
_COMPONENTS = (1, 2, 4, 8, 16, 32)

# Fraction of the rows held out to choose the number of components.
_HELD_OUT = 0.2


def fitted_density(density, draws, seed):
    """Return a fitted clone of `density`, or a chosen mixture for None.

    draws: (n, m, k), with m draws from the posterior of the code of each row. `seed`
    replaces every `random_state` that is unset.
    """
    if density is None:
        return chosen_mixture(draws, seed)
    return seeded_clone(density, seed).fit(draws.reshape(-1, draws.shape[2]))


def chosen_mixture(draws, seed, patience=1):
    """Return a Gaussian mixture; held-out rows choose its number of components.

    The search ends after `patience` numbers in turn without a better score.
    """
    n, m, k = draws.shape
    n_held_out = round(_HELD_OUT * n)
    codes = draws.reshape(-1, k)
    held_out, training = codes[: n_held_out * m], codes[n_held_out * m :]
    best, highest, waited = 1, -math.inf, 0
    # Mixtures with too many components for the rows lose the comparison.
    with quiet():
        for n_components in _COMPONENTS if n_held_out else ():
            if n_components * (k + 1) > n - n_held_out:
                break
            score = _mixture(n_components, seed).fit(training).score(held_out)
            if score > highest:
                best, highest, waited = n_components, score, 0
                continue
            waited += 1
            if waited == patience:
                break
        return _mixture(best, seed).fit(codes)


def _mixture(n_components, seed):
    return EMGaussianMixture(n_components, random_state=seed)
