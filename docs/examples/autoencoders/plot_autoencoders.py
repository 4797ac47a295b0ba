"""
Autoencoders: codes, their density, and draws
=============================================

An autoencoder, a variational autoencoder and a sliced-Wasserstein autoencoder summarise
images of 64 pixels by codes of eight numbers. This example shows their draws, compares
their log-densities of held-out images with other models, and plots codes of two
numbers.
"""

# %%
# Codes of eight numbers
# ----------------------
# Grey levels are whole numbers, which have no density. Uniform noise of one level gives
# them a density. Three pixels are white in every image: they are left out of the models
# and painted white.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, FactorAnalysis

from skgen import (
    SWAE,
    VAE,
    AutoEncoder,
    EMGaussianMixture,
    SGDGaussianMixture,
    dequantize,
)

pixels, label = load_digits(return_X_y=True)
inked = pixels.std(axis=0) > 0
order = np.random.RandomState(0).permutation(pixels.shape[0])
X = dequantize(pixels[:, inked], random_state=0)[order]
X, held_out = np.split(X, [1500])
label = label[order][:1500]

models = {
    "AutoEncoder": AutoEncoder(8, max_epochs=40, random_state=0),
    "VAE": VAE(8, max_epochs=40, random_state=0),
    "SWAE": SWAE(8, max_epochs=40, random_state=0),
}
for model in models.values():
    model.fit(X)

# %%
# Draws without noise
# -------------------
# ``sample`` draws from the density that is scored, so its draws contain the noise of
# every pixel. For images without noise, draw a code and decode it with
# ``inverse_transform``.
#
# The training of an autoencoder does not make its codes normal. Here they are several
# times wider than :math:`N(0, I)`. Draws from :math:`N(0, I)` lie in the middle of the
# codes and decode to the same few blends. Draws from ``latent_density_`` are mostly
# digits. The two other models were trained for :math:`N(0, I)`, but many of their draws
# are blends too, because the encoder's codes do not fill this density. Draws from the
# VAE are blurred, because its codes have noise in training. Draws from the SWAE are
# sharper, but not more often a digit.


def paint(axis, rows, title):
    """Show 36 rows as a page of images."""
    images = np.zeros((36, 64))
    images[:, inked] = rows
    images = np.pad(images.reshape(6, 6, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
    page = images.transpose(0, 2, 1, 3).reshape(60, 60)
    axis.imshow(page, cmap="gray_r", vmin=0, vmax=16)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=10)


normal = np.random.RandomState(1).standard_normal((36, 8))
autoencoder, vae, swae = models.values()
codes = autoencoder.sample_latent(36, random_state=1)

figure, axes = plt.subplots(2, 3, figsize=(9, 6.4), layout="constrained")
paint(axes[0, 0], X[:36], "rows of the data")
paint(axes[0, 1], autoencoder.inverse_transform(normal), "AutoEncoder, N(0, I)")
paint(axes[0, 2], autoencoder.inverse_transform(codes), "AutoEncoder, latent_density_")
paint(axes[1, 0], vae.inverse_transform(normal), "VAE, N(0, I)")
paint(axes[1, 1], swae.inverse_transform(normal), "SWAE, N(0, I)")
paint(axes[1, 2], vae.sample(36, random_state=1), "VAE, sample: with noise")
plt.show()

# %%
# Log-densities of held-out images
# --------------------------------
# The plot also has linear models with codes of the same size. PCA has one noise
# variance for all pixels. Factor analysis has one for each pixel, like the
# autoencoders. Two mixtures have no codes: one with five full covariances, and one with
# fifteen factor analysers.
#
# The three autoencoders are far better than the linear models, and within two nats of
# the five full covariances. The factor analysers are seven nats ahead of the next
# model.

rivals = {
    "PCA(8)": PCA(8),
    "FactorAnalysis(8)": FactorAnalysis(8),
    "5 full covariances": EMGaussianMixture(5, random_state=0),
    "15 factor analysers": SGDGaussianMixture(
        15, covariance_type="lowrank", rank=5, random_state=0
    ),
}
scores = {name: model.fit(X).score(held_out) for name, model in rivals.items()}
scores |= {f"{name}(8)": model.score(held_out) for name, model in models.items()}

figure, axis = plt.subplots(figsize=(7, 2.8), layout="constrained")
for name, score in sorted(scores.items(), key=lambda pair: pair[1]):
    axis.plot(score, name, "o", color="0.5" if name in rivals else "C0")
    axis.annotate(
        f"{score:.1f}", (score, name), (7, 0), textcoords="offset points", va="center"
    )
axis.set_xlim(right=max(scores.values()) + 7)
axis.set(xlabel="nats per held-out row")
axis.grid(axis="y", alpha=0.4)
plt.show()

# %%
# Codes of two numbers
# --------------------
# The circle contains 95 % of :math:`N(0, I)`. The codes of the autoencoder are
# unrelated to it. The codes of the two other models fill it, with gaps between digits,
# and with some rows far outside.

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for axis, (name, model) in zip(axes, models.items(), strict=True):
    codes = model.set_params(n_components=2).fit_transform(X)
    points = axis.scatter(*codes.T, c=label, cmap="tab10", vmin=-0.5, vmax=9.5, s=4)
    axis.add_patch(plt.Circle((0, 0), 2.448, fill=False, color="0.2"))
    axis.set_title(f"{name}(2): {model.score(held_out):.1f} nats", fontsize=10)
    axis.set_aspect("equal", "datalim")
figure.colorbar(points, ax=axes, ticks=range(10), label="digit")
plt.show()
