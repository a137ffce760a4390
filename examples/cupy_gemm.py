"""A plug-in on the device: a product by a CUDA kernel that CuPy compiles, one thread an element."""

from functools import cache
from types import SimpleNamespace

NAME = "cupy"
KERNEL = "gemm"
BACKEND = "cuda"
PRECISIONS = ("fp32",)

SOURCE = r"""
extern "C" __global__ void gemm(const float* a, const float* b, float* c, long long m, long long n, long long k,
                                long long a_row, long long a_column, long long b_row, long long b_column) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  const long long j = blockIdx.y * (long long)blockDim.y + threadIdx.y;
  if (i >= m || j >= n) return;
  float sum = 0;
  for (long long p = 0; p < k; ++p) sum += a[i * a_row + p * a_column] * b[p * b_row + j * b_column];
  c[i + j * m] = sum;
}
"""


def open(case, operands):
    import cupy

    sizes = case.problem
    if sizes.batch != 1:
        from microbench.plugins import Unsupported

        raise Unsupported("this example has no batches")
    kernel = cupy.RawKernel(SOURCE, "gemm")
    a, b, c = (cupy.asarray(operands[name]) for name in "abc")
    # Elements from one row, and from one column, to the next; matrices are column-major.
    a_strides = (sizes.k, 1) if sizes.a_transposed else (1, sizes.m)
    b_strides = (sizes.n, 1) if sizes.b_transposed else (1, sizes.k)
    grid, block = (-(-sizes.m // 32), -(-sizes.n // 8)), (32, 8)
    arguments = (a, b, c, *map(cupy.int64, (sizes.m, sizes.n, sizes.k, *a_strides, *b_strides)))

    @cache  # made once: a launch is timed
    def borrowed(stream):
        """CuPy's object for a stream that is not CuPy's to destroy."""
        if hasattr(cupy.cuda.Stream, "from_external"):  # since CuPy 14
            return cupy.cuda.Stream.from_external(SimpleNamespace(__cuda_stream__=lambda: (0, stream)))
        return cupy.cuda.ExternalStream(stream)

    def launch(stream):
        with borrowed(stream):
            kernel(grid, block, arguments)

    return launch
