"""The models that are compared: every estimator of skgen, and scikit-learn's."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler

from skgen.kde import GaussianKDE
from skgen.kde._bandwidth import scott_factor
from skgen.mixture import EMGaussianMixture, SGDGaussianMixture


@dataclass(frozen=True)
class Candidate:
    """A model to compare: its label, and how to build it for training rows."""

    label: str
    build: Callable  # (n, d) training rows -> unfitted estimator
    ours: bool = True


class Standardised:
    """A scikit-learn density on standardised columns, scored in the data's units.

    Its bandwidth and its `reg_covar` are lengths, the same for every column; on
    raw columns they would mean nothing. The log-density of the columns is that of
    the standardised ones less the sum of the logarithms of their scales.
    """

    def __init__(self, density):
        self.density = density

    def fit(self, X):
        self.scaler = StandardScaler().fit(X)
        self.density.fit(self.scaler.transform(X))
        return self

    def score_samples(self, X):
        log_density = self.density.score_samples(self.scaler.transform(X))
        return log_density - np.log(self.scaler.scale_).sum()


LEGEND = (
    "h: for each column, Scott's factor times its standard deviation; the same\n"
    "   density in both libraries.  s: EM from the same k-means start in both.\n"
    "scikit-learn's models see standardised columns; all scores are in nats and in\n"
    "the units of the table."
)


def candidates(n_components, random_state):
    """Return the models to compare.

    Parameters
    ----------
    n_components : int
        The number of components of the mixtures.
    random_state : int
        Seeds their starts.

    Returns
    -------
    list of Candidate
    """
    K, seed = n_components, random_state

    def ours_from_start(X):
        weights, means, precisions, scaler = _kmeans_start(X, K, seed)
        return EMGaussianMixture(
            weights.size,
            weights_init=weights,
            means_init=scaler.inverse_transform(means),
            precisions_init=precisions / np.outer(scaler.scale_, scaler.scale_),
        )

    def theirs_from_start(X):
        weights, means, precisions, _ = _kmeans_start(X, K, seed)
        return Standardised(
            GaussianMixture(
                weights.size,
                weights_init=weights,
                means_init=means,
                precisions_init=precisions,
            )
        )

    return [
        Candidate("GaussianKDE()", lambda X: GaussianKDE()),
        Candidate("GaussianKDE(h)", lambda X: GaussianKDE(_scott_bandwidth(X))),
        *(_mixture(k, seed) for k in sorted({1, max(1, round(K / 3)), K})),
        Candidate(f"EMGaussianMixture({K}, s)", ours_from_start),
        Candidate(
            f"SGDGaussianMixture({K})",
            lambda X: SGDGaussianMixture(K, random_state=seed),
        ),
        Candidate(
            "sklearn KernelDensity(h)",
            lambda X: Standardised(KernelDensity(bandwidth="scott")),
            ours=False,
        ),
        Candidate(
            f"sklearn GaussianMixture({K})",
            lambda X: Standardised(GaussianMixture(K, random_state=seed)),
            ours=False,
        ),
        Candidate(f"sklearn GaussianMixture({K}, s)", theirs_from_start, ours=False),
    ]


def _mixture(n_components, random_state):
    """Return a mixture with its own start."""
    return Candidate(
        f"EMGaussianMixture({n_components})",
        lambda X: EMGaussianMixture(n_components, random_state=random_state),
    )


def _scott_bandwidth(X):
    """Return what KernelDensity(bandwidth="scott") is on standardised columns."""
    # A column that is constant in these rows keeps its units, as in StandardScaler.
    scale = StandardScaler().fit(X).scale_
    return scale * scott_factor(*X.shape)


def _kmeans_start(X, n_components, random_state):
    """Return weights, means and precisions of k-means clusters, standardised."""
    scaler = StandardScaler().fit(X)
    Z = scaler.transform(X)
    kmeans = KMeans(n_components, n_init=1, random_state=random_state)
    # Fewer than asked for where there are fewer distinct rows.
    _, labels, counts = np.unique(
        kmeans.fit_predict(Z), return_inverse=True, return_counts=True
    )
    means = np.eye(counts.size)[labels].T @ Z / counts[:, None]  # (K, d)
    # One covariance for all: a cluster may have fewer rows than columns.
    within = Z - means[labels]
    covariance = within.T @ within / Z.shape[0] + 1e-6 * np.eye(Z.shape[1])
    precisions = np.broadcast_to(
        np.linalg.inv(covariance), (counts.size, *covariance.shape)
    )
    return counts / counts.sum(), means, precisions, scaler
