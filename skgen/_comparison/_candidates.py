"""The models that are compared: every estimator of skgen, and scikit-learn's."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler

from skgen.autoencoder import SWAE, VAE, AutoEncoder
from skgen.compose import make_generative_pipeline
from skgen.kde import GaussianKDE
from skgen.kde._bandwidth import scott_factor
from skgen.mixture import EMGaussianMixture, SGDGaussianMixture

# What descends gradients takes about so many steps, in passes over the rows within
# these bounds, and networks at this rate: most of the score in some of the time.
_STEPS, _EPOCHS, _RATE = 500, (12, 50), 1e-2

# One library adds it to every variance and the other keeps variances above it: next to
# nothing, for both to compute the same.
_PAIRED_FLOOR = 1e-9

# From so many columns, a mixture by gradients is of low rank: up to this one, and of as
# many components as there are rows for.
_LOW_RANK_COLUMNS, _MOST_RANK, _ROWS_PER_NUMBER = 16, 8, 10

# Networks are compared from so many rows to fit to, and so many columns.
_NETWORK_ROWS, _NETWORK_COLUMNS = 50, 2

# The most numbers of a code: each costs time in every score.
_MOST_CODES = 8

# Principal components are compared from so many columns, and have so many rows each.
_PCA_COLUMNS, _ROWS_PER_CODE = 4, 4


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


def most_components(n_rows, n_columns):
    """Return the most components of a mixture that so many rows bear."""
    # A covariance of its own has rank d from d + 1 rows; five times that to be told.
    return max(1, n_rows // (5 * (n_columns + 1)))


def principal_components(n_rows, n_columns):
    """Return the numbers of principal components to compare, most likely two."""
    if n_columns < _PCA_COLUMNS or n_rows < 2 * _ROWS_PER_CODE:
        return []
    thirds = n_columns // 3, 2 * n_columns // 3
    return sorted({min(max(2, k), n_rows // _ROWS_PER_CODE) for k in thirds})


def epochs(n_rows):
    """Return how many passes over so many rows what descends gradients takes."""
    # In the networks' batches: a fortieth of the rows, but 16 to 128.
    steps = math.ceil(n_rows / min(128, max(16, n_rows // 40)))
    least, most = _EPOCHS
    return min(most, max(least, _STEPS // steps))


def candidates(n_rows, n_columns, n_components, random_state, *, fast=False):
    """Return the models to compare.

    Parameters
    ----------
    n_rows : int
        The number of rows that models are fitted to.
    n_columns : int
        The number of columns.
    n_components : int
        The most components of a mixture, where the rows bear them.
    random_state : int
        Seeds the starts and all noise.
    fast : bool, default=False
        Whether to leave out what descends gradients.

    Returns
    -------
    models : list of Candidate
        The models.
    left_out : list of str
        Models that are not compared, each with the reason in brackets.
    """
    K = min(n_components, most_components(n_rows, n_columns))
    seed, left_out = random_state, []
    models = [
        Candidate("GaussianKDE()", lambda X: GaussianKDE()),
        Candidate("GaussianKDE('likelihood')", lambda X: GaussianKDE("likelihood")),
        Candidate("GaussianKDE(h)", lambda X: GaussianKDE(_scott_bandwidth(X))),
        *(_mixture(k, seed) for k in sorted({1, max(1, round(K / 3)), K})),
        Candidate(f"EMGaussianMixture({K}, s)", _from_kmeans(K, seed)),
    ]
    sizes = principal_components(n_rows, n_columns)
    for k in sizes:
        models += _pipelines(k, min(n_components, most_components(n_rows, k)), seed)
    if not sizes:
        few = "columns" if n_columns < _PCA_COLUMNS else "rows"
        left_out.append(f"pipelines with PCA (too few {few})")
    if fast:
        left_out.append("SGDGaussianMixture, AutoEncoder, VAE, SWAE (--fast)")
    else:
        models.append(_by_gradient(n_rows, n_columns, K, n_components, seed))
        if n_rows >= _NETWORK_ROWS and n_columns >= _NETWORK_COLUMNS:
            n_codes = min(_MOST_CODES, n_columns // 2)
            models += _networks(n_codes, epochs(n_rows), seed)
        else:
            few = "columns" if n_columns < _NETWORK_COLUMNS else "rows"
            left_out.append(f"AutoEncoder, VAE, SWAE (too few {few})")
    return models + _of_scikit_learn(K, seed), left_out


def legend(models, n_rows):
    """Return what the labels of models fitted to so many rows mean, as text."""
    labels = " ".join(model.label for model in models)
    lines = [
        "h: for each column, Scott's factor times its standard deviation; the same",
        "   density in both libraries, if scikit-learn's tree has but one leaf.",
        f"s: EM from the same k-means start in both, with reg_covar={_PAIRED_FLOOR:g}.",
    ]
    if "PCA" in labels:
        lines += [
            "PCA(k) + ...: a GenerativePipeline of StandardScaler(), PCA(k) and that."
        ]
    if "SGD" in labels:
        passes = f"{epochs(n_rows)} epochs"
        lines += [
            f"SGDGaussianMixture takes {passes} at most, and the autoencoders {passes}",
            f"   with lr={_RATE}, for speed; with more they may score better.",
        ]
    lines += [
        "scikit-learn's models see standardised columns; all scores are in nats and in",
        "the units of the table.",
    ]
    return "\n".join(lines)


def _by_gradient(n_rows, n_columns, K, most, random_state):
    """Return a mixture that descends a gradient, of low rank for many columns."""
    given = {"max_epochs": epochs(n_rows), "random_state": random_state}
    if n_columns < _LOW_RANK_COLUMNS:
        return Candidate(
            f"SGDGaussianMixture({K})", lambda X: SGDGaussianMixture(K, **given)
        )
    rank = min(_MOST_RANK, n_columns // 4)
    # Rows for each number that a component has in each column.
    K = max(1, min(most, n_rows // (_ROWS_PER_NUMBER * (rank + 2))))
    return Candidate(
        f"SGDGaussianMixture({K}, rank {rank})",
        lambda X: SGDGaussianMixture(K, covariance_type="lowrank", rank=rank, **given),
    )


def _from_kmeans(n_components, random_state):
    """Return how to build a mixture that starts from clusters of k-means."""

    def build(X):
        weights, means, precisions, scaler = _kmeans_start(
            X, n_components, random_state
        )
        return EMGaussianMixture(
            weights.size,
            weights_init=weights,
            means_init=scaler.inverse_transform(means),
            precisions_init=precisions / np.outer(scaler.scale_, scaler.scale_),
            reg_covar=_PAIRED_FLOOR,
        )

    return build


def _of_scikit_learn(n_components, random_state):
    """Return scikit-learn's models, to compare ours with."""

    def from_kmeans(X):
        weights, means, precisions, _ = _kmeans_start(X, n_components, random_state)
        return Standardised(
            GaussianMixture(
                weights.size,
                weights_init=weights,
                means_init=means,
                precisions_init=precisions,
                reg_covar=_PAIRED_FLOOR,
            )
        )

    def from_its_own(X):
        return Standardised(GaussianMixture(n_components, random_state=random_state))

    return [
        Candidate(
            "sklearn KernelDensity(h)",
            # In one leaf: the sums of a tree of more can be wrong by tens of nats.
            lambda X: Standardised(
                KernelDensity(bandwidth="scott", leaf_size=X.shape[0])
            ),
            ours=False,
        ),
        Candidate(f"sklearn GaussianMixture({n_components})", from_its_own, ours=False),
        Candidate(
            f"sklearn GaussianMixture({n_components}, s)", from_kmeans, ours=False
        ),
    ]


def _pipelines(n_codes, n_components, random_state):
    """Return densities of principal components, scored in the data's units."""

    def pipeline(density):
        return make_generative_pipeline(StandardScaler(), PCA(n_codes), density)

    return [
        Candidate(f"PCA({n_codes}) + GaussianKDE()", lambda X: pipeline(GaussianKDE())),
        Candidate(
            f"PCA({n_codes}) + EMGaussianMixture({n_components})",
            lambda X: pipeline(
                EMGaussianMixture(n_components, random_state=random_state)
            ),
        ),
    ]


def _networks(n_codes, max_epochs, random_state):
    """Return the autoencoders, trained for less long than by default."""

    def candidate(kind):
        return Candidate(
            f"{kind.__name__}({n_codes})",
            lambda X: kind(
                n_codes, max_epochs=max_epochs, lr=_RATE, random_state=random_state
            ),
        )

    return [candidate(kind) for kind in (AutoEncoder, VAE, SWAE)]


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
    precision = np.linalg.inv(covariance)
    precision = (precision + precision.T) / 2  # but for rounding, what it is
    precisions = np.broadcast_to(precision, (counts.size, *covariance.shape))
    return counts / counts.sum(), means, precisions, scaler
