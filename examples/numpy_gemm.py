"""A plug-in on the processor: NumPy's own product, to see what it loses to the library behind it."""

NAME = "numpy"
KERNEL = "gemm"
BACKEND = "cpu"
PRECISIONS = ("fp32", "fp64")


def open(case, operands):
    import numpy as np

    sizes = case.problem
    if sizes.batch != 1:
        from microbench.plugins import Unsupported

        raise Unsupported("this example has no batches")

    def matrix(name, rows, columns, transposed):
        return operands[name].array().reshape((rows, columns), order="C" if transposed else "F")

    a = matrix("a", sizes.m, sizes.k, sizes.a_transposed)
    b = matrix("b", sizes.k, sizes.n, sizes.b_transposed)
    c = matrix("c", sizes.m, sizes.n, False)

    def launch(_):
        np.matmul(a, b, out=c)

    return launch
