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
from skgen.cli._cross_validation import Timed
from skgen.cli._files import count
from skgen.compose import make_generative_pipeline
from skgen.kde import GaussianKDE
from skgen.kde._bandwidth import scott_factor
from skgen.mixture import EMGaussianMixture

# Models that need PyTorch. They are read from `skgen`, which imports a model when it
# is first used: a comparison without them imports no PyTorch.
_FLOWS = "NormalizingFlow, DiffusionModel"
_NEURAL = f"SGDGaussianMixture, AutoEncoder, VAE, SWAE, {_FLOWS}"

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

# Flows and diffusion models take about this number of steps, within these bounds on the
# number of epochs, the larger of which is their default.
_FLOW_STEPS, _FLOW_EPOCHS, _DIFFUSION_EPOCHS = 1000, (12, 60), (12, 300)

# Minimum number of training rows of autoencoders, flows and diffusion models, minimum
# number of columns of autoencoders and maximum number of columns of the others.
_NETWORK_ROWS, _NETWORK_COLUMNS, _FLOW_COLUMNS = 50, 2, 100

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


def mixture_sizes(n_components, n_rows, n_columns):
    """Return the number of components of mixtures, in words."""
    most = min(n_components, most_components(n_rows, n_columns))
    few = " (more need more rows)" if most < n_components else ""
    words = f"mixtures of up to {count(most, 'component')}{few}"
    after_pca = [
        min(n_components, most_components(n_rows, k))
        for k in principal_components(n_rows, n_columns)
    ]
    if max(after_pca, default=0) > most:
        words += f", up to {after_pca[0]} after PCA"
    return words


def epochs(n_rows):
    """Return the number of epochs of neural models on this number of rows."""
    # Autoencoders take batches of a fortieth of the rows, within 16 and 128.
    steps = math.ceil(n_rows / min(128, max(16, n_rows // 40)))
    least, most = _EPOCHS
    return min(most, max(least, _STEPS // steps))


def flow_epochs(n_rows):
    """Return the number of epochs of a flow on this number of rows."""
    steps = math.ceil(n_rows / min(256, max(128, n_rows // 40)))
    least, most = _FLOW_EPOCHS
    return min(most, max(least, _FLOW_STEPS // steps))


def diffusion_epochs(n_rows):
    """Return the number of epochs of a diffusion model on this number of rows."""
    steps = math.ceil(n_rows / min(512, max(16, n_rows // 40)))
    least, most = _DIFFUSION_EPOCHS
    return min(most, max(least, _FLOW_STEPS // steps))


def candidates(n_rows, n_columns, n_components, random_state, *, fast=False):
    """Return the Candidates for `n_rows` training rows, and a list of models left out.

    A model left out is text: its name, with the reason in brackets.
    """
    K, seed = min(n_components, most_components(n_rows, n_columns)), random_state
    kde = Candidate("GaussianKDE()", lambda X: GaussianKDE())
    models = [
        kde,
        Candidate("GaussianKDE('likelihood')", lambda X: GaussianKDE("likelihood")),
        Candidate(
            "GaussianKDE(h)",
            lambda X: _standardised(GaussianKDE(scott_factor(*X.shape))),
        ),
        *(_mixture(k, seed) for k in sorted({1, max(1, round(K / 3)), K})),
        Candidate(
            f"EMGaussianMixture({K}, s)",
            lambda X: _from_kmeans(EMGaussianMixture, X, K, seed),
        ),
    ]
    sizes, left_out = principal_components(n_rows, n_columns), []
    for k in sizes:
        mixture = _mixture(min(n_components, most_components(n_rows, k)), seed)
        models += [_after_pca(k, density, seed) for density in (kde, mixture)]
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
            k = min(_MAX_LATENT, n_columns // 2)
            kinds = skgen.AutoEncoder, skgen.VAE, skgen.SWAE
            models += [_network(kind, k, epochs(n_rows), seed) for kind in kinds]
        else:
            few = "columns" if n_columns < _NETWORK_COLUMNS else "rows"
            left_out.append(f"AutoEncoder, VAE, SWAE (too few {few})")
        if n_rows >= _NETWORK_ROWS and n_columns <= _FLOW_COLUMNS:
            models += [
                _flow(skgen.NormalizingFlow, flow_epochs(n_rows), seed),
                _flow(skgen.DiffusionModel, diffusion_epochs(n_rows), seed),
            ]
        else:
            reason = "too few rows" if n_rows < _NETWORK_ROWS else "too many columns"
            left_out.append(f"{_FLOWS} ({reason})")
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
    if "NormalizingFlow" in labels:
        lines += [
            f"NormalizingFlow takes at most {flow_epochs(n_rows)} epochs, and",
            f"   DiffusionModel {diffusion_epochs(n_rows)}. More may score better.",
        ]
    lines += [
        "Models of scikit-learn are fitted to standardised columns. All scores are in",
        "nats, and in the units of the table.",
    ]
    return "\n".join(lines)


def _mixture(n_components, random_state):
    """Return a mixture with its default initialisation."""
    return Candidate(
        f"EMGaussianMixture({n_components})",
        lambda X: EMGaussianMixture(n_components, random_state=random_state),
    )


def _after_pca(n_principal, density, random_state):
    """Return a pipeline of PCA and a density, scored in the data's units."""
    pca = PCA(n_principal, random_state=random_state)
    return Candidate(
        f"PCA({n_principal}) + {density.label}",
        lambda X: make_generative_pipeline(StandardScaler(), pca, density.build(X)),
    )


def _by_gradient(n_rows, n_columns, K, n_components, random_state):
    """Return SGDGaussianMixture with K components; with low rank for many columns."""
    given = {"max_epochs": epochs(n_rows), "random_state": random_state}
    label = f"SGDGaussianMixture({K})"
    if n_columns >= _LOW_RANK_COLUMNS:
        rank = min(_MAX_RANK, n_columns // 4)
        # A component has `rank` loadings, a mean and a variance for each column.
        K = max(1, min(n_components, n_rows // (_ROWS_PER_PARAMETER * (rank + 2))))
        given |= {"covariance_type": "lowrank", "rank": rank}
        label = f"SGDGaussianMixture({K}, rank {rank})"
    mixture = skgen.SGDGaussianMixture  # imported before any fit is timed
    return Candidate(label, lambda X: mixture(K, **given))


def _network(kind, n_latent, max_epochs, random_state):
    """Return an autoencoder, with a shorter training than by default."""
    given = {"max_epochs": max_epochs, "lr": _RATE, "random_state": random_state}
    return Candidate(f"{kind.__name__}({n_latent})", lambda X: kind(n_latent, **given))


def _flow(kind, max_epochs, random_state):
    """Return a flow or a diffusion model, with a shorter training than by default."""
    given = {"max_epochs": max_epochs, "random_state": random_state}
    return Candidate(f"{kind.__name__}()", lambda X: kind(**given))


def _of_scikit_learn(K, random_state):
    """Return the models of scikit-learn, which have one length for all columns."""
    builders = {
        # One leaf: the sums of a larger tree can be wrong by tens of nats.
        "KernelDensity(h)": lambda X: _standardised(
            KernelDensity(bandwidth="scott", leaf_size=X.shape[0])
        ),
        f"GaussianMixture({K})": lambda X: _standardised(
            GaussianMixture(K, random_state=random_state)
        ),
        f"GaussianMixture({K}, s)": lambda X: _from_kmeans(
            GaussianMixture, X, K, random_state
        ),
    }
    return [
        Candidate(f"sklearn {label}", build, ours=False)
        for label, build in builders.items()
    ]


def _standardised(density):
    """Return a density of standardised columns, scored in the data's units."""
    return make_generative_pipeline(StandardScaler(), Timed(density))


def _from_kmeans(mixture, X, n_components, random_state):
    """Return a mixture of standardised columns that starts from k-means clusters."""
    Z = StandardScaler().fit_transform(X)
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
    return _standardised(
        mixture(
            counts.size,
            weights_init=counts / counts.sum(),
            means_init=means,
            precisions_init=np.tile(precision, (counts.size, 1, 1)),
            reg_covar=_PAIRED_FLOOR,
        )
    )
