"""
A classifier that can draw
==========================

A :py:obj:`skgen.GenerativeClassifier` fits one density to each class and classifies by
Bayes' rule. The density can be any model: naive Bayes and discriminant analysis are
special cases. The classifier can also draw rows of a class, and detect rows that
resemble no class at all.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgen import (
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    SampleDisplay,
    dequantize,
    make_generative_pipeline,
)

# %%
# Digits
# ------
# Images of 8 x 8 pixels. Their grey levels are whole numbers from 0 to 16, for which a
# density has no upper bound, so they are dequantised.
X, y = load_digits(return_X_y=True)
X = dequantize(X, random_state=0)
train, test, y_train, y_test = train_test_split(X, y, random_state=0)

# %%
# One density for each class
# --------------------------
# Each class has its own principal components. The densities can still be compared,
# because a pipeline's density is in the units of the pixels.
densities = {
    "one normal density": make_generative_pipeline(PCA(20), EMGaussianMixture()),
    "two components": make_generative_pipeline(
        PCA(20), EMGaussianMixture(2, random_state=0)
    ),
    "kernel density": make_generative_pipeline(PCA(20), GaussianKDE()),
}
classifiers = {
    f"PCA(20) + {name}": GenerativeClassifier(density)
    for name, density in densities.items()
}
classifiers["GaussianNB"] = GaussianNB()
classifiers["QDA"] = make_pipeline(
    PCA(20, random_state=0), QuadraticDiscriminantAnalysis()
)
classifiers["logistic regression"] = make_pipeline(
    StandardScaler(), LogisticRegression(max_iter=2000)
)
for name, classifier in classifiers.items():
    classifier.fit(train, y_train)
    loss = log_loss(y_test, classifier.predict_proba(test))
    print(
        f"{name:30} accuracy {classifier.score(test, y_test):.3f}, log loss {loss:.3f}"
    )

# %%
# Draws of each class
# -------------------
# `sample` takes a label, or an array with the label of each row to draw.
classifier = classifiers["PCA(20) + kernel density"]
draws = classifier.sample(y=np.repeat(np.arange(10), 10), random_state=0)
display = SampleDisplay(draws.clip(0, 16).reshape(-1, 8, 8), n_columns=10).plot()
display.ax_.set_title("Ten draws of each class")

# %%
# Rows that look like no class
# ----------------------------
# `predict_proba` compares the classes with each other, and is often near 0 or 1. The
# density itself, `score_samples`, shows whether a row resembles any training row: here
# for held-out digits, and for the same images upside down.
upside_down = test.reshape(-1, 8, 8)[:, ::-1].reshape(-1, 64)
fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for name, rows in (("held-out digits", test), ("upside down", upside_down)):
    ax.hist(
        classifier.score_samples(rows),
        bins=np.linspace(-230, -90, 60),
        alpha=0.6,
        label=name,
    )
    sure = (classifier.predict_proba(rows).max(axis=1) > 0.99).mean()
    print(f"{name}: {sure:.0%} have a class with a probability above 0.99")
ax.set(xlabel="log-density in nats", ylabel="rows")
ax.legend()
