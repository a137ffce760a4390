"""Reads problem tables, problems given on the command line, and selects among them.

A table is a CSV file, see docs/problem-tables.md. Whatever is wrong with one is an InputError of one sentence
that says where (``file:line``), what, and what would be right.
"""

from __future__ import annotations

import csv
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from microbench.errors import InputError
from microbench.kernels import kernel as kernel_module
from microbench.problem import PRECISIONS, Problem, Scalar

# Columns that describe a problem without being part of it. `repeats` is DeepBench's for all-reduce.
LABELS = ("suite", "application", "source", "network", "layer", "repeats")

# BLAS and MPI take sizes as int; bytes and operations are counted in 64 bits.
LARGEST_SIZE = 2**31 - 1
LARGEST_COUNT = 2**63 - 1

_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLEANS = {"true": True, "false": False}
_BLANKS = " \t"
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")  # every one but the tab
_LONGEST_SHOWN = 60

_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Row:
    """One problem with the labels of its row. ``source`` is ``file:line`` or the option that it came from."""

    problem: Problem
    labels: dict[str, str]
    source: str


def problem_sets(kernel: str) -> list[str]:
    """Names of the tables that come with the program, sorted."""
    return sorted(path.stem for path in (_tables() / kernel).glob("*.csv"))


def table_path(kernel: str, name_or_path: str) -> Path:
    """The file of a problem set, or of a table given by its path.

    Raises InputError where it is neither, with the sets there are and the nearest one.
    """
    sets = problem_sets(kernel)
    if name_or_path in sets:
        return _tables() / kernel / f"{name_or_path}.csv"
    path = Path(name_or_path)
    try:
        exists = name_or_path != "" and path.exists()
    except (OSError, ValueError):  # a name that cannot be one: too long, a NUL byte
        exists = False
    if not exists:
        raise InputError(
            f"--problems {_shown(name_or_path)}: neither a problem set of {kernel} nor a file"
            f"{_nearest(name_or_path, sets)}; the sets are {', '.join(sets) or 'not installed'}"
        )
    return path


def load_problems(kernel: str, name_or_path: str) -> list[Row]:
    """The rows of a problem set or of a table of ``kernel``, in order, duplicates kept. Raises InputError."""
    return read_table(table_path(kernel, name_or_path), kernel_module(kernel).PROBLEM)


def parse_problem(kernel: str, text: str) -> Row:
    """The problem of ``--problem m=1760,n=16,k=1760``; columns left out have their defaults.

    Raises InputError for whatever a table's row would be refused for.
    """
    problem_type = kernel_module(kernel).PROBLEM
    where = f"--problem {_shown(text, quoted=False)}"
    columns = _columns(problem_type)
    cells: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name = name.strip(_BLANKS)
        if not equals:
            raise InputError(f"{where}: {_shown(part)} is not COLUMN=VALUE; write as in {_example(columns)}")
        if name not in columns:
            raise InputError(f"{where}: {_unknown_column(name, columns)}")
        if name in cells:
            raise InputError(f"{where}: {name} is given twice; give it once")
        cells[name] = value
    missing = [name for name in _required(columns) if name not in cells]
    if missing:
        raise InputError(f"{where}: {', '.join(missing)} not given; write as in {_example(columns)}")
    return Row(_problem(problem_type, cells, where), {}, where)


def read_table(path: Path, problem_type: type[Problem]) -> list[Row]:
    """The rows of one table, in order, duplicates kept. Raises InputError at the first fault."""
    columns = _columns(problem_type)
    lines = [(f"{path}:{number}", line) for number, line in enumerate(_lines(path), 1)]
    while lines and lines[0][1].startswith("#"):
        del lines[0]
    lines = [(where, line) for where, line in lines if line.strip(_BLANKS)]
    required = ",".join(_required(columns))
    if not lines:
        raise InputError(f"{path}: the table is empty; its header must name {required}")
    header_at, header_line = lines.pop(0)
    header = [cell.strip(_BLANKS) for cell in _cells(header_at, header_line)]
    _check_header(header_at, header, columns)
    if not lines:
        raise InputError(f"{header_at}: no problem follows the header; add a row with {required}")
    rows = []
    for where, line in lines:
        if line.startswith("#"):
            raise InputError(f"{where}: a comment below the header; comments come before it")
        cells = _cells(where, line)
        if len(cells) != len(header):
            raise InputError(
                f"{where}: {len(cells)} cells where the header names {len(header)} columns; "
                f"write one for each of {','.join(header)}"
            )
        named = dict(zip(header, cells, strict=True))
        labels = {name: cell.strip(_BLANKS) for name, cell in named.items() if name not in columns}
        sizes = {name: cell for name, cell in named.items() if name in columns}
        rows.append(Row(_problem(problem_type, sizes, where), labels, where))
    return rows


def filter_rows(rows: Sequence[Row], expressions: Iterable[str]) -> list[Row]:
    """The rows for which every ``COLUMN OP VALUE`` holds; OP is one of = != < <= > >=.

    Numbers compare as numbers. Booleans and text know = and != only; for text, ``*`` in VALUE stands for any
    characters. Raises InputError for what cannot be compared and where no row is left.
    """
    kept = list(rows)
    for expression in expressions:
        where = f"--where {_shown(expression, quoted=False)}"
        matching = re.fullmatch(r"\s*(\w+)\s*([=!<>~]+)\s*(.*?)\s*", expression)
        if not matching:
            raise InputError(f"{where}: not COLUMN OP VALUE; write as in m>=1024 or suite=training")
        column, symbol, value = matching.groups()
        if symbol not in _COMPARISONS:
            raise InputError(f"{where}: no operator {symbol}; there are {' '.join(_COMPARISONS)}")
        names = list(dict.fromkeys(name for row in kept for name in _values(row)))
        if column not in names:
            raise InputError(f"{where}: {_unknown_column(column, names)}")
        values = [_values(row).get(column, "") for row in kept]
        holds = _predicate(where, symbol, value, type(values[0]))
        left = [row for row, cell in zip(kept, values, strict=True) if holds(cell)]
        if not left:
            raise InputError(
                f"{where}: no problem is left of {len(kept)}; {column} is {_summary(values)} in them"
            )
        kept = left
    return kept


def distinct(rows: Iterable[Row]) -> list[Row]:
    """Each problem once, where it came first, with the labels of all its rows joined: "a; b"."""
    merged: dict[Problem, Row] = {}
    for row in rows:
        first = merged.setdefault(row.problem, row)
        if first is not row:
            names = dict.fromkeys([*first.labels, *row.labels])
            labels = {name: _join(first.labels.get(name, ""), row.labels.get(name, "")) for name in names}
            merged[row.problem] = replace(first, labels=labels)
    return list(merged.values())


@cache
def _tables() -> Path:
    """Beside the modules where the package is installed, at the root of a source tree otherwise."""
    package = Path(__file__).parent
    installed = package / "problem_sizes"
    return installed if installed.is_dir() else package.parent.parent / "problem_sizes"


@dataclass(frozen=True)
class _Column:
    """A field of a problem as a column: its type, and what its values may be."""

    name: str
    type: type
    optional: bool
    minimum: float
    choices: tuple[str, ...]


def _columns(problem_type: type[Problem]) -> dict[str, _Column]:
    types = get_type_hints(problem_type)
    return {field.name: _column(field, types[field.name]) for field in fields(problem_type)}


def _column(field: Field[Any], kind: type) -> _Column:
    minimum = field.metadata.get("minimum", 1 if kind is int else float("-inf"))
    if kind is int and field.default is not MISSING:
        minimum = min(minimum, field.default)  # what stands where a column is left out may be written as well
    return _Column(
        field.name, kind, field.default is not MISSING, minimum, tuple(field.metadata.get("choices", ()))
    )


def _required(columns: Mapping[str, _Column]) -> list[str]:
    return [name for name, column in columns.items() if not column.optional]


def _example(columns: Mapping[str, _Column]) -> str:
    examples = {int: "64", bool: "true", float: "0.5", str: "NAME"}
    required = [columns[name] for name in _required(columns)]
    return ",".join(f"{column.name}={[*column.choices, examples[column.type]][0]}" for column in required)


def _check_header(where: str, header: Sequence[str], columns: Mapping[str, _Column]) -> None:
    known = [*columns, *LABELS]
    for name in header:
        if name not in known:
            raise InputError(f"{where}: {_unknown_column(name, known)}")
        if header.count(name) > 1:
            raise InputError(f"{where}: column {name} is there {header.count(name)} times; keep one")
    missing = [name for name in _required(columns) if name not in header]
    if missing:
        raise InputError(f"{where}: the header lacks {', '.join(missing)}; add it and a cell to each row")


def _unknown_column(name: str, known: Iterable[str]) -> str:
    known = list(known)
    return f"no column {_shown(name)}{_nearest(name, known)}; there are {', '.join(known)}"


def _nearest(name: str, known: Sequence[str]) -> str:
    found = get_close_matches(name.lower(), known, 1)
    return f" (did you mean {found[0]}?)" if found else ""


def _lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name a CSV file") from error
    lines = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            text = line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            wrong = f"byte 0x{line[error.start]:02x} is not UTF-8"
        else:
            control = _CONTROL.search(text)
            if not control:
                lines.append(text)
                continue
            wrong = f"control character {control[0]!r}"
        raise InputError(f"{path}:{number}: {wrong}; save the table as UTF-8 text, one row a line")
    return lines


def _cells(where: str, line: str) -> list[str]:
    """The cells of one line: a quoted cell may hold commas but no line break, so that a row is a line."""
    try:
        return next(csv.reader([line], strict=True, skipinitialspace=True))
    except csv.Error as error:
        raise InputError(
            f"{where}: not a row of CSV ({error}); write one row a line, quotes closed"
        ) from error


def _problem(problem_type: type[Problem], cells: Mapping[str, str], where: str) -> Problem:
    columns = _columns(problem_type)
    try:
        values = {name: _value(columns[name], cell.strip(_BLANKS)) for name, cell in cells.items()}
        problem = problem_type(**values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    counts = {
        "operations": problem.flops(),
        "bytes": max(problem.bytes(precision) for precision in PRECISIONS.values()),
    }
    for what, count in counts.items():
        if count > LARGEST_COUNT:
            raise InputError(f"{where}: the problem has 2^63 {what} or more; choose smaller sizes")
    return problem


def _value(column: _Column, text: str) -> Scalar:
    name = column.name
    if not text:
        raise InputError(f"{name} is empty; write a value")
    if column.type is bool:
        if text not in _BOOLEANS:
            raise InputError(f"{name} is {_shown(text)}; write true or false")
        return _BOOLEANS[text]
    if column.type is str:
        if column.choices and text not in column.choices:
            raise InputError(f"{name} is {_shown(text)}; it must be one of {', '.join(column.choices)}")
        return text
    if column.type is float:
        number: float = float(text) if _DECIMAL.fullmatch(text) else float("nan")
        if not float("-inf") < number < float("inf"):
            raise InputError(f"{name} is {_shown(text)}; write a number such as 0.95")
    else:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()):
            raise InputError(f"{name} is {_shown(text)}; write a whole number in digits, such as 1760")
        # Compared by length first: Python refuses to convert more than some thousand digits.
        digits = digits.lstrip("0") or "0"
        too_long = len(digits) > len(str(LARGEST_SIZE))
        number = LARGEST_SIZE + 1 if too_long else int(digits)
        if text.startswith("-"):
            number = -number
        elif number > LARGEST_SIZE:
            raise InputError(f"{name} is {_shown(text)}; the largest size is {LARGEST_SIZE}")
    if number < column.minimum:
        raise InputError(f"{name} is {_shown(text)}; it must be at least {column.minimum}")
    return number


def _shown(text: str, quoted: bool = True) -> str:
    """Text from outside as it may stand in a message: one line of limited length."""
    short = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
    return repr(short) if quoted or not short.isprintable() else short


def _values(row: Row) -> dict[str, Scalar]:
    return {**{field.name: getattr(row.problem, field.name) for field in fields(row.problem)}, **row.labels}


def _predicate(where: str, symbol: str, value: str, kind: type) -> Callable[[Scalar], bool]:
    compare = _COMPARISONS[symbol]
    if kind in (int, float):
        if not _DECIMAL.fullmatch(value) or len(value) > _LONGEST_SHOWN:
            raise InputError(f"{where}: the column holds numbers, {_shown(value)} is none; write digits")
        number = float(value)
        return lambda cell: compare(cell, number)
    if symbol not in ("=", "!="):
        what = "true or false" if kind is bool else "text"
        raise InputError(f"{where}: the column holds {what}, which {symbol} does not compare; use = or !=")
    if kind is bool:
        if value not in _BOOLEANS:
            raise InputError(f"{where}: {_shown(value)} is no boolean; write true or false")
        return lambda cell: compare(cell, _BOOLEANS[value])
    pattern = re.compile(".*".join(map(re.escape, value.split("*"))), re.DOTALL)
    return lambda cell: compare(pattern.fullmatch(str(cell)) is not None, True)


def _summary(values: Sequence[Scalar]) -> str:
    """What a column holds, for the message that nothing matches: the range of numbers, else the values."""
    if type(values[0]) in (int, float):
        numbers = [value for value in values if not isinstance(value, str)]
        return f"{min(numbers)} to {max(numbers)}"
    texts = [str(value).lower() if isinstance(value, bool) else repr(value) for value in values]
    found = list(dict.fromkeys(texts))
    return ", ".join(found[:8]) + (" ..." if len(found) > 8 else "")


def _join(known: str, new: str) -> str:
    parts = [part for part in known.split("; ") if part]
    return "; ".join([*parts, new]) if new and new not in parts else known
