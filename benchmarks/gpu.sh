#!/usr/bin/env bash
# Builds for the GPU of this machine, runs tests/gpu and measures, all within ten minutes; results go to OUTPUT.
#
#     benchmarks/gpu.sh OUTPUT [WHEELS]
#
# Needs nvcc, CMake and a python3 with PyTorch's CUDA wheels or microbench's cuda13 extra. WHEELS is a folder from
# which Python packages that are missing are installed without a network. Every step has its limit, cut to what is left
# of MICROBENCH_GPU_SECONDS (570); what it printed is in OUTPUT/<step>.log, its exit code in OUTPUT/<step>.code. A step
# that fails does not stop the others.
set -uo pipefail
if ! nvidia-smi -L; then
  echo "benchmarks/gpu.sh: no NVIDIA GPU can be used here" >&2
  exit 2
fi
cd "$(dirname "$0")/.."
output=$(mkdir -p "$1" && cd "$1" && pwd)
wheels=${2:-}
deadline=${MICROBENCH_GPU_SECONDS:-570}
build=$(mktemp -d)
package=$build/package
trap 'rm -rf "$build"' EXIT
failed=0

step() { # NAME SECONDS COMMAND...: the interrupt lets a sweep store what it has
  local name=$1 limit=$2 began=$SECONDS left=$((deadline - SECONDS)) code
  shift 2
  rm -f "$output/$name".{log,code}
  if [ $left -lt 10 ]; then
    echo "$name: not run: the time is over"
    failed=1
    return
  fi
  timeout --signal=INT --kill-after=15 $((limit < left ? limit : left)) "$@" >"$output/$name.log" 2>&1
  code=$?
  echo $code >"$output/$name.code"
  echo "$name: exit code $code after $((SECONDS - began)) s"
  [ $code -eq 0 ] || failed=1
}

environment() {
  # The packages of python3, which may be a virtual environment's and not its base's, are seen by their paths.
  python3 -m venv --without-pip "$build/environment"
  local python=$build/environment/bin/python
  python3 -c 'import sys; print(*filter(None, sys.path), sep="\n")' \
    >"$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/outer.pth"
  local install=(python3 -m pip --python "$python" install --quiet)
  if [ -n "$wheels" ]; then
    "${install[@]}" --no-index --find-links "$wheels" --no-deps "$wheels"/*.whl
  else
    "${install[@]}" pybind11 msgspec rich tabulate ml_dtypes scipy pandas scipy-openblas32 nvidia-ml-py pytest \
      mpi4py mpich 'cupy-cuda13x[ctk]>=14'
  fi
}

compile() {
  # Meanwhile CuPy compiles what it needs for every reference, which later steps have no time for.
  PYTHONPATH=python python -c 'from microbench.backends import cuda_reference; print(cuda_reference.arrays())' &
  cmake -S . -B "$build/cmake" -DMICROBENCH_CUDA=ON -DMICROBENCH_ONEDNN=AUTO -DCMAKE_CUDA_ARCHITECTURES=native \
    -DPython_EXECUTABLE="$(command -v python)" -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" \
    -DCMAKE_INSTALL_PREFIX="$package"
  cmake --build "$build/cmake" -j
  cmake --install "$build/cmake"
  cp -r python/microbench/. "$package/microbench/"
  wait
}

check() { # NAME SECONDS ARGUMENTS...: pytest's; warnings are other people's packages' here
  local name=$1 limit=$2
  shift 2
  step "$name" "$limit" python -m pytest -p no:cacheprovider -W default -q -raP "$@"
}

measure() { # NAME SECONDS KERNEL OPTIONS...
  local name=$1 limit=$2
  shift 2
  step "$name" "$limit" python -m microbench "$@" --backend cuda --output "$output/$name"
}

export -f environment compile
export wheels build package CUPY_CACHE_DIR=$build/cupy
step environment 60 bash -euc environment
# shellcheck disable=SC1091
. "$build/environment/bin/activate"
step compile 120 bash -euc compile
export PYTHONPATH=$package

# What says most in the shortest time.
step device 30 python -m microbench device
check smoke 60 tests/gpu --ignore tests/gpu/test_nccl_device.py \
  -k "in_a_mode or the_modes or latency or (every_transposition and cublaslt and fp16)"
measure gemm-8192 40 gemm --problem m=8192,n=8192,k=8192 --precision bf16 --library cublaslt
gpus=$(nvidia-smi -L | grep -c '^GPU ')
step allreduce-nccl 60 mpiexec -n "$gpus" python -m microbench allreduce --library nccl --min-bytes 8 --max-bytes 256MiB \
  --factor 4 --max-time 1 --output "$output/allreduce-nccl"
for kernel in conv rnn; do
  for mode in graph cold; do
    measure "$kernel-$mode" 25 $kernel --problems smoke --precision fp16 --library cudnn --mode $mode --max-time 1 \
      --time-budget 8
  done
done

# A process each: an illegal access ends one.
check tests-cuda 100 tests/gpu/test_cuda_device.py
check tests-rnn 45 tests/gpu/test_rnn_device.py
check tests-nccl 110 tests/gpu/test_nccl_device.py
check tests-im2col 30 tests/gpu/test_im2col_device.py
check tests-cudnn 100 tests/gpu/test_cudnn_device.py

measure gemm-smoke 40 gemm --problems smoke --precision fp32 tf32 fp16 bf16 int8
measure gemm-fp16 60 gemm --precision fp16 --library cublaslt --max-time 1 --time-budget 50
measure conv-fp16 60 conv --precision fp16 --library cudnn --max-time 1 --time-budget 50
measure rnn-fp16 60 rnn --precision fp16 --library cudnn --max-time 1 --time-budget 50
if command -v compute-sanitizer >/dev/null; then
  step sanitizer 60 compute-sanitizer --error-exitcode 9 python -m pytest -p no:cacheprovider -W default -q \
    tests/gpu/test_cuda_device.py -k "every_transposition and cublaslt and fp16"
fi

# Lines for docs/verified.md.
python - "$output" <<'PYTHON'
import datetime
import re
import sys
from pathlib import Path

from microbench.backends import cuda

TIMED_OUT = (124, 137)

output = Path(sys.argv[1])
libraries = ", ".join(f"{n} {s.facts['version']}" for n in cuda.LIBRARIES if not (s := cuda.library_status(n)).missing)
device, today = cuda.device().get("name", "no device"), datetime.date.today().isoformat()
steps = {f"tests-{name}": f"`tests/gpu/test_{name}_device.py`" for name in ("cuda", "rnn", "nccl", "im2col", "cudnn")}
for name, what in (steps | {"sanitizer": "products under compute-sanitizer"}).items():
    if not (output / f"{name}.code").is_file():
        print(f"| {what} | {device} | {libraries} | {today}: not run |")
        continue
    code = int((output / f"{name}.code").read_text())
    lines = (output / f"{name}.log").read_text(errors="replace").strip().splitlines() or [""]
    said = re.sub(r"=+", "", lines[-1]).strip()
    if code != 0:
        said = f"{'stopped' if code in TIMED_OUT else 'failed'} (exit code {code}): {said}"
    print(f"| {what} | {device} | {libraries} | {today}: {said} |")
PYTHON
exit $failed
