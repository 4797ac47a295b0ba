"""
Down by principal components, a density, and back
=================================================

A simple generative model of images has four steps: map images to a few principal
components, estimate the density of these codes, draw codes, and map them back. A grid
search finds the number of components and the bandwidth of the kernel, by the
log-likelihood of held-out images. Scores are in the units of the pixels, so they can
also be compared with models without PCA.
"""

# %%
# The pipeline
# ------------
# Grey levels are whole numbers, which have no density. Uniform noise of one level gives
# them a density. Three pixels are white in every image: they are left out of the models
# and painted white.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold

from skgen import (
    VAE,
    EMGaussianMixture,
    GaussianKDE,
    GenerativePipeline,
    SampleDisplay,
    SGDGaussianMixture,
    dequantize,
)

pixels = load_digits().data
inked = pixels.std(axis=0) > 0
X = dequantize(pixels[:, inked], random_state=0)
X = X[np.random.RandomState(0).permutation(X.shape[0])]
X, held_out = np.split(X, [1500])

pipeline = GenerativePipeline([("pca", PCA()), ("density", GaussianKDE())])
components = [4, 8, 16, 24, 32, 40, 48, 56, 61]
bandwidths = [1.5, 2.0, 2.5, 3.0, 4.0, 5.0]
grid = {"pca__n_components": components, "density__bandwidth": bandwidths}
folds = KFold(5, shuffle=True, random_state=0)
search = GridSearchCV(pipeline, grid, cv=folds).fit(X)
print(search.best_params_)

# %%
# Held-out scores of all choices
# ------------------------------
# With few components, most directions are modelled by normal noise, which is a poor
# model of digits. More components are better, as long as the kernel is not wider than
# the last of them: its width is the same in every direction.

nats = search.cv_results_["mean_test_score"].reshape(len(bandwidths), -1)
figure, axis = plt.subplots(figsize=(6.4, 4), layout="constrained")
for row, h in zip(nats, bandwidths, strict=True):
    shade = plt.cm.viridis(bandwidths.index(h) / len(bandwidths))
    axis.plot(components, row, marker="o", color=shade, label=f"{h:g}")
axis.set(xlabel="principal components", ylabel="held-out nats per image")
axis.set_ylim(nats.max() - 40, nats.max() + 3)
axis.legend(title="bandwidth", ncols=2, loc="upper left")
plt.show()

# %%
# Draws
# -----
# ``sample`` draws from the density that is scored, so its draws contain the noise
# across the components. For draws without noise, draw codes and map them back.


def paint(axis, rows, title):
    """Show rows as a page of images."""
    images = np.zeros((len(rows), 64))
    images[:, inked] = rows
    display = SampleDisplay(images.reshape(-1, 8, 8), n_columns=7)
    display.plot(axis, vmin=0, vmax=16)
    axis.set_title(title)


best = search.best_estimator_
codes = best[-1].sample(49, random_state=0)
_, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
paint(axes[0], held_out[:49], "held-out images")
paint(axes[1], best.sample(49, random_state=0), "sample(49)")
paint(axes[2], best[:-1].inverse_transform(codes), "codes, mapped back")
plt.show()

# %%
# Comparison with other models
# ----------------------------
# Models without PCA have scores in the same units. On these images, a kernel density of
# 48 principal components and a kernel density of the pixels are level. One normal
# density is a few nats behind. Two models are ten nats ahead: a variational
# autoencoder, whose codes are nonlinear, and a mixture whose components each have their
# own directions.

models = {
    "principal components, kernels": best,
    "kernels on the pixels": GaussianKDE(),
    "one normal density": EMGaussianMixture(1),
    "variational autoencoder": VAE(8, max_epochs=60, random_state=0),
    "ten normal densities of low rank": SGDGaussianMixture(
        10, covariance_type="lowrank", rank=8, random_state=0
    ),
}
for name, model in models.items():
    print(f"{name:34s}{model.fit(X).score(held_out):8.1f} nats per image")
