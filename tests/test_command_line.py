"""``python -m skgen``: the main job, on the digits and on tables of all kinds."""

import bz2
import gzip
import io
import itertools
import lzma
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from estimators import rows, thorough
from matplotlib.figure import Figure
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

import skgen.__main__ as command
from skgen import GaussianKDE
from skgen.cli import _compare as comparison
from skgen.cli import _cross_validation as cross_validation
from skgen.cli import _progress as progress
from skgen.cli import _report as report
from skgen.cli._cross_validation import (
    Result,
    Timed,
    cross_validate,
    mean_and_error,
)
from skgen.cli._models import (
    Candidate,
    candidates,
    diffusion_epochs,
    epochs,
    flow_epochs,
)
from skgen.cli._report import format_results
from skgen.cli._table import Table, digits_table, read_table
from skgen.compose import make_generative_pipeline
from skgen.kde._bandwidth import scott_factor

NETWORKS = ("AutoEncoder", "VAE", "SWAE", "NormalizingFlow", "DiffusionModel")


def main(arguments):
    """Run the command without the neural models, and in two folds unless given more."""
    return command.main(["--folds", "2", *arguments, "--fast"])


def table(path, n=80, **columns):
    """Write a table of two columns (and more) to a file; return its path as text."""
    X = rows(n, 2)
    frame = pd.DataFrame({"width": X[:, 0], "height": X[:, 1], **columns})
    frame.to_csv(path, index=False)
    return str(path)


def wide(path, n, d, **columns):
    """Write a table of d columns (and more) to a file; return its path as text."""
    frame = pd.DataFrame(rows(n, d), columns=[f"c{j}" for j in range(d)])
    frame.assign(**columns).to_csv(path, index=False)
    return str(path)


def lines_of(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def nats(out, label):
    """Return the held-out nats per row that the table gives for a model."""
    (line,) = lines_of(out, label + "  ")
    return float(line[len(label) :].split()[0])


def labels(out):
    """Return the labels of the models in the table, the best first."""
    _, text = out.split("-----\n")
    return [line.split("  ")[0] for line in text.split("\n\n")[0].splitlines()]


def fails(capsys, *arguments):
    """Run a command that must fail; return its one line on standard error."""
    status = main(list(map(str, arguments)))
    captured = capsys.readouterr()
    assert status != 0
    assert "\n" not in captured.err.rstrip("\n")
    assert captured.err.startswith("skgen: error: ")
    return captured.err


@pytest.mark.thorough
def test_the_digits_agree_with_scikit_learn_where_both_compute_the_same(capsys):
    assert command.main(["--fast"]) == 0
    out = capsys.readouterr().out
    assert "1,797 rows of 61 columns" in out
    for ours, theirs in (
        ("GaussianKDE(h)", "sklearn KernelDensity(h)"),
        ("EMGaussianMixture(4, s)", "sklearn GaussianMixture(4, s)"),
    ):
        assert nats(out, ours) == pytest.approx(nats(out, theirs), abs=0.01)
    # A likelihood too good to be true would be a fault of the normaliser.
    assert nats(out, "EMGaussianMixture(1)") < nats(out, "GaussianKDE()") < -125
    # The pipeline's: SciPy's kernels in the codes, noise across, the columns' scales.
    expected = _kernels_and_noise(digits_table(0).X, n_codes=20)
    assert nats(out, "PCA(20) + GaussianKDE()") == pytest.approx(expected, abs=1e-3)


def _kernels_and_noise(X, n_codes):
    """Return held-out nats of a kernel density in the plane of principal components."""
    answer = []
    for train, test in KFold(5, shuffle=True, random_state=0).split(X):
        scaler = StandardScaler().fit(X[train])
        A, B = scaler.transform(X[train]), scaler.transform(X[test])
        variances, V = np.linalg.eigh(np.cov(A.T))
        plane, across = V[:, -n_codes:], V[:, :-n_codes]
        scale = np.sqrt(variances[:-n_codes].mean())
        kernels = stats.gaussian_kde((A @ plane).T, bw_method="scott")
        answer.append(
            kernels.logpdf((B @ plane).T)
            + stats.norm.logpdf((B - A.mean(axis=0)) @ across, scale=scale).sum(axis=1)
            - np.log(scaler.scale_).sum()
        )
    return np.concatenate(answer).mean()


def test_draws_of_digits_are_pixels_and_a_page(tmp_path, capsys):
    out, picture = tmp_path / "o.csv", tmp_path / "o.png"
    options = ["--rows", "200", "--folds", "2", "--components", "1", "-n", "50"]
    assert main([*options, "--sample", str(out), "--plot", str(picture)]) == 0
    draws = pd.read_csv(out)
    assert draws.shape == (50, 61)
    assert {"pixel_0_2", "pixel_7_7"} < set(draws.columns)
    assert "pixel_0_0" not in draws.columns
    assert (draws.dtypes == np.int64).all()
    assert picture.stat().st_size > 5000


@pytest.mark.thorough
def test_what_descends_gradients_is_compared_unless_it_is_to_be_fast(tmp_path, capsys):
    path = wide(tmp_path / "t.csv", 150, 4)
    slow = {"SGDGaussianMixture(3)", "AutoEncoder(2)", "VAE(2)", "SWAE(2)"}
    for options, found in ([], slow), (["--fast"], set()):
        assert command.main([path, "--folds", "2", *options]) == 0
        out = capsys.readouterr().out
        assert slow & set(labels(out)) == found
        assert ("not compared: SGDGaussianMixture, AutoEncoder" in out) == (not found)
        assert ("the autoencoders 50 epochs" in out) == bool(found)


@pytest.mark.process
def test_a_fast_comparison_imports_no_torch(tmp_path):
    path = table(tmp_path / "t.csv")
    code = (
        "import sys; from skgen.__main__ import main\n"
        f"assert main([{path!r}, '--fast']) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("d", "compared", "left_out"),
    [
        thorough(
            1, {"GaussianKDE('likelihood')"}, "pipelines with PCA (too few columns)"
        ),
        (2, {"GaussianKDE('likelihood')"}, "pipelines with PCA (too few columns)"),
        (
            4,
            {
                "GaussianKDE('likelihood')",
                "PCA(2) + GaussianKDE()",
                "PCA(2) + EMGaussianMixture(3)",
            },
            None,
        ),
        thorough(
            30,
            {"PCA(10) + EMGaussianMixture(1)", "PCA(12) + GaussianKDE()"},
            None,
        ),
    ],
)
def test_tables_of_all_widths_are_compared(tmp_path, d, compared, left_out, capsys):
    path = wide(tmp_path / "t.csv", 60, d)
    assert main([path, "--folds", "5", "--sample", str(tmp_path / "o.csv")]) == 0
    out = capsys.readouterr().out
    assert compared < set(labels(out))
    assert any(label.startswith("PCA") for label in labels(out)) == (d >= 4)
    if left_out:
        assert left_out in out
    assert pd.read_csv(tmp_path / "o.csv").shape == (1000, d)


@pytest.mark.thorough
def test_a_table_of_twenty_rows_is_compared_with_networks_left_out(tmp_path, capsys):
    path = wide(tmp_path / "t.csv", 20, 5)
    assert command.main([path]) == 0
    out = capsys.readouterr().out
    assert "AutoEncoder, VAE, SWAE (too few rows)" in out
    assert "SGDGaussianMixture(1)" in labels(out)
    assert "failed" not in out


@pytest.mark.parametrize("n_rows", [2, 7, 16, 60, 1000])
@pytest.mark.parametrize("n_columns", [1, 2, 3, 5, 61, 500])
def test_every_model_is_either_compared_or_said_not_to_be(n_rows, n_columns):
    models, left_out = candidates(n_rows, n_columns, 10, 0)
    text = " ".join([*(model.label for model in models), *left_out])
    for name in ("GaussianKDE('likelihood')", "PCA", "SGDGaussianMixture", *NETWORKS):
        assert name in text
    for model in models:
        if model.label.startswith("PCA("):
            k = int(model.label[4:].split(")")[0])
            assert 1 < k < min(n_rows, n_columns)


@pytest.mark.parametrize(
    "start",
    [thorough("VAE("), thorough("PCA(2) + EMGauss"), "GaussianKDE('likelihood')"],
)
def test_networks_and_pipelines_can_be_drawn_from(tmp_path, start, capsys, monkeypatch):
    def some(*arguments, **options):
        models, left_out = candidates(*arguments, **options)
        return [m for m in models if m.label.startswith(start)], left_out

    monkeypatch.setattr(comparison, "candidates", some)
    path = wide(tmp_path / "t.csv", 120, 4, count=np.arange(120) % 5)
    out, picture = tmp_path / "o.csv", tmp_path / "o.png"
    options = ["--folds", "2", "--sample", str(out), "-n", "300"]
    assert command.main([path, *options, "--plot", str(picture)]) == 0
    assert f"300 draws from {start}" in capsys.readouterr().out
    draws = pd.read_csv(out)
    assert draws.shape == (300, 5)
    assert draws["count"].dtype == np.int64
    assert abs(draws["count"].mean() - 2) < 0.5
    assert picture.stat().st_size > 5000


def test_a_bandwidth_is_found_for_clusters_far_apart(tmp_path, capsys):
    X = rows(200, 2) + 50.0 * (np.arange(200) % 3)[:, None]
    pd.DataFrame(X, columns=["u", "v"]).to_csv(tmp_path / "t.csv", index=False)
    main([str(tmp_path / "t.csv")])
    out = capsys.readouterr().out
    assert nats(out, "GaussianKDE('likelihood')") > nats(out, "GaussianKDE()") + 0.5


def test_small_tables_are_passed_over_more_often():
    numbers = [epochs(n) for n in (2, 50, 300, 1437, 8000, 10**6)]
    assert numbers == sorted(numbers, reverse=True)
    assert (numbers[0], numbers[-1]) == (50, 12)
    numbers = [flow_epochs(n) for n in (50, 1437, 8000, 40_000, 10**6)]
    assert numbers == [60, 60, 25, 12, 12]  # 1, 12, 40, 157 and 3,907 steps
    numbers = [diffusion_epochs(n) for n in (20, 50, 1437, 8000, 40_000, 10**6)]
    assert numbers == [300, 250, 23, 25, 12, 12]  # 2, 4, 42, 40, 79 and 1,954 steps


def test_a_fit_that_diverges_is_said_to_and_the_others_stand():
    class Diverging:
        def fit(self, X):
            warnings.warn("too steep", ConvergenceWarning, stacklevel=1)
            raise FloatingPointError("the loss is not a number")

    models = [Candidate("ours", lambda X: GaussianKDE())]
    models.append(Candidate("diverging", lambda X: Diverging()))
    kde, diverging = cross_validate(models, rows(20, 2), 2, 0, lambda label: None)
    assert not kde.failed
    assert diverging.failed
    assert set(diverging.notes.values()) == {
        "failed: the loss is not a number",
        "too steep",
    }


@pytest.mark.process
def test_the_module_runs_as_a_command():
    version = [sys.executable, "-m", "skgen", "--version"]
    done = subprocess.run(version, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("skgen ")


def test_a_table_of_the_users_is_compared_and_drawn_from(tmp_path, capsys):
    path = table(tmp_path / "t.csv", label=["a", "b"] * 40, count=np.arange(80) % 4)
    out, picture = tmp_path / "draws.csv", tmp_path / "draws.png"
    status = main([path, "--sample", str(out), "-n", "30", "--plot", str(picture)])
    text = capsys.readouterr().out
    assert status == 0
    assert "left out: label (text: 'a')" in text
    assert "columns with ties: [count by 1]" in text
    draws = pd.read_csv(out)
    assert draws.columns.tolist() == ["width", "height", "count"]
    assert draws.shape == (30, 3)
    # What was dequantised comes back on its grid.
    assert draws["count"].dtype == np.int64
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "draws.csv",
        "draws.png",
        "t.csv",
    ]


def test_draws_are_seeded_and_follow_the_table(tmp_path, capsys):
    path = table(tmp_path / "t.csv", n=400)
    draws = []
    for name in ("a.csv", "b.csv"):
        main([path, "--sample", str(tmp_path / name), "-n", "2000"])
        draws.append(pd.read_csv(tmp_path / name))
    pd.testing.assert_frame_equal(*draws)
    X = rows(400, 2)
    np.testing.assert_allclose(draws[0].mean(), X.mean(axis=0), atol=0.2)
    np.testing.assert_allclose(draws[0].std(), X.std(axis=0), rtol=0.1)


def test_scores_are_in_the_units_of_the_table(tmp_path, capsys):
    X = rows(100, 2)
    scores = []
    for name, factor in (("a.csv", 1.0), ("b.csv", 1000.0)):
        pd.DataFrame(X * factor, columns=["u", "v"]).to_csv(
            tmp_path / name, index=False
        )
        main([str(tmp_path / name)])
        out = capsys.readouterr().out
        labels = ("GaussianKDE()", "sklearn KernelDensity(h)", "EMGaussianMixture(1)")
        scores.append([nats(out, label) for label in labels])
    np.testing.assert_allclose(
        np.subtract(*scores), 2 * np.log(1000.0), atol=2e-4 + 1e-3
    )


def test_dequantisation_can_be_switched_off(tmp_path, capsys):
    path = table(tmp_path / "t.csv", count=np.arange(80) % 4)
    main([path])
    assert "columns with ties" in capsys.readouterr().out
    main([path, "--no-dequantize"])
    captured = capsys.readouterr()
    assert "columns with ties" not in captured.out
    assert "skgen.dequantize" in captured.err  # the models warn instead


def test_columns_left_out_are_named_with_the_reason(tmp_path, capsys):
    path = table(
        tmp_path / "t.csv",
        id=np.arange(1, 81),
        flat=np.full(80, 3),
        name=["x"] * 80,
        flag=[True, False] * 40,
        gap=[True, None] * 40,
        nothing=[None] * 80,
    )
    main([path])
    (line,) = lines_of(capsys.readouterr().out, "left out")
    for reason in ("id (numbers the rows)", "flat (constant)", "name (text: 'x')"):
        assert reason in line
    assert "flag (true or false)" in line
    assert "gap (true or false)" in line
    assert "nothing (empty)" in line


def test_rows_with_blanks_are_left_out_and_counted(tmp_path, capsys):
    values = np.linspace(0, 1, 80) ** 2
    values[[3, 7]] = np.nan
    main([table(tmp_path / "t.csv", extra=values)])
    out = capsys.readouterr().out
    assert "left out: 2 rows with blanks, most of them in extra" in out
    assert "on 78 rows of 3 columns" in out


# -- tables as people have them ---------------------------------------------------

NUMBERS = np.round(rows(12, 2) * [1000.0, 1.0] + [5000.0, 5.0], 3)
BODY = [f"{a:.3f},{b:.3f}" for a, b in NUMBERS]
SEMICOLONS = [row.replace(",", ";").replace(".", ",") for row in BODY]
THOUSANDS = [(f"{a:,.3f}", f"{b:.3f}") for a, b in NUMBERS]
GERMAN = [f"{a};{b}".translate(str.maketrans(",.", ".,")) for a, b in THOUSANDS]
WRITTEN = {
    "commas": ["a,b", *BODY],
    "blanks after commas": ["a, b", *(row.replace(",", ", ") for row in BODY)],
    "semicolons": ["a;b", *(row.replace(",", ";") for row in BODY)],
    "bars": ["a|b", *(row.replace(",", "|") for row in BODY)],
    "blanks": ["a b", *(row.replace(",", " ") for row in BODY)],
    "aligned": ["  a    b", *(f"  {row.replace(',', '    ')} " for row in BODY)],
    "trailing delimiters": ["a,b,", *(f"{row}," for row in BODY)],
    "trailing, but in the header": ["a,b", *(f"{row}," for row in BODY)],
    "comments": ["# by a logger", "", "a,b", *BODY[:3], " # pause", *BODY[3:]],
    "as savetxt writes it": ["# run 3", "# a,b", *BODY],
    "as Excel writes it": ["sep=;", "a;b", *SEMICOLONS],
    "as R writes it": [
        '"a" "b"',
        *(f'"{i + 1}" {row.replace(",", " ")}' for i, row in enumerate(BODY)),
    ],
    "index": [",a,b", *(f"{7 + 2 * i},{row}" for i, row in enumerate(BODY))],
    "title": ["Export of all data,,", "a,b,c", *(f"{row},text" for row in BODY)],
    "titles": ["Report", "Created 2025-01-06", "", "a,b", *BODY],
    "titles with commas": [
        "Sales, by region",
        "Q1, preliminary",
        "t,a,b",
        *(f"x,{row}" for row in BODY),
    ],
    "names and values above": [
        "Instrument,7",
        "Rate,10",
        "t,a,b",
        *(f"x,{row}" for row in BODY),
    ],
    "other comments": ["% by a logger", "// twice", "a,b", *BODY],
    "bars of Markdown": [
        "| a | b |",
        "|---|---|",
        *(f"| {row.replace(',', ' | ')} |" for row in BODY),
    ],
    "quoted delimiters": ["t,a,b", *(f'"x; y, z",{row}' for row in BODY)],
    "dates": ["t,a,b", *(f"2020-01-07 10:00,{row}" for row in BODY)],
    "short row": ["a,b", "5.0", *BODY],
    "decimal commas": ["a;b", *SEMICOLONS],
    "and a first row of whole numbers": ["a;b", "?;7", *SEMICOLONS],
    "and tabs": ["a\tb", *(row.replace(";", "\t") for row in SEMICOLONS)],
    "and blanks": ["a b", *(row.replace(";", " ") for row in SEMICOLONS)],
    "and thousands": ["a;b", *GERMAN],
    "and dates": ["t;a;b", *(f"07.01.2020;{row}" for row in GERMAN)],
    "and a currency": ["a;b", *(row.replace(";", " \u20ac;") for row in GERMAN)],
    "thousands": ["a,b", *(f'"{a}",{b}' for a, b in THOUSANDS)],
    "dollars": ["a,b", *(f'"${a}",{b}' for a, b in THOUSANDS)],
    "rupees": ["a,b", *(f'"\u20b9 {a}",{b}' for a, b in THOUSANDS)],
    "per mille": ["a;b", *(f"{row}\u2030" for row in SEMICOLONS)],
    "thin spaces": [
        "a;b",
        *(row.replace(".", "\u2009") for row in GERMAN),
    ],
    "Swiss thousands": [
        "a,b",
        *(f"{a.replace(',', chr(39))},{b}" for a, b in THOUSANDS),
    ],
    "percent": ["a,b", *(f"{row}%" for row in BODY)],
    "a comma in a remark": [
        "t,a,b",
        *(f'"{["x", "1,5"][i == 3]}",{row}' for i, row in enumerate(BODY)),
    ],
    "addresses": [
        "t,a,b",
        *(f"192.168.{i + 100}.111,{row}" for i, row in enumerate(BODY)),
    ],
    "digits of another script": ["t,a,b", *(f"\u0661\u0662,{row}" for row in BODY)],
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("encoding", ["utf-8", thorough("utf-16")])
def test_tables_that_people_have_are_read(tmp_path, name, encoding):
    path = tmp_path / "t.csv"
    path.write_text("\r\n".join(WRITTEN[name]), encoding=encoding)
    found = read_table(str(path))
    assert found.names[-2:] == ["a", "b"]
    np.testing.assert_allclose(found.X[:, -2:], NUMBERS, rtol=1e-12)
    assert found.X.shape[1] == 2


@pytest.mark.parametrize(
    "text",
    [
        *("", "?", " NA ", "-", "--", "---", "n/a", "N/A", "n.a.", "N.A.", "null"),
        *(".", "...", "NaN", "None", "\u2014", "\u2026", "(null)", "\\N", "**"),
    ],
)
@pytest.mark.parametrize("commas", [False, True])
def test_entries_without_a_value_are_blanks(tmp_path, text, commas):
    body = SEMICOLONS if commas else [row.replace(",", ";") for row in BODY]
    lines = ["a;b", body[0], f"{text};1", f"2;{text}", *body[1:]]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    found = read_table(str(tmp_path / "t.csv"))
    np.testing.assert_allclose(found.X, NUMBERS, rtol=1e-12)
    assert any("2 rows with blanks" in note for note in found.notes)


@pytest.mark.parametrize("written", ["({})", "{}-", "-{}", "\u2212{}", "(${})"])
@pytest.mark.parametrize("commas", [False, True])
def test_negative_numbers_of_accounts_are_read(tmp_path, written, commas):
    table = GERMAN if commas else [f"{a};{b}" for a, b in THOUSANDS]
    pairs = enumerate(row.split(";") for row in table)
    body = [f"{written.format(a) if i % 2 else a};{b}" for i, (a, b) in pairs]
    (tmp_path / "t.csv").write_text("\n".join(["a;b", *body]), encoding="utf-8")
    signs = np.where(np.arange(len(NUMBERS)) % 2, -1.0, 1.0)
    found = read_table(str(tmp_path / "t.csv"))
    np.testing.assert_allclose(found.X, NUMBERS * np.c_[signs, np.ones(len(signs))])


UNCLEAR = ["5.188;3,990", "6.021;4,791", "4.312;5,102", "5.900;4,444", "7.001;3,123"]


@pytest.mark.parametrize(
    ("lines", "first", "note"),
    [
        (["a;b", *UNCLEAR], [5188, 3.99], "5.188 is read as 5188, not as 5.188"),
        (
            ["a;b", *(row.replace(",", "") for row in UNCLEAR)],
            [5.188, 3990],
            "5.188 is read as 5.188, not as 5188",
        ),
        (
            ["a\tb", *(row.replace(".", "").replace(";", "\t") for row in UNCLEAR)],
            [5188, 3.99],
            "3,990 is read as 3.990, not as 3990",
        ),
        (
            ["b", *(f'"{row[-5:]}"' for row in UNCLEAR)],
            [3990],
            "3,990 is read as 3990, not as 3.990",
        ),
        (
            ["a,b", *(f'{row[:1]},"{row[-5:]}"' for row in UNCLEAR)],
            [5, 3990],
            "3,990 is read as 3990, not as 3.990",
        ),
        # Another number of the table is clear.
        (["a;b", *UNCLEAR, "4.500;12,25"], [5188, 3.99], None),
        (["a;b", *UNCLEAR, "234;3,125"], [5188, 3.99], None),
        (["a;b", *UNCLEAR, "4.25;3,125"], [5.188, 3990], None),
        (["a;b", *UNCLEAR, "4.250;234"], [5.188, 3990], None),
        (["a,b", *(row[:-4].replace(";", ",") for row in UNCLEAR)], [5.188, 3], None),
    ],
)
def test_unclear_decimals_are_told(tmp_path, lines, first, note):
    (tmp_path / "t.csv").write_text("\n".join(lines))
    found = read_table(str(tmp_path / "t.csv"))
    np.testing.assert_allclose(found.X[0], first)
    notes = [text for text in found.notes if text.startswith("unclear")]
    assert notes == ([] if note is None else [f"unclear: {note}"])


@pytest.mark.parametrize(
    ("first", "body", "is_header"),
    [
        ("2019,2020", BODY, True),
        ("0,1", BODY, True),
        ("2019,2020", ["5,7", "8,3", "9,1"] * 4, True),
        (",2019,2020", [f"{i},{row}" for i, row in enumerate(BODY)], True),
        ("0,1,2,3", ["0,9,3,0", "5,1,7,1", "6,1,3,2"] * 4, True),
        ("3,1", ["5,7", "8,3", "9,1"] * 4, False),
        ("1,2", ["5,7", "8,3", "9,1"] * 4, False),
        ("5.1,3.5,setosa", [f"{row},setosa" for row in BODY], False),
        ("?,3.5", BODY, False),
        (BODY[0], BODY, False),
    ],
)
def test_a_header_may_be_numbers_or_missing(tmp_path, first, body, is_header):
    (tmp_path / "t.csv").write_text("\n".join([first, *body]))
    found = read_table(str(tmp_path / "t.csv"))
    assert found.names == (
        [name for name in first.split(",") if name] if is_header else found.names
    )
    assert any("no header" in note for note in found.notes) == (not is_header)
    assert found.X.shape[0] == len(body) + (not is_header) - ("?" in first)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-16-le"]
)
@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_encodings_and_compressed_files_are_read(tmp_path, encoding, packed):
    name = "a" if encoding == "utf-16-le" else "gr\u00f6\u00dfe"
    data = "\n".join([f"{name},b", *BODY]).encode(encoding)
    (tmp_path / "t.csv").write_bytes(packed(data))
    found = read_table(str(tmp_path / "t.csv"))
    assert found.names == [name, "b"]
    np.testing.assert_allclose(found.X, NUMBERS)
    assert any("Windows-1252" in note for note in found.notes) == (encoding == "cp1252")


@pytest.mark.parametrize("name", ["t.parquet", "t.json", "t.jsonl"])
def test_files_that_pandas_reads_are_read(tmp_path, name):
    frame = pd.DataFrame(NUMBERS, columns=["a", "b"]).assign(t="text")
    if name == "t.parquet":
        pytest.importorskip("pyarrow")
        frame["day"] = pd.Timestamp("2020-01-07")
        frame.to_parquet(tmp_path / name)
    else:
        lines = name == "t.jsonl"
        frame.to_json(tmp_path / name, orient="records", lines=lines)
    found = read_table(str(tmp_path / name))
    np.testing.assert_allclose(found.X, NUMBERS)
    left_out = "t (text: 'text')" + ", day (dates or times)" * (name == "t.parquet")
    assert found.notes[-1] == f"left out: {left_out}"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"PK\x03\x04\x14\x00", "looks like a spreadsheet"),
        (b"\xd0\xcf\x11\xe0\x00", "looks like a spreadsheet"),
        (b"PAR1\x00", "looks like Parquet"),
        (b"a,b\n\x00\x00\x00\x07", "is not text"),
    ],
)
def test_files_that_are_no_text_are_one_line(tmp_path, data, what, capsys):
    (tmp_path / "t.xlsx").write_bytes(data)
    message = fails(capsys, tmp_path / "t.xlsx")
    assert what in message
    assert "save it as CSV" in message


def test_large_tables_are_thinned_and_it_is_said(tmp_path, capsys):
    path = table(tmp_path / "t.csv", n=300)
    main([path, "--rows", "100"])
    assert "100 of 300 rows" in capsys.readouterr().out


def test_a_model_that_fails_is_said_to_and_the_others_stand(tmp_path, capsys):
    # Two copies of each row: scikit-learn's mixture finds covariances ill-defined
    # or not; whatever it does, the table must come.
    X = np.repeat(rows(8, 3), 2, axis=0)
    pd.DataFrame(X, columns=list("abc")).to_csv(tmp_path / "t.csv", index=False)
    assert main([str(tmp_path / "t.csv"), "--components", "5"]) == 0
    assert "GaussianKDE()" in capsys.readouterr().out


def test_draws_keep_the_decimals_of_the_table(tmp_path, capsys):
    price = np.round(np.exp(rows(80, 1)[:, 0] / 5), 2)
    price[0] = price[1]
    path = table(tmp_path / "t.csv", price=price)
    main([path, "--sample", str(tmp_path / "o.csv")])
    text = pd.read_csv(tmp_path / "o.csv", dtype=str)["price"]
    assert text.str.fullmatch(r"-?\d+\.\d{1,2}").all()


def test_outputs_go_where_links_point_and_devices_stay(tmp_path, capsys):
    path = table(tmp_path / "t.csv")
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("before")
    link.symlink_to(real)
    main([path, "--sample", str(link)])
    assert link.is_symlink()
    assert real.read_text().startswith("width,height")
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    reader = threading.Thread(target=pipe.read_text)
    reader.start()
    main([path, "--sample", str(pipe)])
    reader.join(timeout=30)
    assert pipe.is_fifo()


@pytest.mark.process
def test_a_pipe_that_closes_early_stops_nothing(tmp_path):
    path, out = table(tmp_path / "t.csv"), tmp_path / "o.csv"
    piped = f"{sys.executable} -m skgen {path} --fast --sample {out} | head -n 1"
    done = subprocess.run(piped, shell=True, capture_output=True, text=True)
    assert done.stdout.count("\n") == 1
    assert "rror" not in done.stderr
    assert pd.read_csv(out).shape == (1000, 2)


def test_columns_that_are_no_grid_are_not_rounded(tmp_path, capsys):
    rain = np.where(np.arange(90) % 3 == 0, 0.0, np.exp(rows(90, 1)[:, 0]))
    path = table(tmp_path / "t.csv", n=90, rain=rain)
    main([path, "--sample", str(tmp_path / "o.csv")])
    assert "[rain by" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "o.csv")["rain"].nunique() == 1000


def test_headers_may_hold_line_breaks_and_follow_blank_lines(tmp_path, capsys):
    lines = [f"{a},{b}" for a, b in rows(40, 2)]
    text = "\n".join(["", '"the\nwidth",height', *lines])
    (tmp_path / "t.csv").write_text(text)
    main([str(tmp_path / "t.csv"), "--sample", str(tmp_path / "o.csv")])
    names = pd.read_csv(tmp_path / "o.csv").columns.tolist()
    assert names == ["the\nwidth", "height"]


def test_too_few_rows_for_the_columns_are_said(tmp_path, capsys):
    frame = pd.DataFrame(rows(12, 12))
    frame.columns = [f"c{j}" for j in range(12)]
    frame.to_csv(tmp_path / "t.csv", index=False)
    main([str(tmp_path / "t.csv")])
    assert "too few for 12 columns" in capsys.readouterr().out


def test_models_that_compute_the_same_agree_on_degenerate_columns(tmp_path, capsys):
    rare = np.zeros(60)
    rare[7] = 1.0
    path = table(tmp_path / "t.csv", n=60, rare=rare)
    main([path, "--no-dequantize"])
    out = capsys.readouterr().out
    assert "failed" not in out
    assert nats(out, "GaussianKDE(h)") == pytest.approx(
        nats(out, "sklearn KernelDensity(h)"), abs=1e-3
    )


@pytest.mark.parametrize("d", [thorough(1), 2, thorough(6)])
@pytest.mark.parametrize("suffix", ["png", thorough("pdf")])
def test_pictures_of_tables_of_all_widths(d, suffix, tmp_path, capsys):
    X = rows(60, 6)
    names = ["$x_1$", "c$\\frac$", "n" * 200, "数", "five", "six"]
    path = tmp_path / "t.csv"
    pd.DataFrame(X[:, :d], columns=names[:d]).to_csv(path, index=False)
    assert main([str(path), "--plot", str(tmp_path / f"o.{suffix}")]) == 0
    assert (tmp_path / f"o.{suffix}").stat().st_size > 5000


class Normal:
    """A standard normal density of two columns, as far as draws go."""

    def sample(self, n_samples, random_state):
        return random_state.standard_normal((n_samples, 2))


def test_draws_are_those_of_the_density_truncated_to_the_ranges_of_the_columns():
    ends = np.array([[-1.0, 0.5], [2.0, 0.9]])
    draws, note = Table(ends, ["u", "v"]).draws_within(Normal(), 3000, 0)
    assert draws.shape == (3000, 2)
    inside = np.diff(stats.norm.cdf(ends), axis=0).prod()
    outside = float(re.search(r"([\d.]+)%, were replaced", note)[1]) / 100
    # Within four standard errors of some 25,000 draws.
    assert abs(outside - (1 - inside)) < 4 * np.sqrt(inside / 25_000)
    for j, (low, high) in enumerate(ends.T):
        assert stats.kstest(draws[:, j], stats.truncnorm(low, high).cdf).pvalue > 1e-3


def test_draws_that_are_hardly_ever_within_are_moved_to_the_ends():
    ends = np.array([[3.0, -1.0], [4.0, 1.0]])
    draws, note = Table(ends, ["u", "v"]).draws_within(Normal(), 50, 0)
    expected = Normal().sample(1000, np.random.RandomState(0))[:50].clip(*ends)
    np.testing.assert_array_equal(draws, expected)
    assert "moved to its end" in note


def test_written_draws_stay_in_the_ranges_unless_unbounded(
    tmp_path, capsys, monkeypatch
):
    kde = [Candidate("GaussianKDE()", lambda X: GaussianKDE())]
    monkeypatch.setattr(comparison, "candidates", lambda *given, **options: (kde, []))
    values = {"month": np.arange(80) % 12 + 1, "rain": np.exp(rows(80, 1)[:, 0])}
    values["rain"][::3] = 0.0
    path, outside = table(tmp_path / "t.csv", **values), {}
    for option in ([], ["--unbounded"]):
        main([path, "--sample", str(tmp_path / "o.csv"), "-n", "2000", *option])
        draws = pd.read_csv(tmp_path / "o.csv")
        bad = (draws.month < 1) | (draws.month > 12) | (draws.rain < 0)
        outside[bool(option)] = bad.mean()
        assert ("were replaced; --unbounded" in capsys.readouterr().out) != bool(option)
        assert set(draws.month) >= set(range(1, 13))
    assert outside[False] == 0 < 0.05 < outside[True]


def test_a_large_table_keeps_its_ranges_when_it_is_thinned():
    found = Table(np.arange(500.0)[:, None], ["rank"]).thinned(
        10, np.random.RandomState(0)
    )
    assert found.ends.tolist() == [[0.0], [499.0]]


def test_the_times_of_a_scaled_density_are_its_own(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(cross_validation, "perf_counter", lambda: next(ticks))
    builders = [
        lambda X: make_generative_pipeline(StandardScaler(), Timed(GaussianKDE(0.5))),
        lambda X: make_generative_pipeline(StandardScaler(), GaussianKDE(0.5)),
    ]
    models = [Candidate("model", build) for build in builders]
    bare, whole = cross_validate(models, rows(20, 2), 2, 0, lambda label: None)
    assert bare.fit_seconds == bare.score_seconds == [1, 1]
    # The whole fit would have been two ticks longer.
    assert whole.fit_seconds == [1, 1]
    assert next(ticks) == 2 * (7 + 3)
    np.testing.assert_array_equal(bare.log_density, whole.log_density)


# -- what cannot be used ---------------------------------------------------------


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert "there is no file" in fails(capsys, tmp_path / "none.csv")


def test_an_empty_file_is_one_line(tmp_path, capsys):
    path = tmp_path / "t.csv"
    for text in ("", "\n \n", "# comment\n\n\n"):
        path.write_text(text)
        assert "is empty" in fails(capsys, path)
    path.write_text("width,height\n")
    assert "has no rows" in fails(capsys, path)


def test_text_in_a_numeric_column_is_one_line_with_its_place(tmp_path, capsys):
    values = [str(v) for v in np.linspace(0, 1, 80)]
    values[16] = "many"
    message = fails(capsys, table(tmp_path / "t.csv", extra=values))
    assert "'extra'" in message
    assert "'many' in line 18." in message
    text = "# comment\n\n" + (tmp_path / "t.csv").read_text()
    (tmp_path / "t.csv").write_text(text)
    assert "'many' in line 20." in fails(capsys, tmp_path / "t.csv")


@pytest.mark.parametrize(
    "above",
    [
        ["a,b"],
        ["a,b", ""],
        ["a,b", ","],
        ["", "a,b", ",", ",", "   "],
        [",", "a,b", '"",'],
        ["# logger", "a,b", ",", '"1.5","2', '3"'],
        ["a,b", '"', '",1.5'],
    ],
)
def test_the_line_of_an_error_counts_all_lines_above(tmp_path, above, capsys):
    lines = [*above, *BODY, "x,1.5"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert f"'x' in line {len(lines)}." in fails(capsys, tmp_path / "t.csv")


def test_one_row_is_one_line(tmp_path, capsys):
    message = fails(capsys, table(tmp_path / "t.csv", n=1))
    assert "at least 4 rows" in message
    assert "It has 1 row." in message


def test_no_numeric_column_is_one_line(tmp_path, capsys):
    pd.DataFrame({"a": ["x", "y"] * 9}).to_csv(tmp_path / "t.csv", index=False)
    assert "no numeric column" in fails(capsys, tmp_path / "t.csv")


def test_an_infinity_is_one_line(tmp_path, capsys):
    values = np.linspace(0, 1, 80) ** 2
    values[4] = np.inf
    message = fails(capsys, table(tmp_path / "t.csv", extra=values))
    assert "'extra'" in message
    assert "infinity, in line 6." in message


def test_a_folder_that_is_not_there_is_said_before_any_work(tmp_path, capsys):
    path = table(tmp_path / "t.csv")
    for option in ("--sample", "--plot"):
        message = fails(capsys, path, option, tmp_path / "no" / "out.png")
        assert "no folder" in message


def test_a_picture_of_an_unknown_kind_is_said_before_any_work(tmp_path, capsys):
    message = fails(capsys, table(tmp_path / "t.csv"), "--plot", tmp_path / "a.xyz")
    assert "png" in message


@pytest.mark.parametrize(
    "option",
    [
        "-n=0",
        "-n=many",
        "--folds=1",
        "--rows=-1",
        "--rows=1",
        "--random-state=4294967296",
    ],
)
def test_bad_options_are_one_line(option, capsys):
    with pytest.raises(SystemExit) as stop:
        main([option])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "must be an int" in message
    assert message.count("\n") == 1


def test_an_output_that_is_the_table_is_one_line(tmp_path, capsys):
    path = table(tmp_path / "t.csv")
    before = (tmp_path / "t.csv").read_text()
    assert "different files" in fails(capsys, path, "--sample", path)
    out = tmp_path / "out.png"
    assert "different files" in fails(capsys, path, "--sample", out, "--plot", out)
    assert (tmp_path / "t.csv").read_text() == before


def test_an_output_that_is_a_folder_is_one_line(tmp_path, capsys):
    path = table(tmp_path / "t.csv")
    assert "must be a file" in fails(capsys, path, "--sample", tmp_path)
    assert "must be a file" in fails(capsys, path, "--sample", "")


def test_rows_longer_than_the_header_are_one_line(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1.5,2,3\n2.5,3,4\n" * 9)
    message = fails(capsys, path)
    assert "3 fields" in message
    assert "2 names" in message
    path.write_text("a,b\n" + "1.5,2\n2.5,3\n" * 9 + "1,2,3\n")
    assert "Expected 2 fields in line 20, saw 3" in fails(capsys, path)


def test_values_whose_squares_overflow_are_one_line(tmp_path, capsys):
    table(tmp_path / "t.csv", huge=rows(80, 1)[:, 0] * 1e300)
    message = fails(capsys, tmp_path / "t.csv")
    assert "the column 'huge'" in message
    assert "must lie within" in message


def test_damaged_archives_are_one_line(tmp_path, capsys):
    path = table(tmp_path / "t.csv.gz")
    whole = (tmp_path / "t.csv.gz").read_bytes()
    for damaged in (whole[:200], whole[:100] + b"xxxx" + whole[104:]):
        (tmp_path / "t.csv.gz").write_bytes(damaged)
        assert "cannot be read as a table" in fails(capsys, path)


def test_no_file_is_left_half_written(tmp_path, capsys, monkeypatch):
    path = table(tmp_path / "t.csv")
    out = tmp_path / "draws.csv"
    out.write_text("what was there before")

    def stop(self, file, **options):
        with open(file, "w") as part:
            part.write("width,hei")
        raise OSError("the disk is full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", stop)
    assert "the disk is full" in fails(capsys, path, "--sample", out)
    assert out.read_text() == "what was there before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["draws.csv", "t.csv"]


# -- without optional packages, and without a terminal -----------------------------


def run_without(packages, arguments):
    """Run the command in a process in which these packages cannot be imported."""
    code = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from skgen.__main__ import main

sys.exit(main({list(map(str, arguments))!r}))
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.process
@pytest.mark.parametrize("fast", [["--fast"], []])
def test_without_torch_the_other_models_are_compared(tmp_path, fast):
    path = wide(tmp_path / "t.csv", 120, 4)
    out, picture = tmp_path / "o.csv", tmp_path / "o.png"
    options = ["--folds", "2", "--sample", out, "--plot", picture, *fast]
    done = run_without(["torch", "skorch"], [path, *options])
    assert done.returncode == 0, done.stderr
    (line,) = lines_of(done.stdout, "not compared: ")
    assert "SGDGaussianMixture, AutoEncoder, VAE, SWAE" in line
    assert "needs PyTorch and skorch. Install with: pip install torch skorch" in line
    assert ("--fast" in line) == bool(fast)
    assert {"GaussianKDE()", "EMGaussianMixture(1)"} < set(labels(done.stdout))
    assert "Traceback" not in done.stderr
    assert pd.read_csv(out).shape == (1000, 4)
    assert picture.stat().st_size > 5000


@pytest.mark.process
def test_without_torch_the_digits_and_the_help_are_there():
    help_ = run_without(["torch", "skorch"], ["--help"])
    assert help_.returncode == 0
    assert "--sample OUT.csv" in help_.stdout
    options = ["--rows", "200", "--folds", "2"]
    done = run_without(["torch", "skorch"], options)
    assert done.returncode == 0, done.stderr
    assert "PCA(20) + GaussianKDE()" in labels(done.stdout)


@pytest.mark.process
@pytest.mark.parametrize(
    ("package", "options", "start"),
    [
        ("pandas", [], "Reading a table needs pandas."),
        ("pandas", ["--sample", "o.csv"], "--sample needs pandas."),
        ("matplotlib", ["--plot", "o.png"], "--plot needs matplotlib."),
    ],
)
def test_a_missing_package_is_one_line(tmp_path, package, options, start):
    path = table(tmp_path / "t.csv")
    options = [tmp_path / o if o.startswith("o.") else o for o in options]
    done = run_without([package], [path, *options])
    install = 'Install with: pip install "scikit-generative[cli]"'
    assert done.returncode == 1
    assert done.stderr == f"skgen: error: {start} {install}\n"


@pytest.mark.process
def test_a_table_is_compared_without_rich_and_matplotlib(tmp_path):
    done = run_without(["rich", "matplotlib"], [table(tmp_path / "t.csv"), "--fast"])
    assert done.returncode == 0
    assert "GaussianKDE()" in labels(done.stdout)


def test_progress_without_a_terminal_is_a_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SECONDS", 0.05)
    with progress.progress(3) as advance:
        for label in ("first", "second"):
            advance(label)
            time.sleep(0.16)  # a fit that is longer than the interval
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 8
    assert re.fullmatch(r"0 of 3 fits done after \d+ s, now first", lines[0])
    assert re.fullmatch(r"1 of 3 fits done after \d+ s, now second", lines[-1])
    assert not any("report" in thread.name for thread in threading.enumerate())


def test_a_short_comparison_writes_no_progress(tmp_path, capsys):
    main([table(tmp_path / "t.csv")])
    assert "fits done" not in capsys.readouterr().err


def test_colours_that_are_forced_make_no_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    main([table(tmp_path / "t.csv")])
    assert "\x1b" not in capsys.readouterr().err


def test_a_terminal_shows_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for name in ("TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with progress.progress(2) as advance:
        advance("first")
        advance("second")
    assert "second" in terminal.getvalue()
    assert "50%" in terminal.getvalue()
    assert "fits done" not in terminal.getvalue()


@pytest.mark.process
def test_a_picture_chooses_no_backend_and_keeps_no_figure(tmp_path, capsys):
    path, out = table(tmp_path / "t.csv"), tmp_path / "o.png"
    code = f"""
import matplotlib, sys
matplotlib.use("svg")
from skgen.__main__ import main
assert main([{path!r}, "--fast", "--plot", {str(out)!r}]) == 0
assert matplotlib.get_backend() == "svg"
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# -- what planted faults showed to be untested ---------------------------------------


class Mean:
    """A density that scores a row by its distance to the mean of the training rows."""

    def fit(self, X):
        self.mean = X.mean(axis=0)

    def score_samples(self, X):
        return -np.abs(X - self.mean).sum(axis=1)


def ignored(label):
    pass


def test_each_row_is_scored_by_a_model_that_did_not_see_it():
    X = np.sort(rows(31, 2), axis=0)
    models = [Candidate("mean", lambda X: Mean())]
    (result,) = cross_validate(models, X, 3, 7, ignored)
    expected = np.empty(31)
    for train, test in KFold(3, shuffle=True, random_state=7).split(X):
        expected[test] = -np.abs(X[test] - X[train].mean(axis=0)).sum(axis=1)
    np.testing.assert_array_equal(result.log_density, expected)


def test_a_model_without_a_density_for_some_row_has_failed():
    class Cut(Mean):
        def score_samples(self, X):
            answer = super().score_samples(X)
            answer[0] = -np.inf
            return answer

    models = [Candidate("cut", lambda X: Cut())]
    (result,) = cross_validate(models, rows(20, 2), 2, 0, ignored)
    assert result.failed
    assert "not finite" in result.notes[ValueError]


def test_the_error_of_a_mean_is_its_standard_error():
    values = rows(50, 1)[:, 0]
    mean, error = mean_and_error(values)
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(stats.sem(values))


def test_the_difference_to_the_best_is_paired():
    best = rows(50, 1)[:, 0]
    less = best - 0.25 - 0.01 * rows(50, 1, seed=1)[:, 0] ** 2
    results = [
        Result(Candidate(label, None), values, [1.0], [0.5], {})
        for label, values in (("less", less), ("best", best))
    ]
    _, _, first, second = format_results(results).splitlines()
    assert first.split()[0] == "best"
    label, *numbers = second.split()[:5]
    assert label == "less"
    expected = [less.mean(), stats.sem(less), (best - less).mean()]
    np.testing.assert_allclose(
        np.array(numbers, dtype=float),
        [*expected, stats.sem(best - less)],
        atol=6e-5,
    )


def test_draws_come_back_to_the_grid_of_their_column(tmp_path):
    values = 0.25 + 0.5 * (np.arange(60) % 4)
    path = table(tmp_path / "t.csv", n=60, half=values)
    found = read_table(path).without_ties(0)
    draws = found.X + 0.02
    assert set(found.to_grid(draws)["half"]) <= {0.25, 0.75, 1.25, 1.75}


def test_a_table_is_thinned_to_different_rows_in_their_order():
    ranks = np.arange(200.0)[:, None]
    some = Table(ranks, ["rank"]).thinned(150, np.random.RandomState(0)).X[:, 0]
    assert some.size == 150
    assert (np.diff(some) > 0).all()
    assert some.max() > 150


def test_an_index_is_told_from_data(tmp_path):
    squares = np.arange(80.0) ** 2
    path = table(tmp_path / "t.csv", squares=squares, index=np.arange(1, 81))
    found = read_table(path)
    assert found.names == ["width", "height", "squares"]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_pairs_of_models_that_compute_the_same_agree():
    X = rows(200, 2) * [1.0, 1000.0] + [0.0, 5000.0]
    models, _ = candidates(200, 2, 4, 0, fast=True)
    built = {model.label: model.build for model in models}
    for ours, theirs in (
        ("GaussianKDE(h)", "sklearn KernelDensity(h)"),
        ("EMGaussianMixture(4, s)", "sklearn GaussianMixture(4, s)"),
    ):
        scores = [built[label](X).fit(X).score_samples(X) for label in (ours, theirs)]
        np.testing.assert_allclose(*scores, atol=1e-2)
    h = scott_factor(200, 2) * X.std(axis=0)
    expected = GaussianKDE(h).fit(X).score_samples(X)
    kde = built["GaussianKDE(h)"](X).fit(X)
    np.testing.assert_allclose(kde.score_samples(X), expected, rtol=1e-6)


def test_draws_come_from_the_best_model_of_ours(tmp_path, capsys, monkeypatch):
    def some(*arguments, **options):
        models, left_out = candidates(*arguments, **options)
        labels = "GaussianKDE()", "EMGaussianMixture(1)", "sklearn KernelDensity(h)"
        return [m for m in models if m.label in labels], left_out

    monkeypatch.setattr(comparison, "candidates", some)
    path = table(tmp_path / "t.csv")
    main([path, "--sample", str(tmp_path / "o.csv"), "-n", "7"])
    out = capsys.readouterr().out
    best = next(label for label in labels(out) if not label.startswith("sklearn"))
    assert f"7 draws from {best}: " in out


def test_draws_of_a_model_without_a_seed_follow_that_of_the_command(
    tmp_path, capsys, monkeypatch
):
    def some(*arguments, **options):
        models, left_out = candidates(*arguments, **options)
        return [m for m in models if m.label == "GaussianKDE()"], left_out

    monkeypatch.setattr(comparison, "candidates", some)
    path, draws = table(tmp_path / "t.csv"), []
    for seed in "001":
        out = tmp_path / "o.csv"
        main([path, "--sample", str(out), "-n", "7", "--random-state", seed])
        draws.append(pd.read_csv(out))
    pd.testing.assert_frame_equal(draws[0], draws[1])
    assert not draws[0].equals(draws[2])


def test_a_picture_of_many_columns_has_the_main_directions_too():
    X, draws = rows(200, 6), rows(300, 6, seed=1) + 1.0
    found = Table(X, ["$a", "b", "c", "d", "e", "f"])
    figure = Figure()
    report._corner(figure, found, draws, "title")
    panels = {(ax.get_xlabel(), ax.get_ylabel()): ax for ax in figure.axes}
    assert {r"\$a", "b", "c", "d"} < {x for x, _ in panels}
    ax = panels["first principal\ncomponent", "second principal\ncomponent"]
    of_draws, of_data = (np.transpose(line.get_data()) for line in ax.lines)
    scaler = StandardScaler().fit(X)
    pca = PCA(2).fit(scaler.transform(X))
    np.testing.assert_allclose(of_data, pca.transform(scaler.transform(X)))
    expected = pca.transform(scaler.transform(draws))
    assert {tuple(row) for row in of_draws} < {tuple(row) for row in expected}


def test_pages_of_data_and_of_draws_have_one_scale():
    digits, figure = digits_table(0), Figure()
    report._pages(figure, digits, 2.0 * digits.X, "title")
    data, draws = (ax.images[0] for ax in figure.axes)
    assert draws.get_clim() == data.get_clim()
    assert draws.get_array().max() > 1.5 * data.get_array().max()


def test_the_documentation_has_every_option():
    page = Path(__file__).parent.parent / "docs" / "command_line.md"
    text = page.read_text(encoding="utf-8")
    for action in command._parser()._actions:
        for option in action.option_strings:
            assert re.search(rf"`{option}\b", text), option
