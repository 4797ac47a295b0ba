"""
Outliers: rows of low density
=============================

A :py:obj:`skgen.DensityOutlierDetector` marks the rows with the lowest density. The
first plot shows this for two columns. Then densities of 30 columns, fitted to benign
tumours only, detect malignant tumours, and are compared with scikit-learn's detectors.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import RocCurveDisplay, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import PowerTransformer, StandardScaler

from skgen import (
    DensityOutlierDetector,
    EMGaussianMixture,
    GaussianKDE,
    make_generative_pipeline,
)

# %%
# Two columns
# -----------
# The detector fits the density to all rows. The 5 % of the rows with the lowest density
# are outliers. The boundary is a contour of the density, so it follows clusters of any
# shape.
wine = load_wine(as_frame=True).data[["flavanoids", "color_intensity"]]
detector = DensityOutlierDetector(GaussianKDE(), contamination=0.05).fit(wine)
is_outlier = detector.predict(wine) == -1

axes = [np.linspace(wine[c].min() - 0.7, wine[c].max() + 0.7, 150) for c in wine]
grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
score = detector.decision_function(type(wine)(grid, columns=wine.columns))

fig, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
ax.contourf(*axes, score.reshape(150, 150), levels=[0, np.inf], colors=["#dce9f5"])
ax.contour(*axes, score.reshape(150, 150), levels=[0], colors=["#4477aa"])
for rows, color, label in (
    (~is_outlier, "#555555", "inlier"),
    (is_outlier, "#cc3311", "outlier"),
):
    ax.scatter(*wine[rows].to_numpy().T, s=14, color=color, label=label)
ax.set(xlabel="flavanoids", ylabel="color intensity")
ax.set_title("The 5 % of the wines where the density is lowest")
ax.legend()

# %%
# Thirty columns, and something new
# ---------------------------------
# The detectors are fitted to benign tumours only. A useful detector ranks held-out
# malignant tumours above held-out benign ones: the area under the ROC curve is the
# probability that a malignant tumour is more of an outlier than a benign one.
#
# The columns are skewed and strongly correlated. A power transform, and for the kernel
# density PCA, come before the density. The pipeline's density is still a density of all
# 30 columns, because it includes the noise across the components.
X, y = load_breast_cancer(return_X_y=True)
benign, malignant = X[y == 1], X[y == 0]
train, test = train_test_split(benign, random_state=0)
held_out = np.vstack([test, malignant])
is_malignant = np.repeat([0, 1], [len(test), len(malignant)])

detectors = {
    "one normal density": DensityOutlierDetector(
        make_generative_pipeline(PowerTransformer(), EMGaussianMixture())
    ),
    "PCA(8) + kernel density": DensityOutlierDetector(
        make_generative_pipeline(PowerTransformer(), PCA(8), GaussianKDE())
    ),
    "isolation forest": IsolationForest(random_state=0),
    "local outlier factor": LocalOutlierFactor(novelty=True),
}

fig, ax = plt.subplots(figsize=(5, 4.6), layout="constrained")
scale = StandardScaler().fit(train)
for name, detector in detectors.items():
    # Distances need columns of one scale; densities and trees do not.
    oddness = -detector.fit(scale.transform(train)).score_samples(
        scale.transform(held_out)
    )
    area = roc_auc_score(is_malignant, oddness)
    RocCurveDisplay.from_predictions(is_malignant, oddness, name=name, ax=ax)
    print(f"{name:24} area under the ROC curve {area:.3f}")
ax.set_title("Malignant tumours, after a fit to benign ones")

# %%
# Where to cut
# ------------
# `contamination` is the fraction of the training rows that count as outliers. For a
# model with few parameters, the fraction of new benign rows is about the same.
for contamination in (0.01, 0.05, 0.1):
    detector = detectors["one normal density"].set_params(contamination=contamination)
    found = detector.fit(train).predict(test) == -1
    caught = detector.predict(malignant) == -1
    print(
        f"contamination {contamination:4}: {found.mean():5.1%} of held-out benign "
        f"rows, {caught.mean():5.1%} of malignant ones"
    )
