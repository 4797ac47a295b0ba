"""
Labels: classes of codes, draws of a class, and style
=====================================================

Few labels shape a whole table: this example plots codes of digits without and with
labels, draws digits of each class, and decodes one code as every digit.
"""

# %%
# Codes of two numbers, without and with labels
# ---------------------------------------------
# A sliced-Wasserstein autoencoder matches codes to a normal density. With labels, each
# class has a component of its own.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skgen import SemiSupervisedSWAE, SemiSupervisedVAE, dequantize

pixels, label = load_digits(return_X_y=True)
inked = pixels.std(axis=0) > 0
X = dequantize(pixels[:, inked], random_state=0)
order = np.random.RandomState(0).permutation(len(X))
half = np.where(np.isin(np.arange(len(X)), order[:900]), label, -1)

figure, axes = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
for axis, y, title in (
    (axes[0], None, "without labels"),
    (axes[1], half, "with 900 labels of 1,797"),
):
    model = SemiSupervisedSWAE(2, max_epochs=30, random_state=0).fit(X, y)
    codes = model.transform(X)
    axis.scatter(*codes.T, c=label, cmap="tab10", s=4)
    axis.set_title(title)

# %%
# Draws of each class, and style
# ------------------------------
# With ten labels for each digit, the variational autoencoder draws digits of a class.
# The draws contain the noise of the pixels. The code of this model is independent of
# the class. On the right, each line decodes one code as every digit: the digits of a
# line share their slant and thickness.

few = np.full(len(X), -1)
for digit in range(10):
    few[order[label[order] == digit][:10]] = digit
model = SemiSupervisedVAE(8, max_epochs=60, random_state=0).fit(X, few)


def paint(axis, rows, title):
    """Show 80 rows as a page of images, ten in a line."""
    images = np.zeros((len(rows), 64))
    images[:, inked] = rows
    images = np.pad(images.reshape(-1, 10, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
    page = images.transpose(0, 2, 1, 3).reshape(-1, 100)
    axis.imshow(page, cmap="gray_r", vmin=0, vmax=16)
    axis.set(xticks=[], yticks=[], title=title)


digits = np.tile(np.arange(10), 8)
figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
paint(axes[0], model.sample(y=digits, random_state=0), "draws of each class")
style = np.repeat(model.sample_latent(8, random_state=0), 10, axis=0)
paint(axes[1], model.inverse_transform(style, y=digits), "one code in each line")

# %%
# Errors
# ------
# The class of rows without a label, by Bayes' rule on the density or by the encoder:

unlabelled = order[-200:]
unlabelled = unlabelled[few[unlabelled] < 0]
by_density = model.predict(X[unlabelled])
by_encoder = model.set_params(classify_by="encoder").predict(X[unlabelled])
for name, predicted in (("density", by_density), ("encoder", by_encoder)):
    print(f"{name}: {100 * (predicted != label[unlabelled]).mean():.1f} % wrong")
