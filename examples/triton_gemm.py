"""A plug-in on the device: a product on tensor cores by a Triton kernel, as Triton's own tutorial blocks it."""

NAME = "triton"
KERNEL = "gemm"
BACKEND = "cuda"
PRECISIONS = ("fp16", "bf16")


def open(case, operands):
    global tl  # Triton's compiler looks names up in the module

    import torch
    import triton
    import triton.language as tl

    sizes = case.problem
    if sizes.batch != 1:
        from microbench.plugins import Unsupported

        raise Unsupported("this example has no batches")

    @triton.jit
    def gemm(
        a, b, c, m, n, k, a_row, a_column, b_row, b_column,
        tile_m: tl.constexpr, tile_n: tl.constexpr, tile_k: tl.constexpr,
    ):  # fmt: skip
        rows = tl.program_id(0) * tile_m + tl.arange(0, tile_m)
        columns = tl.program_id(1) * tile_n + tl.arange(0, tile_n)
        total = tl.zeros((tile_m, tile_n), dtype=tl.float32)
        for first in range(0, k, tile_k):
            terms = first + tl.arange(0, tile_k)
            left = tl.load(
                a + rows[:, None] * a_row + terms[None, :] * a_column,
                mask=(rows[:, None] < m) & (terms[None, :] < k),
                other=0.0,
            )
            right = tl.load(
                b + terms[:, None] * b_row + columns[None, :] * b_column,
                mask=(terms[:, None] < k) & (columns[None, :] < n),
                other=0.0,
            )
            total = tl.dot(left, right, total)
        where = c + rows[:, None] + columns[None, :] * m
        tl.store(where, total.to(c.dtype.element_ty), mask=(rows[:, None] < m) & (columns[None, :] < n))

    type_ = torch.float16 if case.precision.name == "fp16" else torch.bfloat16
    # bfloat16 comes as integers of its width, because NumPy has no such type.
    a, b, c = (torch.as_tensor(operands[name], device="cuda").view(type_) for name in "abc")
    a_strides = (sizes.k, 1) if sizes.a_transposed else (1, sizes.m)
    b_strides = (sizes.n, 1) if sizes.b_transposed else (1, sizes.k)
    arguments = (a, b, c, sizes.m, sizes.n, sizes.k, *a_strides, *b_strides)
    grid = (triton.cdiv(sizes.m, 128), triton.cdiv(sizes.n, 128))

    def launch(stream):
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
            gemm[grid](*arguments, tile_m=128, tile_n=128, tile_k=32, num_warps=8)

    return launch
