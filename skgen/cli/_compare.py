"""Compare the models on a table, and write draws from the best one."""

import os
import re
import sys
import warnings

import numpy as np

from skgen.cli._cross_validation import cross_validate
from skgen.cli._files import CommandError, count
from skgen.cli._models import candidates, legend, mixture_sizes
from skgen.cli._progress import progress
from skgen.cli._report import N_DRAWS, format_results, plot_draws, write_draws
from skgen.cli._table import digits_table, read_table


def compare(options):
    """Read the table, compare the models, and write the requested files."""
    seed = options.random_state
    if options.table is None:
        table = digits_table(seed)
    else:
        table = read_table(options.table)
        if not options.no_dequantize:
            table = table.without_ties(seed)
    table = table.thinned(options.rows, np.random.RandomState(seed))
    n, d = table.X.shape
    n_folds = min(options.folds, n // 2)
    n_training = n - -(-n // n_folds)
    for note in table.notes:
        _say(f"{note}\n")
    if n_training <= d + 1:
        _say(
            f"beware: {n_training} training rows are too few for "
            f"{count(d, 'column')}, and the scores are unreliable\n"
        )
    _say(
        f"{n_folds}-fold cross-validation on {count(n, 'row')} of "
        f"{count(d, 'column')}; {mixture_sizes(options.components, n_training, d)}\n"
    )
    models, left_out = candidates(
        n_training, d, options.components, seed, fast=options.fast
    )
    if left_out:
        _say(f"not compared: {'; '.join(left_out)}\n")
    _say("\n")
    with progress(len(models) * n_folds) as advance:
        results = cross_validate(models, table.X, n_folds, seed, advance)
    _say(format_results(results) + "\n\n" + legend(models, n_training) + "\n")
    _write_notes(results)
    if all(result.failed for result in results):
        raise CommandError("no model could be fitted.")
    if options.sample or options.plot:
        _write_outputs(options, table, results)


def _say(text):
    """Write to standard output; ignore a reader that closed it."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The requested files are still written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_notes(results):
    """Write each warning once, with the models that raised it or a similar one."""
    groups = {}
    for result in results:
        for note in result.notes.values():
            # Similar warnings differ in the numbers of components and columns only.
            key = re.sub(r"\[[^\]]*\]|[-+.\de]*\d", "", note)
            groups.setdefault(key, (note, []))[1].append(result.candidate.label)
    for note, labels in groups.values():
        others = f" (likewise {', '.join(labels[1:])})" if len(labels) > 1 else ""
        sys.stderr.write(f"note: {labels[0]}{others}: {note}\n")


def _write_outputs(options, table, results):
    """Fit the best model of skgen to all rows, and write draws from it."""
    ours = [result for result in results if result.candidate.ours]
    best = max(ours, key=lambda result: result.mean)
    if best.failed:
        raise CommandError("no model of skgen could be fitted to draw from.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cross-validation has reported them
        model = best.candidate.build(table.X).fit(table.X)
    label, seed = best.candidate.label, options.random_state
    if options.sample:
        n, note = options.n_samples, ""
        if options.unbounded:
            draws = model.sample(n, random_state=seed)
        else:
            draws, note = table.draws_within(model, n, seed)
            note = f"({note}; --unbounded keeps them)\n"
        write_draws(options.sample, table.to_grid(draws))
        _say(f"\n{count(n, 'draw')} from {label}: {options.sample}\n{note}")
    if options.plot:
        draws = model.sample(N_DRAWS, random_state=seed)
        plot_draws(options.plot, table, draws, label)
        _say(f"\npicture of draws from {label}: {options.plot}\n")
