"""
A map of 218,396 earthquakes
============================

A kernel density of all earthquakes of magnitude 4.5 and above from 1979 to 2019, with
the bandwidth that maximises the leave-one-out likelihood.
"""

# %%
# One fit
# -------
# The table has a row for each earthquake. Only longitude and latitude are used here.
# The environment variable ``SKGEN_DATA`` is the folder with the data.

import os
from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

from skgen import GaussianKDE

with np.load(Path(os.environ["SKGEN_DATA"], "earthquakes",
                  "earthquakes_m45_1979_2019.npz")) as table:  # fmt: skip
    X = table["data"][:, 1:3]

start = perf_counter()
kde = GaussianKDE("likelihood").fit(X)
seconds = perf_counter() - start
print(f"{len(X):,} rows, fitted in {seconds:.1f} s")
print(f"bandwidth {kde.bandwidth_[0]:.2f} degrees, summed by {kde.algorithm_!r}")
print(f"leave-one-out log-density {kde.loo_score_:.2f} nats per earthquake")

# %%
# The likelihood chooses kernels of a third of a degree, with the same width in both
# directions. Scott's rule multiplies the covariance of the whole map instead, and gives
# about fifteen degrees: it suits one normal cluster, and earthquakes follow the borders
# of plates. The scores of both densities are in nats and in the units of the data, so
# they can be compared. For scale, the log-density of a uniform density over the map is
# minus the logarithm of its area.

some = np.random.default_rng(0).permutation(len(X))
held_out, rest = X[some[:20_000]], X[some[20_000:]]
for rule in ("scott", "likelihood"):
    score = GaussianKDE(rule).fit(rest).score(held_out)
    print(f"{rule:10s} {score:6.2f} nats per earthquake that was held out")
print(f"even map   {-np.log(360 * 180):6.2f}")

# %%
# The map
# -------
# The map has a quarter of a million points, most of them far from earthquakes. Where
# the density is high, it is computed by Fourier transforms, and elsewhere by exact
# sums: the log-density is accurate even in the middle of the Sahara.

longitude, latitude = np.linspace(-180, 180, 721), np.linspace(-90, 90, 361)
points = np.stack(np.meshgrid(longitude, latitude), axis=-1).reshape(-1, 2)
start = perf_counter()
log_density = kde.score_samples(points).reshape(361, 721)
print(f"{len(points):,} points of a map in {perf_counter() - start:.1f} s")
start = perf_counter()
kde.score_samples(X)
print(f"{len(X):,} earthquakes in {perf_counter() - start:.1f} s")
print(f"from {log_density.min():.0f} to {log_density.max():.1f} nats")

years = 2019.5 - 1979.0
a_year = len(X) / years * np.exp(log_density)  # a square degree and year

figure, axis = plt.subplots(figsize=(9, 4.6), layout="constrained")
image = axis.pcolormesh(
    longitude, latitude, np.clip(a_year, 1e-3, None), norm=LogNorm(1e-3, 10),
    cmap="magma", rasterized=True,
)  # fmt: skip
figure.colorbar(image, label="earthquakes a year and square degree", shrink=0.8)
axis.set(xlabel="longitude", ylabel="latitude", aspect="equal")
axis.set_title("Earthquakes of magnitude 4.5 and above, 1979 to 2019")
plt.show()

# %%
# Draws from both densities. The kernels of Scott's rule are so wide that it draws
# earthquakes in the middle of the Pacific.

figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), layout="constrained")
scott = GaussianKDE().fit(X)
pictures = {
    "5,000 earthquakes": X[some[:5000]],
    '5,000 draws, "likelihood"': kde.sample(5000, random_state=0),
    '5,000 draws, "scott"': scott.sample(5000, random_state=0),
}
for axis, (title, drawn) in zip(axes, pictures.items(), strict=True):
    axis.plot(*drawn.T, ".", markersize=1, alpha=0.5)
    axis.set(title=title, xlim=(-180, 180), ylim=(-90, 90), xlabel="longitude")
axes[0].set_ylabel("latitude")
for axis in axes[1:]:
    axis.set_yticklabels([])
plt.show()

# %%
# The map is flat, and the Earth is not: a square degree is smaller near the poles, and
# kernels at 180 degrees of longitude reach off the map. Less than one per cent of the
# density lies off the map:

on_map = np.exp(log_density).mean() * 360 * 180
print(f"{on_map:.3f} of the density is on the map")
