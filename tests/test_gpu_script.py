"""benchmarks/gpu.sh without a GPU: its environment for real, its steps by stand-ins; and what tests/gpu share."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fixtures.fake_cuda import ROOT
from microbench.kernels.gemm import GemmProblem
from microbench.problem import PRECISIONS, Case

SCRIPT = ROOT / "benchmarks" / "gpu.sh"

# The outer python3, and that of the environment which it makes: what the steps start ends as it is told here.
PYTHON = r"""#!/usr/bin/env bash
case "$*" in
  "-m venv"*) mkdir -p "${@: -1}/bin" && cp "$0" "${@: -1}/bin/python"
              echo 'PATH="$build/environment/bin:$PATH"' >"${@: -1}/bin/activate" ;;
  "-c import sysconfig"*) dirname "$0" ;;
  "- "*) exec "$REAL_PYTHON" "$@" ;;
  *gpu/test_rnn_device*) echo "== 3 failed, 1 passed in 2 s =="; exit 1 ;;
  *gpu/test_im2col_device*) echo "== 1 passed in 1 s =="; exit 124 ;;  # as a timeout says
  *pytest*) echo "== 5 passed in 1 s ==" ;;
esac
exit 0
"""


def function(name: str) -> str:
    """Of the script."""
    found = re.search(rf"^{name}\(\) {{.*?^}}$", SCRIPT.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[0]


def bash(text: str, **variables: str) -> str:
    process = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_environment_sees_the_packages_of_a_python_that_is_a_virtual_environment_itself(
    tmp_path: Path,
) -> None:
    pytest.importorskip("pip")
    outer, wheels, build = (tmp_path / name for name in ("outer", "wheels", "build"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", outer], check=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(outer)}))
    (packages / "only_there.py").touch()
    (packages / "ours.pth").write_text("\n".join(filter(None, sys.path)))
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "wheeled-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("wheeled.py", "")
        folder = "wheeled-1.dist-info"
        wheel.writestr(f"{folder}/METADATA", "Metadata-Version: 2.1\nName: wheeled\nVersion: 1\n")
        wheel.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{folder}/RECORD", "")
    path = f"{outer}/bin:{os.environ['PATH']}"
    bash(f"{function('environment')}; environment", PATH=path, build=str(build), wheels=str(wheels))
    said = subprocess.run(
        [
            build / "environment/bin/python",
            "-c",
            "import sys, only_there, wheeled, numpy; print(sys.exec_prefix)",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout.strip() == str(build / "environment"), said.stderr


def test_a_step_has_what_is_left_of_the_time_and_without_any_is_not_run(tmp_path: Path) -> None:
    said = bash(
        f"{function('step')}; timeout() {{ echo $3; }}; output={tmp_path} deadline=570 failed=0; SECONDS=500;"
        "step cheap 60 true; step broad 90 true; SECONDS=565; step last 5 true; echo $failed"
    )
    assert float((tmp_path / "cheap.log").read_text()) == 60
    assert 65 <= float((tmp_path / "broad.log").read_text()) <= 70
    assert said.splitlines()[-2:] == ["last: not run: the time is over", "1"]
    assert not (tmp_path / "last.code").exists()


def test_what_did_not_end_well_is_no_line_of_what_passed(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    stand_ins = {
        "python3": PYTHON,
        "cmake": '#!/bin/sh\nmkdir -p "$package/microbench"\n',
        "mpiexec": "#!/bin/sh\n",
        "nvidia-smi": "#!/bin/sh\necho 'GPU 0: H200'\n",
    }
    for name, text in stand_ins.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    process = subprocess.run(
        ["bash", SCRIPT, tmp_path / "output"],
        env=os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "REAL_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert process.returncode == 1, process.stderr
    codes = {file.stem: int(file.read_text()) for file in (tmp_path / "output").glob("*.code")}
    assert {name for name, code in codes.items() if code} == {"tests-rnn", "tests-im2col"}
    ended = [line.split(":")[0] for line in process.stdout.splitlines() if ": exit code" in line]
    assert ended[:6] == ["environment", "compile", "device", "smoke", "gemm-8192", "allreduce-nccl"]
    assert {*ended} == {*codes}
    rows = dict(
        re.findall(
            r"^\| `tests/gpu/test_(\w+)_device.py`.* \d+-\d+-\d+: (.*) \|$", process.stdout, re.MULTILINE
        )
    )
    assert rows == {
        "cuda": "5 passed in 1 s",
        "rnn": "failed (exit code 1): 3 failed, 1 passed in 2 s",
        "nccl": "5 passed in 1 s",
        "im2col": "stopped (exit code 124): 1 passed in 1 s",
        "cudnn": "5 passed in 1 s",
    }


# ------------------------------------------------------------------------------------ what tests/gpu share


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "tests" / "gpu")
    shared: Any = importlib.import_module("on_device")

    class Module:
        class Unsupported(Exception):
            pass

    monkeypatch.setattr(shared, "request", lambda *_: (Module, None))
    shared.Unsupported = Module.Unsupported
    return shared


CASE = Case(GemmProblem(64, 64, 64), PRECISIONS["fp16"], layout="column_major")
EVERY = ("auto", "good", "bad", "refused", "faulty", "greedy", "last")


def judge(shared: Any, lost: bool) -> Any:
    """Stands in for what is verified on a device, which an error may have lost."""

    def verified(library: str, case: Case) -> str:
        if library == "cublaslt":
            return "all is zero" if lost else ""
        match case.algorithm:
            case "bad":
                return "3 elements are wrong"
            case "refused":
                raise shared.Unsupported("not by this one")
            case "faulty":
                raise RuntimeError("status 5000")
            case "greedy":
                raise MemoryError("4 TiB")
        return ""

    return verified


def test_one_algorithm_s_failure_names_it_and_the_others_are_tried(
    on_device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_device, "verified", judge(on_device, lost=False))
    found = on_device.verdicts("cudnn", CASE, EVERY)
    assert found.ran == ["auto", "good", "bad", "last"]
    assert found.wrong == [
        "bad: 3 elements are wrong", "faulty: RuntimeError: status 5000", "greedy: MemoryError: 4 TiB"
    ]  # fmt: skip
    assert found.refused == {"refused": "not by this one"}


def test_all_ends_where_the_device_is_lost(on_device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_device, "verified", judge(on_device, lost=True))
    with pytest.raises(
        pytest.exit.Exception, match=r"all is zero.*after cudnn faulty: RuntimeError: status 5000"
    ):
        on_device.verdicts("cudnn", CASE, EVERY)


def test_of_many_engines_the_first_are_tried_and_every_algorithm_that_has_a_name(
    on_device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [*(f"engine_{i}" for i in range(9)), "gemm", "find"]
    assert on_device.some(names) == ["gemm", "find", "engine_0", "engine_1", "engine_2", "engine_3"]
    monkeypatch.setattr(on_device, "ALL_ALGORITHMS", True)
    assert sorted(on_device.some(names)) == sorted(names)
