"""Days of bicycle counts: one density, workdays and days off, unusual days.

Counts of every hour on Seattle's Fremont Bridge make a row of 24 numbers a day. After
VanderPlas, "Learning Seattle's work habits from bicycle counts" (2015), with scores in
the units of the counts.
"""

import os
import sys
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from pandas.tseries.holiday import USFederalHolidayCalendar
from pandas.tseries.offsets import Day
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skgen import (
    DensityOutlierDetector,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    GenerativePipeline,
    dequantize,
    make_generative_pipeline,
)

_FOLDS = 5
_SHOWN = 20

# What the counts go through before anything else.
_SPACES = {
    "counts": "passthrough",
    "sqrt": FunctionTransformer(np.sqrt, np.square),
    "log1p": FunctionTransformer(np.log1p, np.expm1),
}
_ALL_HOURS = 24
_COMPONENTS = (2, 4, 8, 10, 12, 16, _ALL_HOURS)
_NORMALS = (1, 2, 4, 6, 8, 10)
_KERNELS = (0.3, 0.4, 0.5, 0.6, 0.8, 1.0)  # standard deviations of whitened components

# A counter is blind in an hour without counts in which the other has at least this
# number, and faulty on a day with at least this number of blind hours.
_OTHER_COUNTS, _BLIND_HOURS = 15, 3

# The first weeks, which later ones are held against.
_FIRST_WEEKS = 90


def fremont(options):
    """Return the section on days of bicycle counts, in Markdown.

    Parameters
    ----------
    options : argparse.Namespace
        Its `scale` shrinks the work for a smoke test.

    Returns
    -------
    str
    """
    start = perf_counter()
    with warnings.catch_warnings():
        # Of the larger of the mixtures that are tried some components collapse.
        warnings.simplefilter("ignore", ConvergenceWarning)
        parts = _parts(options)
    return "\n\n".join([*parts, f"Total time: {perf_counter() - start:.0f} s."])


def _parts(options):
    """Return the paragraphs and tables."""
    counts, sidewalks, blank = _days(options)
    # Shifted, so that a count c fills [c, c + 1) and every row has a square root.
    X = dequantize(counts.to_numpy(), random_state=0) + 0.5
    folds = _folds(counts.index, seed=0)
    ordinary, best, nats = _ordinary(X, counts.index, folds, options)
    return [
        f"{len(counts):,} days of {_ALL_HOURS} counts, {counts.index[0]:%B %Y} to "
        f"{counts.index[-1]:%B %Y}, the sum of both sidewalks. {len(blank)} days with "
        f"a blank hour are left out ({', '.join(f'{day:%Y-%m-%d}' for day in blank)}). "
        "On days when the clock is put back, the table has one of the two equal "
        "hours, and these days are kept. Counts are dequantised. Unless noted "
        f"otherwise, scores are for days of weeks that the model did not see: {_FOLDS} "
        "folds of whole weeks, in random order. They are likelihoods of other days of "
        "the same six years, not forecasts.",
        ordinary,
        _weekends(X, counts.index, folds, best, options),
        _unusual(X, counts, folds, best, nats),
        _faults(X, counts.index, sidewalks, nats),
    ]


# -- the table ---------------------------------------------------------------------


def _days(options):
    """Return counts (days, 24), counts of each sidewalk, and the days left out."""
    root = os.environ.get("SKGEN_DATA")
    if not root:
        sys.exit("fremont: SKGEN_DATA is not set, nothing to fit")
    hours = pd.read_csv(
        Path(root, "fremont_bridge", "Fremont.csv"),
        encoding="utf-8-sig",  # a byte-order mark leads
        index_col="Date",
        date_format="%m/%d/%Y %I:%M:%S %p",
    )
    hours.columns = ["east", "west"]
    sidewalks = pd.concat(
        {name: _by_day(column) for name, column in hours.items()}, axis=1
    )
    whole = sidewalks.notna().all(axis=1)
    blank = sidewalks.index[~whole]
    sidewalks = sidewalks[whole]
    if options.scale < 1:
        weeks = _weeks(sidewalks.index)
        sidewalks = sidewalks[weeks < max(40, options.scale * weeks[-1])]
    return sidewalks["east"] + sidewalks["west"], sidewalks, blank


def _by_day(column):
    """Return one column of hours as a table of (days, 24)."""
    by = column.index.normalize(), column.index.hour
    return column.groupby(list(by)).sum(min_count=1).unstack()


def _weeks(days):
    """Return the number of the week, from Monday to Sunday, of every day."""
    first = days[0] - Day(days[0].day_of_week)
    return ((days - first) // pd.Timedelta(weeks=1)).to_numpy()


def _folds(days, seed):
    """Return folds that keep the days of a week together."""
    folds = GroupKFold(_FOLDS, shuffle=True, random_state=seed)
    return list(folds.split(days, groups=_weeks(days)))


def _named_days(first, last):
    """Return the names of federal holidays, where observed, and of days beside them."""
    holidays = USFederalHolidayCalendar().holidays(
        first - Day(7), last, return_name=True
    )
    named = {day: name for day, name in holidays.items() if name != "Thanksgiving Day"}
    for day in holidays.index[holidays == "Thanksgiving Day"]:
        named |= {day: "Thanksgiving Day", day + Day(1): "day after Thanksgiving"}
    for year in range(first.year, last.year + 1):
        beside = {"12-24": "Christmas Eve", "12-31": "New Year's Eve"}
        beside |= {f"12-{day}": "December 26 to 30" for day in range(26, 31)}
        beside |= {f"07-0{day}": "July 3 or 5" for day in (3, 5)}
        for day, name in beside.items():
            named.setdefault(pd.Timestamp(f"{year}-{day}"), name)
    return named, set(holidays.index)


# -- one density -------------------------------------------------------------------


def _ordinary(X, days, folds, options):
    """Return a table of densities, the best of them, and its held-out nats."""
    smoke = options.scale < 1
    search = GridSearchCV(
        GenerativePipeline(
            [("space", None), ("pca", PCA(whiten=True)), ("density", None)]
        ),
        [
            {
                "space": list(_SPACES.values()),
                "pca__n_components": _COMPONENTS[2::4] if smoke else _COMPONENTS,
                **grid,
            }
            for grid in (
                {
                    "density": [EMGaussianMixture(n_init=3, random_state=0)],
                    "density__n_components": _NORMALS[:2] if smoke else _NORMALS,
                },
                {
                    "density": [GaussianKDE()],
                    "density__bandwidth": _KERNELS[2:3] if smoke else _KERNELS,
                },
            )
        ],
        cv=folds,
        refit=False,
        error_score="raise",
    )
    start = perf_counter()
    search.fit(X)
    seconds = perf_counter() - start
    tried = pd.DataFrame(search.cv_results_["params"])
    tried["score"] = search.cv_results_["mean_test_score"]
    tried["space"] = [_name(_SPACES, space) for space in tried["space"]]
    tried["kernels"] = tried["density__bandwidth"].notna()
    tried["reduced"] = tried["pca__n_components"] < _ALL_HOURS
    leaders = tried.loc[
        tried.groupby(["space", "kernels", "reduced"])["score"].idxmax()
    ]
    entries = [_candidate(row) for row in leaders.itertuples()]
    entries.append(_standardised(leaders))
    scored = [(name, model, _held_out(model, X, folds)) for name, model in entries]
    scored.sort(key=lambda entry: -entry[2].mean())
    _, best, nats = scored[0]
    weeks = _weeks(days)
    lines = [
        "| counts through | density | nats per day | behind the first | median day | "
        "least probable day |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for (space, density), _, values in scored:
        behind = "" if values is nats else _with_error(nats - values, weeks)
        lines.append(
            f"| {space} | {density} | {_with_error(values, weeks)} | {behind} | "
            f"{np.median(values):.1f} | {values.min():.0f} |"
        )
    seeds = range(1, 2 if smoke else 4)
    again = [_held_out(best, *_other_noise(X, days, seed)).mean() for seed in seeds]
    text = (
        f"**One density of all days.** `GridSearchCV` over {len(tried)} pipelines "
        f"({seconds:.0f} s): counts, their square roots or `log1p`; whitened `PCA`; "
        f"and a mixture of normal densities (`EMGaussianMixture`, 1 to {_NORMALS[-1]}) "
        f"or kernels (`GaussianKDE`, {_KERNELS[0]} to {_KERNELS[-1]}). The table has "
        "the best of each kind; `PCA(24)` keeps all components. Scores are in nats "
        "per day of dequantised counts, for every transformation. In expectation, "
        "each is a lower bound on the log-probability of the counts themselves. ± is "
        "the standard error, by weeks; differences are paired by day. The folds that "
        "chose the settings also score them."
    )
    after = (
        "With other noise and other folds, the first model has "
        f"{', '.join(f'{mean:.2f}' for mean in sorted(again))}. {_left_over(X)}"
    )
    return f"{text}\n\n{chr(10).join(lines)}\n\n{after}", best, nats


def _left_over(X, n_components=12):
    """Return how much principal components leave over, hour by hour, in words."""
    said = []
    for name, step in _SPACES.items():
        Y = X if step == "passthrough" else step.fit_transform(X)
        pca = PCA(n_components).fit(Y)
        left = (Y - pca.inverse_transform(pca.transform(Y))).std(axis=0)
        said.append(f"{left.min():.2f} to {left.max():.2f} of {name}")
    return (
        f"What {n_components} components leave out, to which the model gives one "
        f"variance, has standard deviations in the 24 hours of {', '.join(said)}."
    )


def _candidate(row):
    """Return the names and the pipeline of a row of the table of what was tried."""
    k = int(row.pca__n_components)
    if row.kernels:
        density = GaussianKDE(row.density__bandwidth)
        name = f"kernels of {row.density__bandwidth:g}"
    else:
        K = int(row.density__n_components)
        density = EMGaussianMixture(K, n_init=3, random_state=0)
        name = _mixture_name(K)
    space = "" if row.space == "counts" else f"{row.space}, "
    return (f"{space}`PCA({k})`", name), _pipeline(row.space, k, density)


def _standardised(leaders):
    """Return the best mixture of few components of roots, standardised before PCA."""
    chosen = leaders[
        (leaders["space"] == "sqrt") & leaders["reduced"] & ~leaders["kernels"]
    ]
    (_, name), model = _candidate(next(chosen.itertuples()))
    k = model.named_steps["pca"].n_components
    steps = list(model.steps)
    steps.insert(1, ("scaler", StandardScaler()))
    return (f"sqrt, `StandardScaler`, `PCA({k})`", name), GenerativePipeline(steps)


def _pipeline(space, k, density):
    return GenerativePipeline(
        [
            ("space", _SPACES[space]),
            ("pca", PCA(k, whiten=True)),
            ("density", density),
        ]
    )


def _mixture_name(n_components):
    return f"{n_components} normal" + ("s" if n_components > 1 else "")


def _name(named, value):
    """Return the name under which a transformer, or a clone of it, is listed."""
    return next(name for name, listed in named.items() if repr(listed) == repr(value))


def _held_out(model, X, folds):
    """Return the log-density of each row, of a model that did not see its fold."""
    values = np.empty(X.shape[0])
    for train, test in folds:
        values[test] = clone(model).fit(X[train]).score_samples(X[test])
    return values


def _other_noise(X, days, seed):
    """Return the rows with other noise, and other folds."""
    noise = np.random.RandomState(seed).uniform(size=X.shape)
    return np.floor(X) + noise, _folds(days, seed)


def _with_error(values, weeks):
    """Return a mean and its standard error, of weeks that are drawn as a whole."""
    deviations = np.bincount(weeks, values - values.mean())
    error = np.sqrt((deviations**2).sum()) / values.size
    return f"{values.mean():.2f} ± {error:.2f}"


# -- workdays and days off ---------------------------------------------------------


def _weekends(X, days, folds, best, options):
    """Return a table of classifiers, and the weekdays that look like weekends."""
    y = np.where(days.day_of_week < 5, "weekday", "weekend")
    named, federal = _named_days(days[0], days[-1])
    is_named = days.isin(list(named))
    k = min(best.named_steps["pca"].n_components, 10)
    classifiers = {
        f"`GenerativeClassifier`, sqrt, `PCA({k})`, {_mixture_name(K)}": _of_classes(
            k, K
        )
        for K in ((1, 2) if options.scale < 1 else (1, 2, 4, 6))
    }
    classifiers |= {
        "`QuadraticDiscriminantAnalysis`": QuadraticDiscriminantAnalysis(),
        "`QuadraticDiscriminantAnalysis`, sqrt": make_pipeline(
            _SPACES["sqrt"], QuadraticDiscriminantAnalysis()
        ),
        "`LogisticRegression`, sqrt, scaled": make_pipeline(
            _SPACES["sqrt"], StandardScaler(), LogisticRegression(max_iter=2000)
        ),
        "`HistGradientBoostingClassifier`": HistGradientBoostingClassifier(
            random_state=0
        ),
    }
    lines = [
        "| | nats per day | accuracy | on days without a name | log loss | "
        "weekdays called weekend | of these named | weekend days called weekday |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    answers = {}
    for name, classifier in classifiers.items():
        P = cross_val_predict(classifier, X, y, cv=folds, method="predict_proba")
        wrong = (P[:, 1] > 0.5) != (y == "weekend")
        answers[name] = wrong
        nats = ""
        if isinstance(classifier, GenerativeClassifier):
            nats = f"{_held_out_of_classes(classifier, X, y, folds).mean():.2f}"
        off = wrong & (y == "weekday")
        lines.append(
            f"| {name} | {nats} | {1 - wrong.mean():.2%} | "
            f"{1 - wrong[~is_named].mean():.2%} | {log_loss(y, P):.3f} | {off.sum()} | "
            f"{(off & is_named).sum()} | {(wrong & (y == 'weekend')).sum()} |"
        )
    chosen = list(classifiers)[1]
    wrong = answers[chosen]
    text = (
        "**Weekdays and weekends.** A density for each class, and Bayes' rule. A day "
        "has a name if it is an observed federal holiday (in the calendar of pandas), "
        "the day after Thanksgiving, December 24 to 31 or July 3 to 5. Nats are from "
        "`score_samples`, the density of a day of either class."
    )
    return "\n\n".join(
        [
            text,
            "\n".join(lines),
            _named_table(days[y == "weekday"], wrong[y == "weekday"], named, federal),
            _unnamed(days, wrong, y, named, chosen),
        ]
    )


def _of_classes(k, n_components):
    """Return a classifier with a mixture of `n_components` normals for each class."""
    density = EMGaussianMixture(n_components, n_init=3, random_state=0)
    return GenerativeClassifier(_pipeline("sqrt", k, density))


def _held_out_of_classes(classifier, X, y, folds):
    """Return the log-density of each row of a classifier that did not see its fold."""
    values = np.empty(X.shape[0])
    for train, test in folds:
        fitted = clone(classifier).fit(X[train], y[train])
        values[test] = fitted.score_samples(X[test])
    return values


def _named_table(days, wrong, named, federal):
    """Return how often each named weekday is called a weekend day."""
    rows = {}
    for day, called in zip(days, wrong, strict=True):
        if day in named:
            kind = "federal holiday" if day in federal else ""
            rows.setdefault((named[day], kind), []).append((day, called))
    lines = [
        "| weekday | | called weekend | of | dates |",
        "|---|---|---:|---:|---|",
    ]
    for (name, kind), seen in sorted(
        rows.items(), key=lambda row: -np.mean([called for _, called in row[1]])
    ):
        dates = [f"{day:%Y-%m-%d}" for day, called in seen if called]
        lines.append(
            f"| {name} | {kind} | {len(dates)} | {len(seen)} | {', '.join(dates)} |"
        )
    return "\n".join(lines)


def _unnamed(days, wrong, y, named, chosen):
    """Return the other days that are called what they are not."""
    unnamed = ~days.isin(list(named))

    def listed(rows):
        return ", ".join(f"{day:%Y-%m-%d} ({day:%a})" for day in days[rows]) or "none"

    weekday = y == "weekday"
    return (
        f"This table is for {chosen}. Without a name, it calls weekend: "
        f"{listed(wrong & weekday & unnamed)}. It calls weekday: "
        f"{listed(wrong & ~weekday)}."
    )


# -- unusual days ------------------------------------------------------------------


def _unusual(X, counts, folds, best, nats):
    """Return the least probable days, and what is odd about them."""
    days = counts.index
    held_out = np.empty(X.shape[0])
    for train, test in folds:
        detector = DensityOutlierDetector(best, contamination=0.01).fit(X[train])
        held_out[test] = detector.score_samples(X[test])
    least = held_out.argsort()[:_SHOWN]
    seen = DensityOutlierDetector(best, contamination=0.01).fit(X).score_samples(X)
    one_normal = _held_out(_pipeline("sqrt", _ALL_HOURS, EMGaussianMixture()), X, folds)
    named, _ = _named_days(days[0], days[-1])
    lines = [
        "| day | | nats | count of the day | hours: counts (usual) |",
        "|---|---|---:|---:|---|",
    ]
    for i in least:
        name = f", {named[days[i]]}" if days[i] in named else ""
        lines.append(
            f"| {days[i]:%Y-%m-%d} | {days[i]:%a}{name} | {held_out[i]:.0f} | "
            f"{counts.iloc[i].sum():,.0f} | {_odd_hours(counts, i)} |"
        )

    def shared(scores):
        return np.isin(scores.argsort()[:_SHOWN], least).sum()

    text = (
        f"**Unusual days.** The {_SHOWN} least probable days according to a "
        "`DensityOutlierDetector` of the first pipeline. Detectors did not see the "
        f"week that they score. The median day has {np.median(nats):.0f}. The last "
        "column has the three hours that differ most from the usual count, in square "
        "roots; the usual count is the median of the same weekday in the four weeks "
        f"before and after. Of these {_SHOWN} days, {shared(seen)} are also among the "
        f"least probable {_SHOWN} of a detector that saw all days, and "
        f"{shared(one_normal)} among the least probable days of a single normal "
        "density of the 24 square roots."
    )
    return f"{text}\n\n{chr(10).join(lines)}"


def _odd_hours(counts, i, n_hours=3):
    """Return the hours of a day whose counts are farthest from the usual ones."""
    days = counts.index
    apart = np.abs((days - days[i]).days)
    near = (apart % 7 == 0) & (apart > 0) & (apart <= 28)
    if not near.any():
        return ""
    usual = counts[near].median()
    difference = np.sqrt(counts.iloc[i]) - np.sqrt(usual)
    hours = difference.abs().nlargest(n_hours).index.sort_values()
    return ", ".join(
        f"{hour} h: {counts.iloc[i][hour]:.0f} ({usual[hour]:.0f})" for hour in hours
    )


# -- the sidewalks -----------------------------------------------------------------


def _faults(X, days, sidewalks, nats):
    """Return what the totals hide: counters that fail, and columns that drift."""
    east, west = sidewalks["east"].to_numpy(), sidewalks["west"].to_numpy()
    blind = (np.minimum(east, west) == 0) & (np.maximum(east, west) >= _OTHER_COUNTS)
    faulty = blind.sum(axis=1) >= _BLIND_HOURS
    of_sidewalks = dequantize(np.hstack([east, west]), random_state=0) + 0.5
    first = (_weeks(days) - _weeks(days)[0] < _FIRST_WEEKS) & ~faulty
    flagged = {}
    for name, rows, k in (("totals", X, 8), ("sidewalks", of_sidewalks, 16)):
        density = make_generative_pipeline(
            _SPACES["sqrt"], PCA(k), EMGaussianMixture(2, random_state=0)
        )
        detector = DensityOutlierDetector(density, contamination=0.01)
        flagged[name] = detector.fit(rows[first]).predict(rows) == -1
    weekday = days.day_of_week < 5
    lines = [
        "| days | | totals: outliers | sidewalks: outliers | east's fraction, 6 to 9 "
        "h | 16 to 19 h |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    half = days.year.astype(str) + np.where(days.month < 7, ", first half", ", second")
    groups = {name: (half == name) & ~faulty for name in half.unique()}
    groups["a blind counter"] = faulty
    for name, rows in groups.items():
        if not rows.any():
            continue
        cells = [f"{flags[rows].mean():.0%}" for flags in flagged.values()]
        for hours in (slice(6, 9), slice(16, 19)):
            of_east, of_west = (
                side[rows & weekday, hours].sum() for side in (east, west)
            )
            cells.append(f"{of_east / max(1, of_east + of_west):.2f}")
        lines.append(f"| {name} | {rows.sum()} | {' | '.join(cells)} |")
    ranks = nats.argsort().argsort() / nats.size
    text = (
        "**What totals hide.** If one of two counters fails, the total need not be "
        f"unusual. On {faulty.sum()} days there are {_BLIND_HOURS} or more hours in "
        f"which one sidewalk has no count and the other {_OTHER_COUNTS} or "
        f"more{_span(days[faulty])}; {(ranks[faulty] < 0.05).sum()} of them are among "
        "the least probable 5 % of the totals above. Two detectors are fitted to the "
        f"first {_FIRST_WEEKS} weeks ({first.sum()} days, of which the offset makes 1 "
        "% outliers): one for totals, one for the 48 counts of both sidewalks. The "
        "table has the fraction of days that each detector calls outliers, and the "
        "east sidewalk's fraction of the weekday counts."
    )
    return f"{text}\n\n{chr(10).join(lines)}"


def _span(days):
    """Return the first and the last of some days, in words."""
    if days.empty:
        return ""
    return f", from {days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}"
