"""
Autoencoders: codes, their density, and draws
=============================================

Images of 64 pixels through codes of eight numbers: an autoencoder, a variational one
and a sliced-Wasserstein one. What each draws, what each is worth in nats on rows that
were held out, and where codes of two numbers lie.
"""

# %%
# Codes of eight numbers
# ----------------------
# Grey levels are whole numbers: noise of one level makes them a density. Three pixels
# are never inked and have none; they are left out, and painted white.

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
# ``sample`` draws from the density that is scored, and so adds the noise of every
# pixel. The decoder's means are pictures without it: a code is drawn, and
# ``inverse_transform`` decodes it.
#
# Nothing told the autoencoder that codes should be normal. Its own are several times
# wider than $N(0, I)$, whose draws fall into the middle of them and decode to the same
# few blends. Draws from its ``latent_density_`` are mostly digits. The other two were
# trained for $N(0, I)$, and yet many of their draws are blends: the codes that the
# encoder makes do not fill it. Those of the VAE are blurred, as every code met its
# noise in training; those of the SWAE are sharper, and no more often a digit.


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
# Nats on held-out rows
# ---------------------
# Beside them, linear models of the same code size: PCA has one variance for the noise
# of all pixels, factor analysis one for each, as the autoencoders have. And two
# mixtures, which summarise nothing: five whole covariances, and fifteen factor
# analysers.
#
# The three stand well above the linear models, and within two nats of the five
# covariances; the factor analysers are seven nats ahead of the next best.

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
# The circle holds 95 % of $N(0, I)$. The codes of the autoencoder know nothing of it;
# those of the other two fill it, with gaps between digits and rows far outside.

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for axis, (name, model) in zip(axes, models.items(), strict=True):
    codes = model.set_params(n_components=2).fit_transform(X)
    points = axis.scatter(*codes.T, c=label, cmap="tab10", vmin=-0.5, vmax=9.5, s=4)
    axis.add_patch(plt.Circle((0, 0), 2.448, fill=False, color="0.2"))
    axis.set_title(f"{name}(2): {model.score(held_out):.1f} nats", fontsize=10)
    axis.set_aspect("equal", "datalim")
figure.colorbar(points, ax=axes, ticks=range(10), label="digit")
plt.show()
