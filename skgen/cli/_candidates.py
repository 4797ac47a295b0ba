"""The models that are compared: the densities of skgen and of scikit-learn."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler

import skgen
from skgen._lazy import is_installed, missing_package
from skgen.compose import make_generative_pipeline
from skgen.kde import GaussianKDE
from skgen.kde._bandwidth import scott_factor
from skgen.mixture import EMGaussianMixture

# Models that need PyTorch. They are read from `skgen`, which imports a model when it
# is first used: a comparison without them imports no PyTorch.
_NEURAL = "SGDGaussianMixture, AutoEncoder, VAE, SWAE"

# Neural models take about this number of gradient steps, within these bounds on the
# number of epochs. The learning rate is the autoencoders'. A longer training scores
# a little better, and takes much longer.
_STEPS, _EPOCHS, _RATE = 500, (12, 50), 1e-2

# scikit-learn adds reg_covar to every variance, skgen keeps every variance above it.
# Both compute the same if it is negligible.
_PAIRED_FLOOR = 1e-9

# Minimum number of columns of SGDGaussianMixture with low rank, its maximum rank, and
# the minimum number of rows for each parameter of a column.
_LOW_RANK_COLUMNS, _MAX_RANK, _ROWS_PER_PARAMETER = 16, 8, 10

# Minimum number of training rows, and of columns, of the autoencoders.
_NETWORK_ROWS, _NETWORK_COLUMNS = 50, 2

# Maximum latent dimension of the autoencoders: each dimension makes scores slower.
_MAX_LATENT = 8

# Minimum number of columns of pipelines with PCA, and of rows for each component.
_PCA_COLUMNS, _ROWS_PER_COMPONENT = 4, 4


@dataclass(frozen=True)
class Candidate:
    """A model to compare: a label, and a function that builds the model."""

    label: str
    build: Callable  # (n, d) training rows -> unfitted estimator
    ours: bool = True


class Standardised:
    """A scikit-learn density of standardised columns, scored in the data's units."""

    # One bandwidth, and one `reg_covar`, for all columns needs columns of one scale.

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
    """Return the maximum number of components of a mixture of this size of data."""
    # A full covariance needs d + 1 rows to be regular, and some five times more to be
    # estimated well.
    return max(1, n_rows // (5 * (n_columns + 1)))


def principal_components(n_rows, n_columns):
    """Return the numbers of principal components to compare, usually two."""
    if n_columns < _PCA_COLUMNS or n_rows < 2 * _ROWS_PER_COMPONENT:
        return []
    thirds = n_columns // 3, 2 * n_columns // 3
    return sorted({min(max(2, k), n_rows // _ROWS_PER_COMPONENT) for k in thirds})


def epochs(n_rows):
    """Return the number of epochs of neural models on this number of rows."""
    # Autoencoders take batches of a fortieth of the rows, within 16 and 128.
    steps = math.ceil(n_rows / min(128, max(16, n_rows // 40)))
    least, most = _EPOCHS
    return min(most, max(least, _STEPS // steps))


def candidates(n_rows, n_columns, n_components, random_state, *, fast=False):
    """Return the Candidates for `n_rows` training rows, and a list of models left out.

    A model left out is text: its name, with the reason in brackets.
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
    reasons = ["--fast"] if fast else []
    if not (is_installed("torch") and is_installed("skorch")):
        reasons.append(str(missing_package("torch", "training")))
    if reasons:
        left_out.append(f"{_NEURAL} ({'; '.join(reasons)})")
    else:
        models.append(_by_gradient(n_rows, n_columns, K, n_components, seed))
        if n_rows >= _NETWORK_ROWS and n_columns >= _NETWORK_COLUMNS:
            n_latent = min(_MAX_LATENT, n_columns // 2)
            models += _networks(n_latent, epochs(n_rows), seed)
        else:
            few = "columns" if n_columns < _NETWORK_COLUMNS else "rows"
            left_out.append(f"AutoEncoder, VAE, SWAE (too few {few})")
    return models + _of_scikit_learn(K, seed), left_out


def legend(models, n_rows):
    """Return an explanation of the labels of the models, as text."""
    labels = " ".join(model.label for model in models)
    lines = [
        "h: the bandwidth of a column is Scott's factor times its standard deviation.",
        "   Both libraries compute the same density.",
        "s: EM of both libraries starts from the same k-means clusters, with",
        f"   reg_covar={_PAIRED_FLOOR:g}.",
    ]
    if "PCA" in labels:
        lines += ["PCA(k) + ...: a GenerativePipeline of StandardScaler(), PCA(k), ..."]
    if "SGD" in labels:
        n_epochs = f"{epochs(n_rows)} epochs"
        lines += [
            f"SGDGaussianMixture takes at most {n_epochs}, the autoencoders {n_epochs}",
            f"   with lr={_RATE}. A longer training may score better.",
        ]
    lines += [
        "Models of scikit-learn are fitted to standardised columns. All scores are in",
        "nats, and in the units of the table.",
    ]
    return "\n".join(lines)


def _by_gradient(n_rows, n_columns, K, n_components, random_state):
    """Return SGDGaussianMixture with K components; with low rank for many columns."""
    # Imported here, before any fit is timed.
    mixture = skgen.SGDGaussianMixture
    given = {"max_epochs": epochs(n_rows), "random_state": random_state}
    if n_columns < _LOW_RANK_COLUMNS:
        return Candidate(f"SGDGaussianMixture({K})", lambda X: mixture(K, **given))
    rank = min(_MAX_RANK, n_columns // 4)
    # A component has `rank` loadings, a mean and a variance for each column.
    K = max(1, min(n_components, n_rows // (_ROWS_PER_PARAMETER * (rank + 2))))
    return Candidate(
        f"SGDGaussianMixture({K}, rank {rank})",
        lambda X: mixture(K, covariance_type="lowrank", rank=rank, **given),
    )


def _from_kmeans(n_components, random_state):
    """Return a function that builds a mixture with a start from k-means clusters."""

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
    """Return the models of scikit-learn."""

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
            # One leaf: the sums of a larger tree can be wrong by tens of nats.
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


def _pipelines(n_principal, n_components, random_state):
    """Return pipelines of PCA and a density, scored in the data's units."""

    def pipeline(density):
        return make_generative_pipeline(StandardScaler(), PCA(n_principal), density)

    return [
        Candidate(
            f"PCA({n_principal}) + GaussianKDE()", lambda X: pipeline(GaussianKDE())
        ),
        Candidate(
            f"PCA({n_principal}) + EMGaussianMixture({n_components})",
            lambda X: pipeline(
                EMGaussianMixture(n_components, random_state=random_state)
            ),
        ),
    ]


def _networks(n_latent, max_epochs, random_state):
    """Return the autoencoders, with a shorter training than by default."""

    def candidate(kind):
        return Candidate(
            f"{kind.__name__}({n_latent})",
            lambda X: kind(
                n_latent, max_epochs=max_epochs, lr=_RATE, random_state=random_state
            ),
        )

    return [candidate(kind) for kind in (skgen.AutoEncoder, skgen.VAE, skgen.SWAE)]


def _mixture(n_components, random_state):
    """Return a mixture with its default initialisation."""
    return Candidate(
        f"EMGaussianMixture({n_components})",
        lambda X: EMGaussianMixture(n_components, random_state=random_state),
    )


def _scott_bandwidth(X):
    """Return the (d,) bandwidths of KernelDensity("scott") on standardised columns."""
    # The scale of a constant column is 1, as in StandardScaler.
    scale = StandardScaler().fit(X).scale_
    return scale * scott_factor(*X.shape)


def _kmeans_start(X, n_components, random_state):
    """Return weights, means and precisions of k-means on scaled rows, and a scaler."""
    scaler = StandardScaler().fit(X)
    Z = scaler.transform(X)
    kmeans = KMeans(n_components, n_init=1, random_state=random_state)
    # There may be fewer clusters than `n_components`, if there are fewer distinct rows.
    _, labels, counts = np.unique(
        kmeans.fit_predict(Z), return_inverse=True, return_counts=True
    )
    means = np.eye(counts.size)[labels].T @ Z / counts[:, None]  # (K, d)
    # One covariance for all clusters: a cluster may have fewer rows than columns.
    within = Z - means[labels]
    covariance = within.T @ within / Z.shape[0] + 1e-6 * np.eye(Z.shape[1])
    precision = np.linalg.inv(covariance)
    precision = (precision + precision.T) / 2  # exactly symmetric
    precisions = np.broadcast_to(precision, (counts.size, *covariance.shape))
    return counts / counts.sum(), means, precisions, scaler
