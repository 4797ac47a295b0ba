"""
Gaussian mixture: covariance types and number of components
===========================================================

Mixtures with the four covariance types, fitted to two columns of scikit-learn's wine
data, and the choice of the number of components by held-out likelihood and BIC.
"""

# %%
# Four covariance types
# ---------------------
# Ellipses show two standard deviations of each component. A type with more parameters
# fits better if there are enough rows, which the held-out score shows.

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
# Number of components
# --------------------
# The mean log-likelihood of the training rows increases with every component, unless EM
# ends in a lower optimum. The mean log-likelihood of held-out rows does not. The
# Bayesian information criterion (BIC) gives the same information without folds.

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
