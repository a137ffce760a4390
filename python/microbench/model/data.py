"""From stored times to observations: what the model is fitted to, and what is left out of it and why."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from microbench.collective import COLLECTIVES
from microbench.errors import InputError
from microbench.figures import RecordSummary, Row, choices, fit, library_title, one_line, problem_title
from microbench.model.ceilings import Ceilings, bound_s, ceilings_of
from microbench.problem import Scalar
from microbench.sources import Source, time_s
from microbench.store import RunInfo

MINIMUM_PROBLEMS = 6
"""Different sizes under which no model is fitted: an intercept, two slopes, and something to judge them by."""

NESTED = ("library", "layout")
"""Factors whose levels belong to one kernel each."""

WITHOUT_INPUT = " (no input)"
"""Ends the kernel's name of recurrent layers that were timed without the product with their input."""


@dataclass(frozen=True)
class Observation:
    """The median time of one configuration in one run, or the case to predict.

    Attributes:
        device: name of the first source of this device.
        kernel: with its pass, where it has several: another pass is another computation.
        problem: what is the same in every pass, precision and device: errors of one problem are alike.
        title: names the problem to people.
        flops, bytes: None: unknown, or none, or not known of all of this kernel.
        bound_s: seconds by the device's ceilings, the longer of arithmetic and compulsory traffic; None: unknown.
        seconds: median over the run's processes; of a case to predict None.
        roof: those ceilings: operations and bytes per second.
    """

    device: str
    kernel: str
    precision: str
    library: str
    layout: str
    mode: str
    threads: int
    problem: str
    title: str
    flops: float | None
    bytes: float | None
    bound_s: float | None = None
    seconds: float | None = None
    roof: tuple[float, float] | None = None

    @property
    def family(self) -> str:
        """The kernel without its pass."""
        return self.kernel.split(" ")[0]

    def level(self, factor: str) -> str:
        """The level of a factor. Libraries and layouts are those of a kernel: another kernel's are other code."""
        value = str(getattr(self, factor))
        return f"{self.family}: {value or 'unnamed'}" if factor in NESTED else value


@dataclass(frozen=True)
class Device:
    """One level of the architecture.

    Attributes:
        hosts: the names of its hosts, as far as they were recorded.
        sources: the names of its sources.
        ceilings: of their runs, in their order.
    """

    name: str
    processor: str
    hosts: tuple[str, ...]
    sources: tuple[str, ...]
    ceilings: tuple[Ceilings, ...]


@dataclass(frozen=True)
class Data:
    """What the model is fitted to.

    Attributes:
        left_out: sentences about records that are not in it.
        limits: of each source, sentences that must stand beside every table.
    """

    observations: tuple[Observation, ...]
    devices: tuple[Device, ...]
    left_out: tuple[str, ...]
    limits: dict[str, tuple[str, ...]]


def collect(sources: Sequence[Source]) -> Data:
    """One observation per run and configuration.

    The processes of a run (``--repeat``) become one median: they differ by percents, the model by tens of percents,
    and they would tell nothing new of devices and sizes while counting as if they did. Sources with the same processor
    are one device where their hosts have one name, or none was recorded; processors alike in other hosts may differ in
    clocks, memory and neighbours.

    Raises:
        InputError: no usable time, or of fewer than `MINIMUM_PROBLEMS` problems.
    """
    names: dict[tuple[str, ...], str] = {}
    devices: dict[str, Device] = {}
    found: list[Observation] = []
    left_out: Counter[str] = Counter()
    for source in sources:
        processor = source.device or source.name
        hosts = tuple(sorted({_host(part.info) for part in source.parts} - {""}))
        name = names.setdefault((processor, *hosts), source.name)
        known = devices.get(name, Device(name, processor, hosts, (), ()))
        devices[name] = replace(
            known,
            sources=(*known.sources, source.name),
            ceilings=(*known.ceilings, *ceilings_of(source)),
        )
        found += _observations(source, name, left_out)
    found = _known_sizes(found, left_out)
    sentences = tuple(f"{count} record{'s' * (count != 1)}: {why}" for why, count in left_out.items())
    problems = len({each.problem for each in found})
    if problems < MINIMUM_PROBLEMS:
        why = f" ({'; '.join(sentences)})" if sentences else ""
        raise InputError(
            f"model: times of {problems} different problem{'s' * (problems != 1)} are too few, it takes at least "
            f"{MINIMUM_PROBLEMS}: give runs of more sizes{why}"
        )
    used = {each.device for each in found}
    return Data(
        tuple(found),
        tuple(device for device in devices.values() if device.name in used),
        sentences,
        _limits(sources, tuple(devices.values())),
    )


def _host(info: RunInfo) -> str:
    """The name of the host, "" where it was not recorded."""
    return str((info.environment.get("system") or {}).get("hostname") or "")


def _limits(sources: Sequence[Source], devices: Sequence[Device]) -> dict[str, tuple[str, ...]]:
    """The sources' own, and which of them are one device only by assumption."""
    found = {source.name: source.limits for source in sources}
    for device in devices:
        assumed = ""
        if len(device.hosts) > 1:
            assumed = f"taken as one device, on hosts {', '.join(device.hosts)}"
        elif len(device.sources) > 1 and not device.hosts:
            assumed = "taken as one device: the processor is the same, the host's name was not recorded"
        if assumed:
            found |= {name: (*found[name], assumed) for name in device.sources}
    return {name: own for name, own in found.items() if own}


def kernel_title(kernel: str, pass_: str, without_input: bool = False) -> str:
    """The level of a kernel: its name, its pass where it has several."""
    passes = choices(kernel).passes
    named = len(passes) > 1 or pass_ not in ("", "forward", *passes)
    return one_line(f"{kernel} {pass_}" if named else kernel) + WITHOUT_INPUT * without_input


def problem_of(kernel: str, problem: Mapping[str, Scalar]) -> str:
    """What identifies a problem; columns that an older run lacks have their defaults."""
    defaults = {
        name: value
        for name, value in choices(kernel).defaults.items()
        if isinstance(value, int | float | str)
    }
    return f"{kernel} {sorted((defaults | dict(problem)).items())}"


def _observations(source: Source, device: str, left_out: Counter[str]) -> Iterable[Observation]:
    times: dict[tuple[Hashable, ...], dict[tuple[int, int], list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    first: dict[tuple[Hashable, ...], tuple[RecordSummary, Ceilings]] = {}
    failures: dict[str, str] = {}
    ceilings = ceilings_of(source)
    for number, record in (
        (number, record) for number, part in enumerate(source.parts) for record in part.summaries()
    ):
        seconds = time_s(record)
        if record.kernel in COLLECTIVES:
            left_out["collectives depend on ranks and network; `microbench simulate` models them"] += 1
        elif seconds is None or seconds <= 0:
            reason = f", first because: {fit(one_line(record.reason), 80)}" if record.reason else ""
            why = f"no time that may be used, {record.status} in {one_line(source.name)}"
            left_out[failures.setdefault(record.status, why + reason)] += 1
        else:
            key: tuple[Hashable, ...] = (
                problem_of(record.kernel, record.problem),
                *(record.pass_, record.precision, library_title(record)),
                *(record.layout, record.mode, record.threads),
            )
            times[key][number, record.repeat].append(seconds)
            first.setdefault(key, (record, ceilings[number]))
    for key, (record, own) in first.items():
        medians = [statistics.median(each) for each in times[key].values()]
        yield _observation(record, device, own, statistics.median(medians))


def _observation(record: Row, device: str, ceilings: Ceilings, seconds: float) -> Observation:
    # Of recurrent layers without the product with their input, which DeepBench published, the traffic is unknown.
    without_input = record.kernel == "rnn" and record.bytes is None
    roof = ceilings.roof(record.precision, record.threads, measured_peak=record.peak_flops_per_s)
    return Observation(
        device=device,
        kernel=kernel_title(record.kernel, record.pass_, without_input),
        precision=one_line(record.precision),
        library=library_title(record),
        layout=one_line(record.layout),
        mode=one_line(record.mode),
        threads=record.threads,
        problem=problem_of(record.kernel, record.problem),
        title=problem_title(record.kernel, record.problem, record.pass_, record.layout),
        flops=record.flops or None,
        bytes=record.bytes or None,
        bound_s=bound_s(roof, record.flops, record.bytes),
        seconds=seconds,
        roof=roof,
    )


def _known_sizes(found: Sequence[Observation], left_out: Counter[str]) -> list[Observation]:
    """Those with a size. A size that is unknown of some of a kernel's observations is used of none of them."""
    sized = [each for each in found if each.flops is not None or each.bytes is not None]
    if missing := len(found) - len(sized):
        left_out["neither operations nor bytes are known"] += missing
    lacking: dict[str, set[str]] = defaultdict(set)
    for each in sized:
        lacking[each.kernel] |= {name for name in ("flops", "bytes") if getattr(each, name) is None}
    kept: list[Observation] = []
    for each in sized:
        unknown = lacking[each.kernel]
        if unknown == {"flops", "bytes"}:
            left_out[f"of some of {each.kernel} operations are unknown, of others bytes"] += 1
        else:
            flops, nbytes = (None if name in unknown else getattr(each, name) for name in ("flops", "bytes"))
            kept.append(replace(each, flops=flops, bytes=nbytes))
    return kept
