"""Dataframes from files: delimited text as people have it, and formats of pandas."""

import bz2
import csv
import gzip
import lzma
import re
import warnings
import zlib
from collections import Counter
from io import BytesIO, StringIO
from itertools import dropwhile, islice, pairwise, zip_longest
from pathlib import Path

import numpy as np

from skgen._lazy import lazy_module
from skgen.cli._files import CommandError, count, require

pandas = lazy_module("pandas", "Reading a table")

# Entries without a value, in lower case, besides pandas' own.
_MISSING = {
    *("", "?", "-", "--", "---", "\N{EN DASH}", "\N{EM DASH}", "*", "**"),
    *(".", "..", "...", "\N{HORIZONTAL ELLIPSIS}", "missing", "none", "nil", "null"),
    *("na", "n.a.", "n/a", "#n/a", "nan", "(null)", r"\n"),
}

_DELIMITERS = ",;\t| "  # the blank stands for any number of blanks and tabs

_SAMPLED = 500  # lines that show the delimiter and the header

# First bytes of texts, of compressed files, and of files that pandas reads.
_UTF_16 = b"\xff\xfe", b"\xfe\xff"
_COMPRESSED = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ": lzma}
_FORMATS = {
    b"PK\x03\x04": ("a spreadsheet", "read_excel"),
    b"\xd0\xcf\x11\xe0": ("a spreadsheet", "read_excel"),
    b"PAR1": ("Parquet", "read_parquet"),
    b"ARROW1": ("Feather", "read_feather"),
}

# A comment, or the delimiter as Excel writes it above a table.
_COMMENT = re.compile(r"^[ \t]*(?:#.*|sep=.)$", re.MULTILINE)

# A number with a decimal mark and separators of thousands, for re and for pyarrow.
_THOUSANDS = {mark: f"{other}'\u2019 \xa0\u2009\u202f" for mark, other in (".,", ",.")}
_NUMBER = {
    mark: "[-+]?(?:(?:[0-9]+|[1-9][0-9]{0,2}(?:"
    + "|".join(f"(?:[{between}][0-9]{{3}})+" for between in _THOUSANDS[mark])
    + f"))(?:[{mark}][0-9]*)?|[{mark}][0-9]+)(?:[eE][-+]?[0-9]+)?"
    for mark in ",."
}
_ADDRESS = "(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?:[.]|$)){4}"  # no number

# Any number, by which the delimiter and the header are found. (1) and 1- are -1.
_MONEY = "$\xa2-\xa5\u20a0-\u20cf"
_UNIT = f"[%\u2030{_MONEY}]"
_ANY = re.compile(
    rf"\(?[-+\u2212]?\s?[{_MONEY}]?\s?({'|'.join(_NUMBER.values())})\s?{_UNIT}?[-)]?"
)


def read_frame(path):
    """Return a dataframe, notes on it, its decimal mark, and a function of its rows.

    The function returns the place of row i in the file, in words.
    """
    require("pandas", "Reading a table")
    if Path(path).is_dir():
        raise CommandError(f"{path} is a folder, not a table.")
    if not Path(path).is_file():
        raise CommandError(f"there is no file {path}.")
    try:
        data = Path(path).read_bytes()
        for start, compression in _COMPRESSED.items():
            if data.startswith(start):
                data = compression.decompress(data)
        for start, (kind, reader) in _FORMATS.items():
            if data.startswith(start):
                return _from_pandas(path, data, kind, reader)
        if "json" in Path(path).name.lower():
            several = re.search(rb"}\s*\n\s*{", data[: 10**6]) is not None
            return _from_pandas(path, data, "JSON", "read_json", lines=several)
        return _delimited(path, data)
    except (
        *(csv.Error, OSError, EOFError, zlib.error, lzma.LZMAError),
        *(pandas.errors.ParserError, pandas.errors.ParserWarning),
    ) as error:
        reason = " ".join(str(error).split()).split("C error: ")[-1]
        raise CommandError(f"{path} cannot be read as a table: {reason}") from None


def _from_pandas(path, data, kind, reader, **options):
    """Return what `read_frame` does, by a function of pandas."""
    try:
        frame = getattr(pandas, reader)(BytesIO(data), **options)
    except Exception as error:  # of one of many packages
        reason = " ".join(str(error).split())
        raise CommandError(
            f"{path} looks like {kind}, which cannot be read ({reason}): save it "
            "as CSV."
        ) from None
    frame.columns = frame.columns.map(str)
    return frame, [], ".", lambda i: f"row {i + 1} below the header"


def _delimited(path, data):
    """Return what `read_frame` does, for delimited text."""
    text, notes = _decoded(path, data)
    text, delimiter, has_header, rows, more = _laid_out(path, text)
    mark, found = _decimal_mark(rows, delimiter)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)
        frame = pandas.read_csv(
            BytesIO(text.encode()),
            sep=r"\s+" if delimiter == " " else delimiter,
            header=0 if has_header else None,
            index_col=False,
            skipinitialspace=True,
            na_values=sorted(_MISSING),
            low_memory=False,
            decimal=mark,
        )
    names = frame.columns
    frame.columns = names.str.strip() if has_header else [f"column{j}" for j in names]

    def place(i):
        lines = _rows(StringIO(text), delimiter)
        return f"line {list(islice(lines, i + has_header + 1))[-1][0]}"

    return frame, [*notes, *more, *found], mark, place


def _decoded(path, data):
    """Return the text of a file, and a list of notes on its encoding."""
    encoding, notes = "utf-16" if data[:2] in _UTF_16 else "utf-8-sig", []
    if b"\0" in data[:2]:
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
        notes = ["not UTF-8, read as Windows-1252 (Latin-1)"]
    if "\0" in text:
        raise CommandError(f"{path} is not text: save it as CSV.")
    return text.replace("\r\n", "\n").replace("\r", "\n"), notes


def _rows(lines, mark):
    """Yield the last line number and the fields of each row, as pandas counts them."""
    if mark == " ":
        lines = (line.replace("\t", " ").rstrip() for line in lines)
    reader = csv.reader(lines, delimiter=mark, skipinitialspace=True)
    return ((reader.line_num, row) for row in reader if row[1:] or "".join(row).strip())


def _laid_out(path, text):
    """Return a text, its delimiter, if it has a header, its first rows, and notes.

    Lines that are not of the table become blank, so that lines keep their numbers.
    """
    comment = re.match(r"(?:[ \t]*(?:#(.*))?\n)*", text)[1]
    if "#" in text or text.lstrip().startswith("sep="):
        without, n_comments = _COMMENT.subn("", text)
        if 2 * n_comments <= text.count("\n"):
            text = without
        else:
            comment = None  # the entries of the first column begin with "#"
    if not text.strip():
        raise CommandError(f"{path} is empty.")
    lines = text.split("\n", _SAMPLED)
    samples = {mark: [*_rows(lines[:_SAMPLED], mark)] for mark in _DELIMITERS}
    mark = max(_DELIMITERS, key=lambda mark: _fit(samples[mark]))
    rows, notes = samples[mark], []
    fit, width = _fit(rows)
    # Titles are shorter than the header behind them, or than half of the table.
    full, *body = dropwhile(lambda row: len(row) < width, [row for _, row in rows])
    least = width if fit and _is_header(full, body) else 0
    while len(rows) > 2 and (
        len(title := rows[0][1]) < least or 2 * sum(map(bool, title)) < width
    ):
        (end, _), *rows = rows
        lines[:end] = [""] * end
        title = " ".join(title).strip()[:40]
        notes += [f"left out above the table: {title!r}"] * bool(title)
    (number, names), *others = rows
    body = [row for _, row in others]
    has_header = _is_header(names, body)
    if not has_header and comment is not None and number > 1:
        names = next((row for _, row in _rows([comment.strip()], mark)), [])
        has_header = len(names) == width and not any(map(_ANY.fullmatch, names))
        if has_header:  # as np.savetxt writes it
            lines[number - 2] = comment.strip()
    if not has_header:
        notes.append("no header: the first line holds numbers and is read as a row")
        return "\n".join(lines), mark, False, [names, *body], notes
    if mark in " \t" and all(len(row) == len(names) + 1 for row in body):
        lines[number - 1] = f"row{mark}{lines[number - 1].strip()}"  # as R writes it
    elif body and any(map(str.strip, body[0][len(names) :])):
        raise CommandError(
            f"the first row of {path} has {count(len(body[0]), 'field')}, but its "
            f"header has {count(len(names), 'name')}."
        )
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        notes.append(f"columns with the same name are numbered: {', '.join(twice)}")
    return "\n".join(lines), mark, True, body, notes


def _fit(rows):
    """Return how well rows look like a table of numbers, and the modal width."""
    if not rows:
        return 0.0, 0
    body = rows[1:] or rows  # without the header
    width = Counter(len(row) for _, row in body).most_common(1)[0][0]
    fields = [field.strip() for _, row in body for field in row if field.strip()]
    numeric = sum(map(bool, map(_ANY.fullmatch, fields))) / max(1, len(fields))
    level = sum(len(row) == width for _, row in body) / len(body)
    # Half of the weight is the header's. One column is any text.
    level += len(rows[0][1]) == width
    return numeric * level * (0.9 if width == 1 else 1.0), width


def _is_header(first, others):
    """Return whether the first row holds names: text, or numbers that count columns."""
    names, columns = [], []
    for name, *column in zip_longest(first, *others, fillvalue=""):
        filled = [t for t in map(str.strip, column) if t.lower() not in _MISSING]
        numbers = [text for text in filled if _ANY.fullmatch(text)]
        if not numbers or 2 * len(numbers) < len(filled) or name.lower() in _MISSING:
            continue
        if not _ANY.fullmatch(name):
            return True
        names.append(name)
        columns.append(numbers)
    if len(names) < 2 or not all(map(str.isdecimal, names)):
        return not names
    # Years, or numbers of the columns. A row of data can be both.
    counts = list(map(int, names))
    if counts[0] >= counts[1] or len({b - a for a, b in pairwise(counts)}) > 1:
        return False
    fractions = all(any(re.search("[.,]", n) for n in column) for column in columns)
    new = not any(map(list.__contains__, columns, names))
    return fractions or len(names) > 3 or (new and counts[0] >= 1000)


def _parsed(column, mark):
    """Return the entries as numbers, NaN for text, and whether units were removed."""
    text = column.dropna().astype(str).str.strip().str.replace("\N{MINUS SIGN}", "-")
    bare = text.str.replace(r"^\((.+)\)$|^([^-]+)-$", r"-\1\2", regex=True)
    bare = bare.str.replace(rf"^([-+]?)\s*[{_MONEY}]\s*", r"\1", regex=True)
    bare = bare.str.replace(rf"\s*{_UNIT}$", "", regex=True)
    bare = bare[bare.str.fullmatch(_NUMBER[mark]) & ~bare.str.fullmatch(_ADDRESS).all()]
    plain = bare.str.replace(f"[{_THOUSANDS[mark]}]", "", regex=True)
    plain = plain.str.replace(mark, ".")
    has_units = bool((text[bare.index] != bare).any())
    return pandas.to_numeric(plain).astype(float), has_units


def _decimal_mark(rows, delimiter):
    """Return the decimal mark of a table from some of its rows, and a list of notes."""
    clear, weak, unclear = Counter(), Counter(), []
    for column in zip_longest(*rows, fillvalue=""):
        numbers = [n[1] for n in map(_ANY.fullmatch, map(str.strip, column)) if n]
        # Numbers below 1,000 have no separator, but would have decimals.
        below = any(re.fullmatch("[-+]?[1-9][0-9]{0,2}", n) for n in numbers)
        for n in numbers:
            if not re.search("[.,]", n) or re.fullmatch(_ADDRESS, n):
                continue
            marks = [mark for mark in ",." if re.fullmatch(_NUMBER[mark], n)]
            if len(marks) == 1:
                clear[marks[0]] += 1
            elif "," in n or delimiter in ";\t":  # such as 1,234
                weak["." if "," in n else ","] += below
                unclear.append(n)
    lead = clear[","] - clear["."] or weak[","] - weak["."]
    # Semicolons and tabs stand where commas are decimal.
    commas = delimiter != "," and any("," in n for n in unclear)
    mark = "," if lead > 0 or (lead == 0 and commas) else "."
    notes = ["numbers have decimal commas"] if mark == "," else []
    if unclear and lead == 0:
        read = [unclear[0].replace(",", "."), re.sub("[.,]", "", unclear[0])]
        read, other = read if mark in unclear[0] else read[::-1]
        notes.append(f"unclear: {unclear[0]} is read as {read}, not as {other}")
    return mark, notes


def numbers_of(column, mark):
    """Return a column as floats, which entries are text, and if units were removed.

    Text and entries without a value are NaN. `mark` is the decimal mark of the table.
    """
    if column.dtype.kind != "O":
        return column.astype(float), np.zeros(column.size, dtype=bool), False
    found = [_parsed(column, m) for m in sorted(",.", key=lambda m: m != mark)]
    numbers, has_units = max(found, key=lambda pair: pair[0].size)
    numbers = numbers.reindex(column.index)
    is_blank = column.astype(str).str.strip().str.lower().isin(_MISSING)
    return numbers, (numbers.isna() & column.notna() & ~is_blank).to_numpy(), has_units
