"""
The lower half of a digit, given its upper half
===============================================

Every model on this page was fitted once, to whole digits. It then draws the missing
lower half of digits that it has not seen: NaN means "not observed".
"""

# %%
# Fit
# ---
# Pixels without ink in all digits are left out, and the others get noise within their
# rounding, because a density of counts has no maximum likelihood.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skgen import VAE, GaussianKDE, SGDGaussianMixture, dequantize

pixels, label = load_digits(return_X_y=True)
inked = pixels.std(axis=0) > 0
X = dequantize(pixels[:, inked], random_state=0)
train, test, _, digit = train_test_split(
    X, label, test_size=400, random_state=0, stratify=label
)
models = {
    "mixture": SGDGaussianMixture(
        20, covariance_type="lowrank", rank=6, max_epochs=40, random_state=0
    ),
    "kernel density": GaussianKDE("likelihood", random_state=0),
    "VAE": VAE(8, max_epochs=60, random_state=0),
}
for model in models.values():
    model.fit(train)

# %%
# Hide the lower half
# -------------------
# The score of a row with missing values is the log-density of its observed values. It
# compares models on the upper halves.

lower = np.flatnonzero(inked) >= 32
first = [np.flatnonzero(digit == k)[0] for k in (0, 2, 3, 4, 5, 7, 8, 9)]
hidden = test.copy()
hidden[:, lower] = np.nan
for name, model in models.items():
    print(f"{name}: {model.score(hidden[first]):.1f} nats")

# %%
# Ten draws
# ---------
# On the left of each line are the digit and the mean of its missing pixels; the other
# ten are draws from their conditional density. The upper halves of a two and a three
# can look alike, so the draws of the third line are twos and threes.


def page(model):
    """Return a line of images for each digit: the digit, the mean, ten draws."""
    rows = hidden[first]
    draws = model.sample_conditional(rows, 10, random_state=0)
    lines = np.concatenate([test[first][None], model.impute(rows)[None], draws])
    images = np.zeros((*lines.shape[:2], 64))
    images[:, :, inked] = lines
    images = images.reshape(*lines.shape[:2], 8, 8)
    images = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return images.transpose(1, 2, 0, 3).reshape(len(first) * 10, -1)


figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
for axis, (name, model) in zip(axes, models.items(), strict=True):
    axis.imshow(page(model), cmap="gray_r", vmin=0, vmax=16)
    axis.set(xticks=[], yticks=[], title=name)

# %%
# The draws of the VAE contain the noise of the pixels. The kernel density draws the
# lower half of a training digit with a similar upper half.
