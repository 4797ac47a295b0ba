"""
Days of bicycles: pipelines, holidays and odd days
==================================================

Counts of the bicycles that crossed Seattle's Fremont Bridge in each hour of about 2,200
days. This example fits a density of whole days, finds holidays with a classifier made
of two densities, and lists the least probable days.
"""

# %%
# A row for each day
# ------------------
# The data are the Fremont Bridge Bicycle Counter of the city, from
# `data.seattle.gov <https://data.seattle.gov>`_, October 2012 to November 2018. Jake
# VanderPlas had the idea to look for work and holidays in them [1]_. The environment
# variable ``SKGEN_DATA`` is the folder with the file.
#
# A day has 24 counts, the sums of both sidewalks. Days with a blank hour are left out.
# Counts are whole numbers, and small at night: uniform noise of one unit gives them a
# density. After a shift by one half, a count :math:`c` lies between :math:`c` and
# :math:`c + 1`, so that every value has a square root.

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from pandas.tseries.holiday import USFederalHolidayCalendar
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.preprocessing import FunctionTransformer

from skgen import (
    DensityOutlierDetector,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    dequantize,
    make_generative_pipeline,
)

table = pd.read_csv(
    Path(os.environ["SKGEN_DATA"], "fremont_bridge", "Fremont.csv"),
    encoding="utf-8-sig",
    index_col="Date",
    date_format="%m/%d/%Y %I:%M:%S %p",
)
hours = table.sum(axis=1, skipna=False)
hours.index = pd.MultiIndex.from_arrays([hours.index.normalize(), hours.index.hour])
every_day = hours.unstack()
counts = every_day.dropna()
days = counts.index
X = dequantize(counts.to_numpy(), random_state=0) + 0.5
print(f"{len(every_day)} days, {len(every_day) - len(days)} of them with a blank hour")

# %%
# One density of all days
# -----------------------
# Some choices have to be made: principal components of the counts or of their square
# roots, the number of components, and a mixture or kernels as the density of the codes.
# A pipeline's ``score_samples`` is always the log-density of the counts, so
# ``GridSearchCV`` can compare all of them. Days of one week are alike, and folds keep
# them together.
#
# The best pipelines start with square roots, and score four nats per day more than the
# best without. PCA models what the components leave over as noise with one variance.
# The standard deviation of this rest differs between the hours by a factor of three for
# square roots, and of twenty for counts.

week = (days - pd.Timestamp("2012-10-01")) // pd.Timedelta(weeks=1)
folds = list(GroupKFold(5, shuffle=True, random_state=0).split(X, groups=week))

root = FunctionTransformer(np.sqrt, np.square)
mixture = EMGaussianMixture(n_init=2, random_state=0)
space, components = "functiontransformer", "pca__n_components"
shared = {space: [root, "passthrough"], components: [2, 12, 24]}
search = GridSearchCV(
    make_generative_pipeline(root, PCA(whiten=True), mixture),
    [
        shared | {"emgaussianmixture__n_components": [1, 4]},
        shared | {"emgaussianmixture": [GaussianKDE(0.5), GaussianKDE(0.8)]},
    ],
    cv=folds,
).fit(X)

tried = pd.DataFrame(search.cv_results_["params"])
tried = pd.DataFrame(
    {
        "counts": np.where(
            tried[space] == "passthrough", "as they are", "square roots"
        ),
        "components": tried[components],
        "density": [
            f"{K:.0f} normal" if K > 0 else f"kernels of {kernel.bandwidth}"
            for K, kernel in zip(
                tried["emgaussianmixture__n_components"],
                tried["emgaussianmixture"],
                strict=True,
            )
        ],
        "nats per day": search.cv_results_["mean_test_score"].round(1),
    }
)
tried = tried.sort_values("nats per day", ascending=False)
print(tried.head(12).to_string(index=False))

for name, Y in (("counts", X), ("square roots", np.sqrt(X))):
    pca = PCA(12).fit(Y)
    left = (Y - pca.inverse_transform(pca.transform(Y))).std(axis=0)
    print(f"left over of {name}: {left.min():.2f} to {left.max():.2f}")

# %%
# ``sample`` transforms draws back through the steps, and adds the noise that PCA left
# out. Draws are in the units of the counts, and counts after rounding down. Like the
# data, they show two kinds of days. Four days of each plot are in colour.

model = search.best_estimator_
draws = np.floor(model.sample(len(X), random_state=0))

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
for axis, rows, title in (
    (axes[0], counts.to_numpy(), "days of the data"),
    (axes[1], draws, "draws"),
):
    axis.plot(rows[::4].T, color="0.3", alpha=0.05, lw=0.8)
    for i, color in enumerate(("#0072B2", "#D55E00", "#009E73", "#000000")):
        axis.plot(rows[i], color=color, lw=1.4)
    axis.set(title=title, xlabel="hour", xlim=(0, 23), xticks=range(0, 24, 6))
axes[0].set(ylabel="bicycles an hour", ylim=(0, 1000))
plt.show()

# %%
# Weekdays and weekends
# ---------------------
# A density of weekdays, a density of weekends and Bayes' rule make a classifier. Here
# each density has two components. Every day is classified by densities that were fitted
# to other weeks.
#
# All weekdays that are classified as weekend are federal holidays or the day after
# Thanksgiving, although no calendar of holidays was used. People stay at home on
# Memorial Day, Labor Day, Thanksgiving and Christmas, and cycle to work on Columbus
# Day, Veterans Day, Presidents' Day and Martin Luther King's birthday.

weekend = days.day_of_week >= 5
density = EMGaussianMixture(2, n_init=3, random_state=0)
classifier = GenerativeClassifier(make_generative_pipeline(root, PCA(10), density))
judged = cross_val_predict(classifier, X, weekend, cv=folds)
day_off = judged & ~weekend
print(f"accuracy {np.mean(judged == weekend):.1%}, {day_off.sum()} weekdays off")

calendar = USFederalHolidayCalendar()
name = calendar.holidays(days[0], days[-1], return_name=True)
after = name.index[name == "Thanksgiving Day"] + pd.Timedelta(days=1)
name = pd.concat([name, pd.Series("day after Thanksgiving", after)])
name = name.reindex(days).fillna("any other")
by_name = pd.Series(day_off[~weekend]).groupby(name[~weekend].to_numpy())
print(by_name.agg(called_weekend="sum", of="size").sort_values("called_weekend"))

figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
axis.plot(counts[day_off].T, color="#D55E00", lw=0.7, alpha=0.5)
axis.plot([], color="#D55E00", label=f"{day_off.sum()} weekdays called weekend")
for rows, color, label in (
    (~weekend, "#0072B2", "weekdays"),
    (weekend, "#000000", "weekends"),
):
    axis.fill_between(
        range(24),
        *counts[rows].quantile([0.1, 0.9]).to_numpy(),
        color=color,
        alpha=0.15,
    )
    axis.plot(
        counts[rows].mean(), color=color, lw=2, label=f"{label}: mean, 10 to 90 %"
    )
axis.set(xlabel="hour", ylabel="bicycles an hour", xlim=(0, 23), ylim=(0, None))
axis.set_xticks(range(0, 24, 6))
axis.legend(loc="upper left", frameon=False, fontsize=9)
plt.show()

# %%
# Unusual days
# ------------
# The density also finds the least probable days, again without the rows of their week.
# The grey band behind each of nine days is the range (5 to 95 %) of days of the same
# kind, weekdays or weekends, among the 45 days before and after. Some of the nine are
# Fridays in June and July with a crowd at nine or ten in the evening. One day has a
# crowd at three in the morning, and a Fourth of July one before midnight. Two days lack
# most of an hour: 4 bicycles at 10:00 on 11 October 2012, and 69 at 18:00 on 13 July
# 2017, in the evening rush.

nats = np.empty(len(X))
for train, test in folds:
    detector = DensityOutlierDetector(clone(model), contamination=0.01).fit(X[train])
    nats[test] = detector.score_samples(X[test])

figure, axes = plt.subplots(
    3, 3, figsize=(9, 6.6), sharex=True, sharey=True, layout="constrained"
)
for axis, i in zip(axes.flat, np.argsort(nats), strict=False):
    near = (np.abs((days - days[i]).days) <= 45) & (weekend == weekend[i])
    near &= days != days[i]
    low, high = counts[near].quantile([0.05, 0.95]).to_numpy()
    axis.fill_between(range(24), low, high, color="0.8", lw=0)
    axis.plot(counts.iloc[i], color="#D55E00", lw=1.5)
    axis.set_title(f"{days[i]:%a %Y-%m-%d}, {nats[i]:.0f} nats", fontsize=10)
axes[0, 0].set(xlim=(0, 23), ylim=(0, 950), xticks=range(0, 24, 6))
figure.supxlabel("hour", fontsize=10)
figure.supylabel("bicycles an hour", fontsize=10)
plt.show()

# %%
# .. [1] VanderPlas, J. (2015). Learning Seattle's work habits from bicycle counts.
#    Pythonic Perambulations.
