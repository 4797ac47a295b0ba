"""
Kernel density and its bandwidth
================================

The density of one column of scikit-learn's wine data under three bandwidths, and the
score of each on held-out rows. Then a density of two columns, and draws from it.
"""

# %%
# One feature
# -----------
# Half of the rows are held out. A narrow kernel repeats the training rows, and a wide
# kernel blurs them. The mean log-density of the held-out half, in nats per row, shows
# which is better.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV, KFold, train_test_split

from skgen import GaussianKDE, dequantize

wine = load_wine()
columns = [wine.feature_names.index(name) for name in ("flavanoids", "color_intensity")]
X = dequantize(wine.data[:, columns], random_state=0)
train, test = train_test_split(X, test_size=0.5, random_state=0)

grid = np.linspace(-0.5, 6.0, 400)[:, None]
figure, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True, layout="constrained")
for axis, bandwidth in zip(axes, (0.04, "scott", 1.0), strict=True):
    kde = GaussianKDE(bandwidth).fit(train[:, :1])
    axis.plot(grid, np.exp(kde.score_samples(grid)))
    axis.plot(train[:, 0], np.full(train.shape[0], -0.02), "|", color="0.4")
    score = kde.score(test[:, :1])
    axis.set(xlabel="flavanoids", title=f"bandwidth={bandwidth!r}: {score:.2f} nats")
axes[0].set_ylabel("density")
plt.show()

# %%
# Choosing the bandwidth
# ----------------------
# Cross-validation maximises ``score``. It has the same units for numbers and for rules,
# so one search covers both.

choices = [*np.geomspace(0.03, 2, 15), "scott", "silverman"]
folds = KFold(10, shuffle=True, random_state=0)
search = GridSearchCV(GaussianKDE(), {"bandwidth": choices}, cv=folds).fit(X[:, :1])
search.best_params_, round(search.best_score_, 3)

# %%
# Two features, and draws
# -----------------------
# With ``covariance_type="full"``, the default for Scott's rule, the kernel has the
# correlation of the data. Draws come from the density that the contours show.

kde = GaussianKDE().fit(X)
x, y = np.meshgrid(np.linspace(-0.5, 6, 120), np.linspace(0, 14, 120))
log_density = kde.score_samples(np.column_stack([x.ravel(), y.ravel()]))
draws = kde.sample(X.shape[0], random_state=0)

figure, axes = plt.subplots(
    1, 2, figsize=(8, 3.6), sharex=True, sharey=True, layout="constrained"
)
for axis, points, title in zip(axes, (X, draws), ("data", "draws"), strict=True):
    axis.contour(x, y, np.exp(log_density.reshape(x.shape)), levels=8, linewidths=0.7)
    axis.plot(*points.T, ".", color="0.3", markersize=4)
    axis.set(title=title, xlabel="flavanoids")
axes[0].set_ylabel("colour intensity")
plt.show()
