"""Sources: runs, folders of runs, published results, by the names people give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from microbench import sources
from microbench.errors import InputError
from microbench.record import Record
from microbench.store import RunWriter
from records import make_info, make_record, not_measured


def write(folder: Path, *records: Record, environment: dict[str, Any] | None = None, **changes: Any) -> str:
    with RunWriter.create(folder, make_info(environment=environment or {}, **changes)) as writer:
        for record in records:
            writer.append(record)
    return str(folder)


CPU = {"processor": {"model_name": "Xeon", "cores": 4}}


def test_a_run_keeps_its_records(tmp_path: Path) -> None:
    text = write(tmp_path / "here", make_record(), make_record(repeat=1), environment=CPU)
    source = sources.load(text + "/")
    assert (source.name, source.device, source.limits) == ("here", "Xeon, 4 cores", ())
    assert [(record.repeat, record.index) for record in source.records()] == [(0, 0), (1, 0)]
    assert source.info.environment == CPU
    assert not source.published


def test_a_folder_of_runs_is_one_source(tmp_path: Path) -> None:
    write(tmp_path / "h100/a", make_record(), make_record(repeat=1, index=0), environment=CPU)
    other = {**CPU, "system": {"kernel_release": "6.1"}}
    write(tmp_path / "h100/b", make_record(index=2), kernel="conv", environment=other)
    source = sources.load(str(tmp_path / "h100"))
    assert source.name == "h100"
    assert source.info.kernel == "gemm, conv"
    assert source.info.planned_records == 24
    # Other processes have other numbers, so that nobody takes them for the same one.
    assert [(r.repeat, r.index) for r in source.records()] == [(0, 0), (1, 0), (2, 3)]
    assert [(r.repeat, r.index) for r in source.summaries()] == [(0, 0), (1, 0), (2, 3)]
    assert source.limits == ("read from 2 runs; their set-ups differ in: system",)


def test_runs_of_several_devices_are_not_one_source(tmp_path: Path) -> None:
    write(tmp_path / "all/a", environment=CPU)
    write(tmp_path / "all/b", environment={"processor": {"model_name": "EPYC"}})
    with pytest.raises(InputError, match="runs of several devices"):
        sources.load(str(tmp_path / "all"))


def test_a_gpu_is_the_device_of_its_runs(tmp_path: Path) -> None:
    def device(**changes: Any) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        return sources.load(write(folder, **changes)).device

    facts = {**CPU, "device": {"device": "NVIDIA H100 (132 multiprocessors)", "driver": "for CUDA 13.0"}}
    assert device(environment=facts, ceilings={"device": {"name": "NVIDIA H100"}}) == "NVIDIA H100"
    assert device(environment=facts) == "NVIDIA H100 (132 multiprocessors)"
    gpus = [{"name": name} for name in ("NVIDIA H100", "NVIDIA H100", "NVIDIA A100")]
    assert device(environment={**CPU, "mpi": {"gpus": gpus}}) == "NVIDIA H100, NVIDIA A100"
    assert device(environment={**CPU, "device": {}, "mpi": {"ranks": 2}}) == "Xeon, 4 cores"


def test_runs_of_several_gpus_of_one_host_are_not_one_source(tmp_path: Path) -> None:
    for name in ("A100", "H100"):
        write(tmp_path / "all" / name, environment=CPU, ceilings={"device": {"name": name}})
    with pytest.raises(InputError, match=r"runs of several devices \(.*: A100; .*: H100\)"):
        sources.load(str(tmp_path / "all"))


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run"):
        sources.load(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="is not a run"):
        sources.load(str(tmp_path))
    with pytest.raises(InputError, match="there are deepbench:1080Ti"):
        sources.load("deepbench:")


def test_names_become_different(tmp_path: Path) -> None:
    texts = [write(tmp_path / "x/run"), write(tmp_path / "y/run"), write(tmp_path / "other")]
    named = [source.name for source in sources.load_all([*texts, "deepbench:v100"])]
    assert named == ["x/run", "y/run", "other", "deepbench:V100"]


def test_the_same_source_twice_is_refused(tmp_path: Path) -> None:
    text = write(tmp_path / "run")
    with pytest.raises(InputError, match="given twice"):
        sources.load_all([text, f"{tmp_path}/./run"])
    with pytest.raises(InputError, match="given twice"):
        sources.load_all(["deepbench:V100", "deepbench:v100"])


def test_the_time_of_a_record() -> None:
    assert sources.time_s(make_record(median_s=0.5)) == 0.5
    assert sources.time_s(make_record(median_s=0.5, status="unstable", reason="wide")) == 0.5
    assert sources.time_s(make_record(median_s=0.5, status="wrong_result", reason="off")) is None
    assert sources.time_s(not_measured("crashed", "gone")) is None
    (record,) = list(sources.load("deepbench:iPhone6").records())[:1]
    assert sources.time_s(record) == pytest.approx(0.406692)
