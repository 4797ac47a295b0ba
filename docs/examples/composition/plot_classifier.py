"""
A classifier that can draw
==========================

A :py:obj:`skgen.GenerativeClassifier` fits one density to each class and classifies by
Bayes' rule. Any density will do, so that naive Bayes and discriminant analysis are
special cases. The classifier also draws rows of a class, and it can say when a row
looks like no class at all.
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
# Images of 8 x 8 pixels, dequantised: their grey levels are whole numbers from 0 to 16,
# and a density of whole numbers would be infinite.
X, y = load_digits(return_X_y=True)
X = dequantize(X, random_state=0)
train, test, y_train, y_test = train_test_split(X, y, random_state=0)

# %%
# One density for each class
# --------------------------
# The densities of the classes are compared in the units of the pixels, also where each
# stands behind its own principal components.
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
# Draw a seven
# ------------
# `sample` takes a label, or one label for each row that is to be drawn.
classifier = classifiers["PCA(20) + kernel density"]
draws = classifier.sample(y=np.repeat(np.arange(10), 10), random_state=0)
display = SampleDisplay(draws.clip(0, 16).reshape(-1, 8, 8), n_columns=10).plot()
display.ax_.set_title("Ten draws of each class")

# %%
# Rows that look like no class
# ----------------------------
# `predict_proba` compares the classes with each other and is often near 0 or 1. The
# density itself, `score_samples`, shows whether a row resembles the training rows
# at all: here for held-out digits, and for the same images upside down.
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
