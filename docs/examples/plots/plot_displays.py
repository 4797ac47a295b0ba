"""
Plots of a fitted model
=======================

``DensityDisplay`` shows the density of a model beside the data, and ``SampleDisplay``
shows draws as images. Both take any fitted estimator with ``sample``, of skgen or of
scikit-learn.
"""

# %%
# One feature
# -----------
# The density is a curve over a histogram of the data. A second model can be drawn on
# the same axes. With ``show_data=False`` it does not draw the histogram again.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits, load_wine
from sklearn.mixture import GaussianMixture

from skgen import AutoEncoder, EMGaussianMixture, GaussianKDE, dequantize
from skgen.display import DensityDisplay, SampleDisplay

columns = ["flavanoids", "color_intensity", "alcohol", "proline"]
wine = load_wine(as_frame=True).data[columns]

X = wine[["flavanoids"]]
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
DensityDisplay.from_estimator(GaussianKDE(0.2).fit(X), X, ax=ax, name="bandwidth 0.2")
DensityDisplay.from_estimator(
    GaussianKDE("scott").fit(X),
    X,
    ax=ax,
    name="Scott's rule",
    color="#D55E00",
    show_data=False,
)
plt.show()

# %%
# Two features
# ------------
# The darkest region is the smallest region with half of the model's probability mass.
# The next two have 90 % and 99 %. If the model is right, half of the rows lie in the
# darkest region, and one in a hundred lies outside all regions.

X = wine[["flavanoids", "color_intensity"]]
models = GaussianKDE(), EMGaussianMixture(3, random_state=0), GaussianMixture(1)
figure, axes = plt.subplots(
    1, 3, figsize=(11, 4.2), sharex=True, sharey=True, layout="constrained"
)
for ax, model in zip(axes, models, strict=True):
    DensityDisplay.from_estimator(model.fit(X), X, ax=ax, random_state=0)
plt.show()

# %%
# More features
# -------------
# A corner plot compares draws with the data: single columns on the diagonal, and pairs
# of columns below it. A mixture of one component has the means and covariances of the
# data. Every panel shows what it misses.

display = DensityDisplay.from_estimator(
    EMGaussianMixture(1).fit(wine), wine, random_state=0
)
plt.show()

# %%
# Images
# ------
# ``image_shape`` turns rows of pixels into images: draws with the noise that is part of
# the density, draws without it, and rows above their reconstructions.

pixels = dequantize(load_digits().data, random_state=0)
autoencoder = AutoEncoder(8, max_epochs=40, random_state=0).fit(pixels)

figure, axes = plt.subplots(3, 1, figsize=(6.4, 3.6), layout="constrained")
options = {"image_shape": (8, 8), "vmin": 0, "vmax": 17, "random_state": 0}
for ax, noise in zip(axes, (True, False), strict=False):
    SampleDisplay.from_estimator(
        autoencoder, n_images=30, n_columns=15, noise=noise, ax=ax, **options
    )
    ax.set_title("draws" if noise else "means of draws", loc="left")
SampleDisplay.from_estimator(
    autoencoder, pixels[:15], n_columns=15, ax=axes[2], **options
)
plt.show()
