"""The CUDA backend from the command line, on a fake device: every step of a run but the device's own."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fixtures.fake_cuda import FakeCuda
from microbench import backends, plan
from microbench.backends import backend, cuda, cuda_peaks, known
from microbench.backends.cuda_peaks import theoretical
from microbench.backends.cuda_watch import DeviceWatch, Nvml, reasons_text
from microbench.backends.library import LibraryStatus
from microbench.backends.watch import Times
from microbench.errors import InputError
from microbench.face import Terminal
from microbench.options import Options
from microbench.protocol import Measurement
from microbench.recording import Recorder
from microbench.store import Run
from records import make_info

PROBLEM = "m=4,n=3,k=8,a_transposed=true"
QUICK = ["--min-time", "0", "--max-samples", "40"]
LT = ["gemm", "--problem", PROBLEM, *QUICK, "--library", "cublaslt", "--output", "run"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of processes that find the fake device; without ranks or threads of their own to disturb others."""
    return {**os.environ, **FakeCuda.built().environment(tmp_path_factory.mktemp("package"))}


def call(
    arguments: list[str], folder: Path, environment: dict[str, str], **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "microbench", *arguments],
        env={**environment, "COLUMNS": "100", **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_device_is_chosen_by_itself_and_measured(tmp_path: Path, environment: dict[str, str]) -> None:
    process = call(
        ["gemm", "--problem", PROBLEM, *QUICK, "--precision", "fp16", "tf32", "--output", "run"],
        tmp_path,
        environment,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    run = Run.load(tmp_path / "run")
    records = list(run.records())
    assert {(r.library, r.precision) for r in records} == {
        (library, precision) for library in ("cublaslt", "cublas") for precision in ("fp16", "tf32")
    }
    for record in records:
        assert (record.backend, record.mode, record.status) == ("cuda", "hot", "ok")
        assert record.samples_per_batch == 480  # as many as may wait behind the blocking kernel
        assert record.median_s == pytest.approx(2 * 4 * 3 * 8 / 1e10, rel=0.05)
        assert record.facts["host_launch_s"] > 0
        assert record.facts["device_batches"]
        assert record.peak_flops_per_s == pytest.approx(1e10, rel=0.1)
        assert any("nvidia-ml-py" in warning for warning in record.warnings)
    info = run.info
    assert info.environment["device"]["device"].startswith("Fake device")
    assert info.environment["libraries"]["cublaslt"]["path"].endswith("libcublasLt.so")
    assert set(info.ceilings["memory_bytes_per_s"]) == {"read", "write", "copy"}
    assert info.ceilings["theoretical"]["compute_flops_per_s"]["fp32"] == 2 * 128 * 4 * 1.5e9
    assert info.ceilings["compute_flops_per_s"]["fp16"]["source"] == "cublaslt"


@pytest.mark.parametrize("mode", ["cold", "graph"])
def test_the_other_modes(mode: str, tmp_path: Path, environment: dict[str, str]) -> None:
    process = call(
        [*LT, "--mode", mode],
        tmp_path,
        environment,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    (record,) = Run.load(tmp_path / "run").records()
    assert (record.mode, record.status) == (mode, "ok")
    assert record.samples_per_batch == (1 if mode == "cold" else 480)


def test_algorithms_that_go_wrong_cost_one_record_each(tmp_path: Path, environment: dict[str, str]) -> None:
    names = [f"algo{number}_tile0_stages0" for number in (97, 98, 99)]
    process = call(
        [*LT, "--algorithm", *names, "auto"],
        tmp_path,
        environment,
    )
    assert process.returncode == 1, process.stdout + process.stderr
    exhausting, failing, waiting, plain = Run.load(tmp_path / "run").records()
    assert exhausting.status == "out_of_memory"
    assert failing.status == "crashed"
    assert "CUBLAS_STATUS_EXECUTION_FAILED" in failing.reason
    assert waiting.status == "ok"
    assert any("launch latency is in the times" in warning for warning in waiting.warnings)
    assert plain.status == "ok"


def test_all_algorithms_and_the_workspace_limit(tmp_path: Path, environment: dict[str, str]) -> None:
    process = call(
        [*LT, "--algorithm", "all", "--workspace-limit", "1MiB"],
        tmp_path,
        environment,
    )
    records = list(Run.load(tmp_path / "run").records())
    assert {record.status for record in records} == {"ok", "workspace_exceeded"}
    (refused,) = (record for record in records if record.status == "workspace_exceeded")
    assert refused.workspace_bytes == 2 << 20
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"FAKE_CUDA_DRIVER": "0"}, "no NVIDIA driver is installed"),
        ({"FAKE_CUDA_DRIVER": "11080"}, "too old"),
        ({"FAKE_CUDA_DEVICES": "0"}, "shows no device"),
    ],
)
def test_without_a_device_cuda_is_one_sentence_and_auto_is_the_processor(
    variables: dict[str, str], said: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    asked = call(["gemm", "--backend", "cuda"], tmp_path, environment, **variables)
    assert (asked.returncode, asked.stdout) == (2, "")
    (line,) = asked.stderr.splitlines()
    assert line.startswith("microbench: --backend cuda: ")
    assert said in line
    listed = call(["device"], tmp_path, environment, **variables)
    assert listed.returncode == 0
    assert said in " ".join(listed.stdout.split())
    graph = call(["gemm", "--mode", "graph"], tmp_path, environment, **variables)
    assert graph.returncode == 2
    assert "not on backend cpu" in graph.stderr


def test_a_library_named_by_its_variable_that_cannot_be_loaded_is_bad_input(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    process = call(["gemm"], tmp_path, environment, MICROBENCH_CUBLAS_LIBRARY="/nowhere/libcublas.so")
    assert process.returncode == 2
    assert "MICROBENCH_CUBLAS_LIBRARY: cannot load /nowhere/libcublas.so" in process.stderr


def test_auto_is_the_device_where_it_serves_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def status(name: str) -> LibraryStatus:
        return LibraryStatus(cuda.LIBRARIES[name], ("gemm",) if name == "cublas" else (), {})

    monkeypatch.setattr(cuda, "missing", lambda: "")
    monkeypatch.setattr(cuda, "library_status", status)
    assert backend("auto", "gemm").BACKEND == "cuda"
    assert backend("auto", "gemm", ("cublas",)).BACKEND == "cuda"
    assert backend("auto", "gemm", ("all",)).BACKEND == "cuda"
    assert backend("auto", "gemm", ("openblas",)).BACKEND == "cpu"
    assert backend("auto", "rnn").BACKEND == "cpu"
    monkeypatch.setattr(cuda, "missing", lambda: "no device")
    assert backend("auto", "gemm").BACKEND == "cpu"
    with pytest.raises(InputError, match="--backend cuda: no device"):
        backend("cuda", "gemm")


# A module of the interpreter's own: problems small enough for the fake device are worth it then.
EVERYTHING_IS_WORTH_IT = """
import microbench.reference as reference
reference._WORTH_FLOPS = 0.0
"""


@pytest.mark.parametrize("installed", [False, True])
def test_references_are_the_device_s_where_cupy_is_installed(tmp_path: Path, installed: bool) -> None:
    (tmp_path / "package").mkdir()
    fake = FakeCuda.built().environment(tmp_path / "package")
    (tmp_path / "package" / "sitecustomize.py").write_text(EVERYTHING_IS_WORTH_IT)
    cupy = Path(__file__).parent / "fixtures" / "fake_cupy.py"
    source = cupy.read_text() if installed else "raise ModuleNotFoundError(name='cupy')"
    (tmp_path / "package" / "cupy.py").write_text(source)
    process = call([*LT, "--precision", "fp16", "fp64", "fp8_e5m2"], tmp_path, {**os.environ, **fake})
    assert process.returncode == 0, process.stdout + process.stderr
    records = list(Run.load(tmp_path / "run").records())
    assert {record.status for record in records} == {"ok"}
    places = {record.precision: record.facts["reference"] for record in records}
    device = "device" if installed else "host"
    assert places == {"fp16": device, "fp64": "host", "fp8_e5m2": device}
    assert not any("references" in warning for record in records for warning in record.warnings)


def test_what_is_left_aside_of_a_gpu_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def status(name: str) -> LibraryStatus:
        if name == "cudnn":
            return LibraryStatus(cuda.LIBRARIES[name], ("conv", "rnn"), {}, "libcudnn.so.9 was not found")
        return LibraryStatus(cuda.LIBRARIES[name], ("gemm", "conv"), {})

    monkeypatch.setattr(cuda, "library_status", status)
    (said,) = backends.overlooked("auto", known("cuda"), "conv")
    assert said.startswith("cudnn is left aside: libcudnn.so.9 was not found; to get it: pip install")
    assert backends.overlooked("auto", known("cuda"), "gemm") == []
    monkeypatch.setattr(cuda, "missing", lambda: "the driver is too old")
    monkeypatch.setattr(backends, "NVIDIA_DRIVER", tmp_path)
    assert backends.overlooked("auto", known("cpu"), "rnn") == [
        "the GPU is left aside: the driver is too old"
    ]
    assert backends.overlooked("cpu", known("cpu"), "rnn") == []
    with Terminal(None) as face:
        face.begin(make_info(options={"backend": "auto", "library": []}), tmp_path, 1.0, 0)
        face.begin(make_info(options={"backend": "auto", "library": ["openblas"]}), tmp_path, 1.0, 0)
    assert capsys.readouterr().err.count("warning: the GPU is left aside: the driver is too old") == 1
    monkeypatch.setattr(backends, "NVIDIA_DRIVER", tmp_path / "none")
    assert backends.overlooked("auto", known("cpu"), "rnn") == []


def test_a_library_of_another_backend_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "missing", lambda: "no NVIDIA driver is installed")
    with pytest.raises(
        InputError, match="--library cudnn: it is of backend cuda, which cannot be used here: no NV"
    ):
        backends.libraries(known("cpu"), "conv", ("cudnn",))
    monkeypatch.setattr(cuda, "missing", lambda: "")
    missing = LibraryStatus(cuda.LIBRARIES["cudnn"], ("conv",), {}, "libcudnn.so.9 was not found")
    monkeypatch.setattr(cuda, "library_status", lambda _: missing)
    with pytest.raises(InputError, match=r"of backend cuda, and libcudnn.so.9 was not found; to get it: pip"):
        backends.libraries(known("cpu"), "conv", ("cudnn",))
    monkeypatch.setattr(cuda, "library_status", lambda _: LibraryStatus(missing.library, ("conv",), {}))
    with pytest.raises(InputError, match="of backend cuda, not cpu: libraries of one backend"):
        backends.libraries(known("cpu"), "conv", ("cudnn",))
    with pytest.raises(InputError, match="there is no such library; there are onednn, microbench"):
        backends.libraries(known("cpu"), "conv", ("mkl",))


# ------------------------------------------------------------------------------------- clocks and throttling


class Module:
    """The compiled module's part: the clock it reads next."""

    def __init__(self, clocks: list[float]) -> None:
        self.clocks = clocks

    def sm_clock_hz(self) -> float:
        return self.clocks.pop(0)

    def compute_rates(self, _: str, repetitions: int, __: float) -> list[float]:
        return [1e12 + i for i in range(repetitions)]


class Sensor:
    """What NVML reads, reading after reading; the last one again and again."""

    def __init__(self, *readings: dict[str, float]) -> None:
        self.readings = list(readings)

    def read(self) -> dict[str, float]:
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]


def batches() -> Any:
    taken = iter(range(100))
    return lambda: np.full(3, float(next(taken)))


class Pynvml:
    """nvidia-ml-py on a device that does not know some things."""

    NVML_SUCCESS, NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU, NVML_FI_DEV_POWER_INSTANT = (
        0,
        1,
        2,
        0,
        186,
    )

    class NVMLError(Exception):
        pass

    def __init__(self, instant: bool) -> None:
        self.instant = instant

    def nvmlDeviceGetFieldValues(self, _: Any, fields: list[int]) -> list[Any]:  # noqa: N802
        assert fields == [186]
        return [SimpleNamespace(nvmlReturn=0 if self.instant else 3, value=SimpleNamespace(uiVal=650_000))]

    def __getattr__(self, name: str) -> Any:
        known = {
            "nvmlDeviceGetPowerUsage": 90_000,
            "nvmlDeviceGetClockInfo": 1500,
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlSystemGetDriverVersion": "580.65.06",
            "nvmlDeviceGetEnforcedPowerLimit": 400_000,
        }

        def call(*_: Any) -> Any:
            if name in known:
                return known[name]
            raise self.NVMLError(name)

        return call


def test_power_is_that_of_now_where_the_device_tells_it() -> None:
    assert Nvml(None, Pynvml(instant=True)).read() == {
        "sm_clock_hz": 1.5e9, "memory_clock_hz": 1.5e9, "power_w": pytest.approx(650)
    }  # fmt: skip
    assert Nvml(None, Pynvml(instant=False)).read()["power_w"] == pytest.approx(90)


def test_settings_that_figures_depend_on_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml(None, Pynvml(instant=True))
    assert nvml.settings() == {
        "driver version": "580.65.06", "power limit": "400 W", "highest SM clock": "1980 MHz"
    }  # fmt: skip
    here = {"name": "H100", "multiprocessors": 132, "compute_capability": 900, "memory_bytes": 80 << 30}
    monkeypatch.setattr(cuda, "device", lambda: here | {"driver_cuda": "13.0", "runtime_cuda": "13.0"})
    monkeypatch.setattr(cuda, "left_out", lambda: "")
    monkeypatch.setattr(Nvml, "open", lambda _: nvml)
    assert (
        cuda.facts()["settings"] == "driver version 580.65.06, power limit 400 W, highest SM clock 1980 MHz"
    )


def test_a_device_s_own_sensors_say_when_it_is_slow_not_what_the_host_does() -> None:
    peaks = {"compute_flops_per_s": {"fp32": {"best": 1e12}}, "memory_bytes_per_s": {"read": {"best": 1e12}}}
    facts = {"fp32_probe_flops_per_s": [0.7e12, 0.7e12], "other_cpus": 2.0, "timer_resolution_s": 1e-7}
    measurement = Measurement(status="ok", samples_s=[1e-3] * 8, median_s=1e-3, facts=facts)
    warnings = {}
    for name in ("cpu", "cuda"):
        options = Options(kernel="gemm", problem=("m=8,n=8,k=8",))
        (row,) = plan.problems(options)
        item = plan.Item(0, row, "cublaslt", "auto", "fp32", "forward", "column_major")
        recorder = Recorder(options, known(name), 1, peaks, 0)
        warnings[name] = recorder.record(item, 0, datetime.now(timezone.utc), measurement).warnings
    assert any("disturbed" in warning for warning in warnings["cpu"])
    assert any("other processes" in warning for warning in warnings["cpu"])
    assert not any("disturbed" in warning or "other processes" in warning for warning in warnings["cuda"])


def test_products_for_peaks_are_small_where_memory_is_or_the_rate_is_low() -> None:
    assert cuda_peaks._gemm_size({"memory_bytes": 80 << 30}, 6e13) == 8192
    assert cuda_peaks._gemm_size({"memory_bytes": 2 << 30}, 6e13) == 4096
    assert cuda_peaks._gemm_size({"memory_bytes": 80 << 30}, 0.25e12) == 2048  # fp64 of a T4


def test_an_undisturbed_batch_is_taken_once() -> None:
    watch = DeviceWatch(Module([1e9]), Sensor({"reasons": 0x01, "power_w": 700.0}))
    assert watch.batch(batches(), 1).tolist() == [0, 0, 0]
    assert watch.warnings() == []
    (batch,) = watch.facts()["device_batches"]
    assert batch["disturbed"] == []
    assert batch["before"]["power_w"] == 700


def test_what_was_read_after_a_batch_holds_before_the_next_unless_that_was_disturbed() -> None:
    sensor = Sensor(*({"power_w": float(i), "reasons": 0x40 * (i == 2)} for i in range(9)))
    watch = DeviceWatch(Module([1e9] * 3), sensor)
    take = batches()
    assert [watch.batch(take, 1)[0] for _ in range(2)] == [0, 2]
    read = [
        (batch["before"]["power_w"], batch["after"]["power_w"]) for batch in watch.facts()["device_batches"]
    ]
    assert read == [(0, 1), (1, 2), (3, 4)]


def test_power_capping_with_the_lower_clock_that_comes_of_it_disturbs_nothing() -> None:
    """Large products on tensor cores run so always."""
    watch = DeviceWatch(Module([1.98e9] * 5 + [1.4e9]), Sensor({"reasons": 0x04}))
    take = batches()
    assert [watch.batch(take, 1)[0] for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    assert watch.warnings() == []


@pytest.mark.parametrize("bit", [0x08, 0x20, 0x40, 0x80])
def test_a_slowed_down_batch_is_kept_aside_and_repeated(bit: int) -> None:
    quiet: dict[str, float] = {"reasons": 0x01}
    watch = DeviceWatch(Module([1e9] * 2), Sensor(quiet, {"reasons": bit}, quiet))
    assert watch.batch(batches(), 1).tolist() == [1, 1, 1]
    first, second = watch.facts()["device_batches"]
    assert first["samples_s"] == [0, 0, 0]
    assert first["disturbed"] == reasons_text(bit)
    assert "samples_s" not in second
    assert watch.warnings() == []


def test_a_device_that_stays_slow_is_measured_four_times_and_said() -> None:
    watch = DeviceWatch(Module([1e9] * 4), Sensor({"reasons": 0x40}))
    assert watch.batch(batches(), 1).tolist() == [3, 3, 3]
    assert len(watch.facts()["device_batches"]) == 4
    (warning,) = watch.warnings()
    assert "hardware thermal slowdown" in warning


def test_a_clock_below_the_record_s_steady_one_disturbs() -> None:
    watch = DeviceWatch(Module([1.5e9] * 5 + [1.42e9, 1.43e9]), Sensor({}))
    take = batches()
    assert [watch.batch(take, 1)[0] for _ in range(6)] == [0, 1, 2, 3, 4, 6]
    assert "1420 MHz" in watch.facts()["device_batches"][5]["disturbed"][0]


def test_a_clock_that_stays_lower_becomes_the_steady_one() -> None:
    watch = DeviceWatch(Module([1.5e9] * 5 + [1.2e9] * 20), Sensor({}))
    take = batches()
    for _ in range(12):
        watch.batch(take, 1)
    disturbed = [bool(batch["disturbed"]) for batch in watch.facts()["device_batches"]]
    assert disturbed == [False] * 5 + [True] * 6 + [False] * 6


def test_with_few_readings_no_clock_is_slow_and_without_nvml_that_is_said() -> None:
    watch = DeviceWatch(Module([1e9, 1.5e9]), None)
    take = batches()
    assert watch.batch(take, 1).tolist() == [0, 0, 0]
    assert watch.batch(take, 1).tolist() == [1, 1, 1]
    assert watch.facts()["device_batches"][0]["before"] == {}
    assert "nvidia-ml-py" in watch.warnings()[0]
    assert watch.peak() == 1e12 + 2


def test_energy_is_given_where_executions_filled_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def watched(busy_s: float) -> dict[str, Any]:
        now = iter([0.0, 1.0])
        monkeypatch.setattr("time.perf_counter", lambda: next(now))
        watch = DeviceWatch(Module([1e9]), Sensor({"energy_j": 100.0}, {"energy_j": 400.0}))

        def take() -> Times:
            return np.full(10, busy_s / 10 / 5)  # means of five executions

        watch.batch(take, 5)
        return watch.facts()

    assert watched(0.95)["energy_per_execution_j"] == 300 / 50
    assert "energy_per_execution_j" not in watched(0.5)


def test_reasons_in_words() -> None:
    assert reasons_text(0x04 | 0x40) == ["hardware thermal slowdown", "software power cap"]
    assert reasons_text(0) == []
    assert reasons_text(0x400) == ["reason 0x400"]


def test_theoretical_peaks_are_those_of_the_data_sheets() -> None:
    h100 = {
        "compute_capability": 900,
        "multiprocessors": 132,
        "sm_clock_hz": 1_830_000_000,  # at which NVIDIA states the tensor cores' rates
        "memory_bus_bits": 5120,
        "memory_clock_hz": 2_619_000_000,
    }
    peaks = theoretical(h100)
    assert peaks["compute_flops_per_s"]["bf16"] == pytest.approx(989.4e12, rel=1e-3)
    assert peaks["compute_flops_per_s"]["tf32"] == pytest.approx(494.7e12, rel=1e-3)
    assert peaks["memory_bytes_per_s"] == pytest.approx(3.35e12, rel=1e-2)
    a100 = {**h100, "compute_capability": 800, "multiprocessors": 108, "sm_clock_hz": 1_410_000_000}
    assert theoretical(a100)["compute_flops_per_s"]["fp64"] == pytest.approx(19.5e12, rel=1e-2)
    assert theoretical(a100)["compute_flops_per_s"]["fp16"] == pytest.approx(312e12, rel=1e-2)
    unknown = {**h100, "compute_capability": 1300, "memory_clock_hz": 0}
    assert theoretical(unknown) == {"compute_flops_per_s": {}, "memory_bytes_per_s": None}


# ------------------------------------------------------------------------------------------ finding libraries


@pytest.mark.parametrize(
    ("major", "found"),
    [("12", "cublas/lib/libcublasLt.so.12"), ("13", "cu13/lib/libcublasLt.so.13"), ("14", "")],
)
def test_libraries_of_another_cuda_are_not_taken(
    major: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("cublas/lib/libcublasLt.so.12", "cu13/lib/libcublasLt.so.13"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    monkeypatch.setattr(cuda, "_wheel_folders", lambda: [tmp_path])
    monkeypatch.setattr(cuda, "_cuda_major", lambda: major)
    monkeypatch.delenv("MICROBENCH_CUBLASLT_LIBRARY", raising=False)
    assert cuda.LIBRARIES["cublaslt"].path() == (str(tmp_path / found) if found else "")


def test_the_newest_library_of_the_wheels_is_found_and_a_variable_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("cublas/lib/libcublasLt.so.12", "cu13/lib/libcublasLt.so.13", "cu13/lib/libcublas.so.13"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    monkeypatch.setattr(cuda, "_wheel_folders", lambda: [tmp_path])
    monkeypatch.setattr(cuda, "_cuda_major", lambda: "[0-9]")
    monkeypatch.delenv("MICROBENCH_CUBLASLT_LIBRARY", raising=False)
    monkeypatch.delenv("MICROBENCH_CUDNN_LIBRARY", raising=False)
    assert cuda.LIBRARIES["cublaslt"].path() == str(tmp_path / "cu13/lib/libcublasLt.so.13")
    assert cuda.LIBRARIES["cudnn"].path() == ""
    monkeypatch.setenv("MICROBENCH_CUBLASLT_LIBRARY", "/mine.so")
    assert cuda.LIBRARIES["cublaslt"].path() == "/mine.so"
