"""
Mixtures by gradient descent: learning curve, stream, and draws of digits
=========================================================================

The same mixture is fitted by EM, by gradient descent over several epochs, and by
gradient descent over a stream that is read once. Then a mixture of factor analysers is
fitted to images of 64 pixels.
"""

# %%
# A fit and a stream
# ------------------
# Twenty thousand rows come from five clusters. ``history_`` is the learning curve of a
# fit, in nats per row. The stream is scored after each block of 500 rows.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skgen import EMGaussianMixture, SGDGaussianMixture

rng = np.random.RandomState(0)
centres = rng.uniform(-4, 4, size=(5, 2))
shapes = rng.standard_normal((5, 2, 2))
label = rng.randint(5, size=22_000)
X = centres[label] + np.einsum(
    "nij,nj->ni", shapes[label], rng.standard_normal((22_000, 2))
)
X, held_out = np.split(X, [20_000])

em = EMGaussianMixture(5, random_state=0).fit(X)
batch = SGDGaussianMixture(5, random_state=0).fit(X)
stream, seen, scores = SGDGaussianMixture(5, random_state=0), [], []
for block in np.split(X, 40):
    stream.partial_fit(block)
    seen.append((len(seen) + 1) / 2)
    scores.append(stream.score(held_out))

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
epochs = [epoch["epoch"] for epoch in batch.history_]
axes[0].plot(epochs, [-e["train"] for e in batch.history_], label="batches")
axes[0].plot(epochs, [-e["validation"] for e in batch.history_], label="held-out rows")
axes[0].set(title="fit", xlabel="epochs", ylabel="nats per row")
axes[1].plot(seen, scores, color="C2", label="other held-out rows")
axes[1].set(title="partial_fit", xlabel="thousand rows seen, once")
for axis in axes:
    axis.axhline(em.score(held_out), color="0.3", linestyle=":", label="EM")
    axis.legend(loc="lower right")
plt.show()

# %%
# Draws of digits
# ---------------
# Each of fifteen components has five directions in which its pixels vary together. The
# diagonal mixture draws each pixel independently.

# Grey levels are whole numbers. Uniform noise of one level gives them a density, also
# for the pixels in the corners that are white in every image.
digits = load_digits().data
digits = rng.permutation(digits + rng.uniform(size=digits.shape))
digits, held_out = np.split(digits, [1500])
low_rank = SGDGaussianMixture(15, covariance_type="lowrank", rank=5, random_state=0)
diagonal = SGDGaussianMixture(15, covariance_type="diag", random_state=0)

figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
pages = {"rows of the data": digits[:36]}
for title, model in (("diag", diagonal), ("lowrank, rank 5", low_rank)):
    score = model.fit(digits).score(held_out)
    pages[f"{title}: {score:.1f} nats"] = model.sample(36, random_state=1)
for axis, (title, rows) in zip(axes, pages.items(), strict=True):
    images = np.pad(rows.reshape(6, 6, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
    page = images.transpose(0, 2, 1, 3).reshape(60, 60)
    axis.imshow(page, cmap="gray_r", vmin=0, vmax=16)
    axis.set(title=title, xticks=[], yticks=[])
plt.show()
