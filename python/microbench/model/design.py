"""The model's terms, and the matrix that they make of observations.

Factors are coded against a reference level, the one with most problems; sizes are logarithms about their mean.
Columns are made here and not by a formula, because names of devices and libraries come from outside, because a level
that was never measured together with another must be seen, and because what is left out below is decided by data.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microbench.model.data import Observation

Array = NDArray[np.float64]

NATURE = ("device", "kernel", "precision")
CHOICES = ("library", "layout", "mode", "threads")
FACTORS = (*NATURE, *CHOICES[:-1])
INTERACTIONS = ("device:kernel", "device:precision")
_SIZES = ("flops", "bytes")

OWN_SLOPES = 10
"""Problems that a kernel must have for slopes of its own, and the model for a curvature."""

# Of a column of length 1: what is left of it beside the columns before, if it is new; and what of a case's columns may
# lie in directions that the data do not show.
_INDEPENDENT = 1e-6
_UNKNOWN = 1e-6


@dataclass(frozen=True)
class Design:
    """Which columns there are; `matrix` fills them.

    Attributes:
        terms: in the order of their columns.
        levels: of each factor, the reference first.
        references: of each factor and level the level that it is held against, its own where it is such a one.
        centres: mean logarithm of each size.
        used: per kernel, the sizes that are known of it.
        own_slopes: kernels with slopes of their own.
        curved: whether there is a column of squared operations.
        columns: term and name of each column, the intercept first.
        kept: for each column whether it is independent of those before.
        scale: length of each column.
        unseen: directions (columns, any number) in scaled columns that the data do not show; orthonormal.
    """

    terms: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    references: Mapping[str, Mapping[str, str]]
    centres: Mapping[str, float]
    used: Mapping[str, frozenset[str]]
    own_slopes: frozenset[str]
    curved: bool
    columns: tuple[tuple[str, str], ...]
    kept: NDArray[np.bool_]
    scale: Array
    unseen: Array

    @classmethod
    def of(cls, observations: Sequence[Observation], terms: Sequence[str]) -> Design:
        """The design of ``terms`` for these observations, at least one."""
        levels = {factor: _levels(observations, factor) for factor in FACTORS}
        references = {factor: _references(observations, factor, levels[factor]) for factor in FACTORS}
        centres = {
            size: float(
                np.mean(np.log([known for each in observations if (known := getattr(each, size))] or [1]))
            )
            for size in _SIZES
        }
        used = {
            each.kernel: frozenset(size for size in _SIZES if getattr(each, size)) for each in observations
        }
        problems = _problems(observations, "kernel")
        own_slopes = frozenset(kernel for kernel, count in problems.items() if count >= OWN_SLOPES)
        empty = np.empty(0)
        bare = cls(
            tuple(terms),
            levels,
            references,
            centres,
            used,
            own_slopes,
            bool(own_slopes),
            (),
            np.empty(0, bool),
            empty,
            empty,
        )
        columns, matrix = bare._blocks(observations)
        scale = np.linalg.norm(matrix, axis=0)
        scale[scale == 0] = 1.0
        scaled = matrix / scale
        values, vectors = np.linalg.eigh(scaled.T @ scaled)
        shown = values > _INDEPENDENT**2 * len(values)
        # Columns of the same lengths at the same angles as the matrix's, with few rows.
        short = np.sqrt(np.where(shown, values, 0.0))[:, None] * vectors.T
        return cls(
            bare.terms,
            levels,
            references,
            centres,
            used,
            own_slopes,
            bare.curved,
            columns,
            _independent(short),
            scale,
            vectors[:, ~shown],
        )

    def matrix(self, observations: Sequence[Observation]) -> Array:
        """One row per observation, one column per entry of ``columns``."""
        return self._blocks(observations)[1]

    def estimable(self, rows: Array) -> NDArray[np.bool_]:
        """For each row of a matrix whether the data say anything about it."""
        return seen(rows / self.scale, self.unseen)

    def of_term(self, term: str) -> list[int]:
        """Places of a term's columns that are kept."""
        return [place for place, (name, _) in enumerate(self.columns) if name == term and self.kept[place]]

    def _blocks(self, observations: Sequence[Observation]) -> tuple[tuple[tuple[str, str], ...], Array]:
        columns, blocks = [("", "intercept")], [np.ones((len(observations), 1))]
        for term in self.terms:
            names, block = self._block(term, observations)
            columns += [(term, name) for name in names]
            blocks.append(block)
        return tuple(columns), np.hstack(blocks)

    def _block(self, term: str, observations: Sequence[Observation]) -> tuple[list[str], Array]:
        if ":" in term:
            first, second = (self._block(part, observations) for part in term.split(":"))
            pairs = [
                (a, b)
                for a, name in enumerate(first[0])
                for b in range(len(second[0]))
                if term != "kernel:size" or name in self.own_slopes
            ]
            block = np.array([first[1][:, a] * second[1][:, b] for a, b in pairs])
            names = [f"{first[0][a]}:{second[0][b]}" for a, b in pairs]
            return names, block.T if pairs else np.empty((len(observations), 0))
        if term == "size":
            return self._sizes(observations)
        if term in ("threads", "bound"):
            attribute = {"threads": "threads", "bound": "bound_s"}[term]
            logarithms = [float(np.log(getattr(each, attribute))) for each in observations]
            return [term], np.array(logarithms)[:, None]
        names = [level for level in self.levels[term] if self.references[term][level] != level]
        present = np.array([each.level(term) for each in observations], dtype=object)
        block = np.array([present == level for level in names], dtype=float).reshape(len(names), len(present))
        return names, block.T

    def _sizes(self, observations: Sequence[Observation]) -> tuple[list[str], Array]:
        """log(flops), log(bytes) and the square of the first; 0 where the kernel's are not known."""
        known = np.array([[each.flops or 0, each.bytes or 0] for each in observations], dtype=float)
        centres = np.array([self.centres[size] for size in _SIZES])
        block = np.where(known > 0, np.log(np.maximum(known, 1)) - centres, 0.0)
        names = list(_SIZES)
        if self.curved:
            block = np.column_stack([block, block[:, 0] ** 2])
            names.append("flops^2")
        return names, block


def varying(observations: Sequence[Observation]) -> list[str]:
    """The factors of the model: device, kernel and precision if they vary, what was chosen if it varies beside them.

    A library that is the only one of its device is part of the device; so with layouts, modes and threads. Threads are
    none where they are unknown of some observation.
    """
    found = [factor for factor in NATURE if len({each.level(factor) for each in observations}) > 1]
    cells: dict[tuple[str, ...], list[Observation]] = defaultdict(list)
    for each in observations:
        cells[each.device, each.kernel, each.precision].append(each)
    return found + [
        factor
        for factor in CHOICES
        if any(len({getattr(each, factor) for each in cell}) > 1 for cell in cells.values())
        and (factor != "threads" or all(each.threads > 0 for each in observations))
    ]


def terms_of(observations: Sequence[Observation], interactions: bool = False) -> list[str]:
    """Terms of the model with a device effect: everything that varies."""
    found = varying(observations)
    terms = [*(term for term in found if term in ("device", "kernel")), "size"]
    terms += [term for term in found if term not in terms]
    terms += ["kernel:size"] * ("kernel" in found)
    if interactions:
        terms += [term for term in INTERACTIONS if all(part in found for part in term.split(":"))]
    return terms


def bound_terms(observations: Sequence[Observation]) -> list[str]:
    """Terms of the model in which ceilings stand for device, precision and threads."""
    replaced = ("device", "precision", "threads")
    return [*(term for term in terms_of(observations) if term not in replaced), "bound"]


def seen(rows: Array, unseen: Array) -> NDArray[np.bool_]:
    """For each row whether nothing of it lies in the ``unseen`` directions (columns, any number)."""
    found: NDArray[np.bool_] = np.linalg.norm(rows @ unseen, axis=1) < _UNKNOWN * (
        1 + np.linalg.norm(rows, axis=1)
    )
    return found


def _problems(observations: Sequence[Observation], factor: str) -> dict[str, int]:
    found: dict[str, set[str]] = defaultdict(set)
    for each in observations:
        found[each.level(factor)].add(each.problem)
    return {level: len(problems) for level, problems in found.items()}


def _levels(observations: Sequence[Observation], factor: str) -> tuple[str, ...]:
    """By number of problems, then of observations, then by name: the order of the runs changes nothing."""
    problems = _problems(observations, factor)
    counts = Counter(each.level(factor) for each in observations)
    return tuple(sorted(problems, key=lambda level: (-problems[level], -counts[level], level)))


def _references(observations: Sequence[Observation], factor: str, levels: Sequence[str]) -> dict[str, str]:
    """Of each level the one that it is held against: the first of all that it can be told from.

    What was chosen can be told apart where it was chosen for the same device, kernel and precision, directly or over
    others. Where there is no such link (a library that only one device has), the difference is part of those.
    """
    if factor in NATURE:
        return dict.fromkeys(levels, levels[0])
    cells: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for each in observations:
        cells[each.device, each.kernel, each.precision].add(each.level(factor))
    found = {level: level for level in levels}
    for cell in cells.values():
        linked = {found[level] for level in cell}
        first = min(linked, key=levels.index)
        found = {level: first if known in linked else known for level, known in found.items()}
    return found


def _independent(matrix: Array) -> NDArray[np.bool_]:
    """The columns that are no linear combination of those before (Gram-Schmidt, done twice)."""
    kept = np.zeros(matrix.shape[1], bool)
    basis = np.empty((0, matrix.shape[0]))
    for place, column in enumerate(matrix.T):
        left = column
        for _ in range(2):
            left = left - basis.T @ (basis @ left)
        length = float(np.linalg.norm(left))
        if length > _INDEPENDENT:
            basis = np.vstack([basis, left / length])
            kept[place] = True
    return kept
