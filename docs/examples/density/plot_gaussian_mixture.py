"""
Gaussian mixture: shapes, and how many components
=================================================

Two columns of scikit-learn's wine data under mixtures of the four covariance types,
and how held-out likelihood and BIC choose the number of components.
"""

# %%
# Four shapes
# -----------
# Ellipses are two standard deviations of each component. More freedom fits better
# where there are rows enough to fit; the held-out score says whether there are.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Ellipse
from sklearn.datasets import load_wine
from sklearn.model_selection import KFold, cross_val_score

from skgen import EMGaussianMixture, dequantize

wine = load_wine()
columns = [wine.feature_names.index(name) for name in ("flavanoids", "color_intensity")]
X = dequantize(wine.data[:, columns], random_state=0)
folds = KFold(10, shuffle=True, random_state=0)


def ellipse(mean, covariance, **style):
    """Return the ellipse of two standard deviations."""
    values, vectors = np.linalg.eigh(covariance)
    angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
    width, height = 4 * np.sqrt(values[::-1])
    return Ellipse(mean, width, height, angle=angle, fill=False, **style)


def matrix(mixture, k):
    """Return the covariance of component `k` as a matrix."""
    if mixture.covariance_type == "tied":
        return mixture.covariances_
    covariance = mixture.covariances_[k]
    return covariance if covariance.ndim == 2 else covariance * np.eye(2)


types = ("full", "tied", "diag", "spherical")
figure, axes = plt.subplots(
    1, 4, figsize=(11, 3.2), sharex=True, sharey=True, layout="constrained"
)
for axis, covariance_type in zip(axes, types, strict=True):
    mixture = EMGaussianMixture(3, covariance_type=covariance_type, random_state=0)
    score = cross_val_score(mixture, X, cv=folds).mean()
    labels = mixture.fit_predict(X)
    axis.scatter(*X.T, c=labels, s=8, cmap="viridis")
    for k, mean in enumerate(mixture.means_):
        axis.add_patch(ellipse(mean, matrix(mixture, k), color="0.2"))
    axis.set(title=f"{covariance_type}: {score:.2f} nats", xlabel="flavanoids")
axes[0].set_ylabel("colour intensity")
plt.show()

# %%
# How many components
# -------------------
# The mean log-likelihood of the training rows rises with every component, but for
# starts that end in a lesser optimum. That of held-out rows does not, and the Bayesian
# information criterion sees as much without folds.

numbers = np.arange(1, 11)
mixtures = [EMGaussianMixture(K, n_init=5, random_state=0).fit(X) for K in numbers]
training = [mixture.lower_bound_ for mixture in mixtures]
held_out = [cross_val_score(mixture, X, cv=folds).mean() for mixture in mixtures]
bic = [mixture.bic(X) for mixture in mixtures]

figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
axes[0].plot(numbers, training, "o-", label="training rows")
axes[0].plot(numbers, held_out, "o-", label="held-out rows")
axes[0].set(xlabel="components", ylabel="nats per row")
axes[0].legend()
axes[1].plot(numbers, bic, "o-", color="C2")
axes[1].set(xlabel="components", ylabel="BIC (lower is better)")
plt.show()
