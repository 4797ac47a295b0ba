"""Draw the picture of the README: ``python docs/overview.py``."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skgen import (
    AutoEncoder,
    EMGaussianMixture,
    GaussianKDE,
    SampleDisplay,
    dequantize,
    make_generative_pipeline,
)

COLUMNS = ["flavanoids", "color_intensity"]
X = load_wine(as_frame=True).data[COLUMNS].to_numpy()
train, test = train_test_split(X, random_state=1)
models = [
    GaussianKDE(),
    EMGaussianMixture(3, random_state=0),
    AutoEncoder(1, hidden_layer_sizes=(32,), max_epochs=300, random_state=0),
]

fig, axes = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
x = np.linspace(-0.3, 4.7, 200)
y = np.linspace(0, 13.5, 200)
grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
for ax, model in zip(axes, models, strict=False):
    model.fit(train)
    density = np.exp(model.score_samples(grid)).reshape(200, 200)
    ax.contourf(x, y, density, levels=12, cmap="Blues")
    ax.plot(*test.T, "o", color="#cc3311", markersize=3)
    name = str(model).partition("(")[0]
    ax.set(title=f"{name}\n{model.score(test):.2f} nats per held-out row")
    ax.set(xlabel="flavanoids", ylabel="color intensity" if ax is axes[0] else "")

digits = dequantize(load_digits().data, random_state=0)
pipeline = make_generative_pipeline(PCA(40), GaussianKDE(3.0)).fit(digits)
draws = pipeline.sample(36, random_state=0).clip(0, 16).reshape(-1, 8, 8)
SampleDisplay(draws, n_columns=6).plot(axes[3])
axes[3].set_title("PCA(40) + GaussianKDE\n36 draws")
fig.savefig(Path(__file__).parent / "_static" / "overview.png", dpi=110)
