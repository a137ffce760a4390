#!/usr/bin/env bash
# Builds for the GPU of this machine, runs tests/gpu and measures, all within ten minutes; results go to OUTPUT.
#
#     benchmarks/gpu.sh OUTPUT [WHEELS]
#
# Needs nvcc, CMake and a python3 with PyTorch's CUDA wheels or microbench's cuda13 extra. WHEELS is a folder from
# which Python packages that are missing are installed without a network. Every step has its limit, and what it
# printed is in OUTPUT/<step>.log; a step that fails does not stop the others.
set -uo pipefail
cd "$(dirname "$0")/.."
output=$(mkdir -p "$1" && cd "$1" && pwd)
wheels=${2:-}
build=$(mktemp -d)
package=$build/package
trap 'rm -rf "$build"' EXIT
failed=0

step() { # NAME SECONDS COMMAND...: the interrupt lets a sweep store what it has
  local name=$1 limit=$2 began=$SECONDS
  shift 2
  timeout --signal=INT --kill-after=15 "$limit" "$@" >"$output/$name.log" 2>&1
  local code=$?
  echo "$name: exit code $code after $((SECONDS - began)) s"
  [ $code -eq 0 ] || failed=1
}

environment() {
  python3 -m venv --system-site-packages "$build/environment"
  # shellcheck disable=SC1091
  . "$build/environment/bin/activate"
  if [ -n "$wheels" ]; then
    pip install --quiet --no-index --find-links "$wheels" --no-deps "$wheels"/*.whl
  else
    pip install --quiet pybind11 msgspec rich tabulate ml_dtypes scipy pandas scipy-openblas32 nvidia-ml-py pytest \
      mpi4py mpich 'cupy-cuda13x[ctk]>=14'
  fi
}

compile() {
  cmake -S . -B "$build/cmake" -DMICROBENCH_CUDA=ON -DMICROBENCH_ONEDNN=AUTO -DCMAKE_CUDA_ARCHITECTURES=native \
    -DMICROBENCH_WERROR=ON -DPython_EXECUTABLE="$(command -v python)" \
    -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" -DCMAKE_INSTALL_PREFIX="$package"
  cmake --build "$build/cmake" -j
  cmake --install "$build/cmake"
  cp -r python/microbench/. "$package/microbench/"
}

measure() { # NAME SECONDS KERNEL OPTIONS...
  local name=$1 limit=$2
  shift 2
  step "$name" "$limit" python -m microbench "$@" --backend cuda --output "$output/$name"
}

export -f environment compile
export wheels build package
step environment 60 bash -euc environment
# shellcheck disable=SC1091
. "$build/environment/bin/activate"
step compile 90 bash -euc compile
export PYTHONPATH=$package
step device 30 python -m microbench device
step tests 120 python -m pytest -p no:cacheprovider -q -rs tests/gpu --ignore tests/gpu/test_nccl_device.py
step nccl 120 python -m pytest -p no:cacheprovider -q -rs tests/gpu/test_nccl_device.py
if command -v compute-sanitizer >/dev/null; then
  step sanitizer 60 compute-sanitizer --error-exitcode 9 \
    python -m pytest -p no:cacheprovider -q tests/gpu -k "every_transposition and cublaslt and fp16"
fi
measure gemm-smoke 40 gemm --problems smoke --precision fp32 tf32 fp16 bf16 int8
measure gemm-8192 40 gemm --problem m=8192,n=8192,k=8192 --precision bf16 --library cublaslt
measure gemm-fp16 60 gemm --precision fp16 --library cublaslt --max-time 1 --time-budget 50
measure conv-fp16 60 conv --precision fp16 --library cudnn --max-time 1 --time-budget 50
measure rnn-fp16 60 rnn --precision fp16 --library cudnn --max-time 1 --time-budget 50

gpus=$(nvidia-smi -L | grep -c '^GPU ')
step allreduce-nccl 60 mpiexec -n "$gpus" python -m microbench allreduce --library nccl --min-bytes 8 --max-bytes 256MiB \
  --factor 4 --max-time 1 --output "$output/allreduce-nccl"

# Lines for docs/verified.md.
python - "$output" <<'PYTHON'
import datetime
import re
import sys
from pathlib import Path

from microbench.backends import cuda

output = Path(sys.argv[1])
libraries = ", ".join(f"{n} {s.facts['version']}" for n in cuda.LIBRARIES if not (s := cuda.library_status(n)).missing)
device, today = cuda.device().get("name", "no device"), datetime.date.today().isoformat()
for name in ("tests", "nccl", "sanitizer"):
    log = output / f"{name}.log"
    last = log.read_text().strip().splitlines()[-1:] if log.is_file() else []
    said = re.sub(r"[=]+", "", last[0]).strip() if last else "did not run"
    which = {"tests": "", "nccl": ", NCCL", "sanitizer": " under compute-sanitizer"}[name]
    print(f"| `tests/gpu`{which} | {device} | {libraries} "
          f"| {today}: {said} |")
PYTHON
exit $failed
