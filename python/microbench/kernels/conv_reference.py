"""Convolution by definition, for judging results: by NumPy, or by CuPy for arrays of its, in blocks of bounded memory.

Images are arrays (n, c, h, w), filters (k, c / groups, filter_h, filter_w), whatever their order in memory. Every
function yields blocks ``(index, values)``: ``values`` is the part of the result that ``index`` selects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microbench.verification import array_module

if TYPE_CHECKING:
    from microbench.kernels.conv import ConvProblem

Array = NDArray[Any]
Block = tuple[Any, Array]
Matrix = Sequence[Sequence[float]]

# Bytes of lowered image that exist at a time.
_LOWERED_BYTES = 64 << 20


def convolve(problem: ConvProblem, pass_: str, first: Array, second: Array, dtype: Any) -> Iterator[Block]:
    """Computes one pass in ``dtype``.

    ``first`` and ``second`` are x and w for "forward", dy and w for "backward_data", x and dy for
    "backward_weights".
    """
    return {"forward": _forward, "backward_data": _backward_data, "backward_weights": _backward_weights}[
        pass_
    ](problem, first, second, dtype)


def _row_blocks(problem: ConvProblem, dtype: Any) -> Iterator[slice]:
    """Rows of the output whose lowered pixels fit the block."""
    lowered_row = problem.c * problem.filter_h * problem.filter_w * problem.out_w * np.dtype(dtype).itemsize
    rows = max(1, _LOWERED_BYTES // lowered_row)
    return (slice(top, min(problem.out_h, top + rows)) for top in range(0, problem.out_h, rows))


def _windows(problem: ConvProblem, padded: Array, rows: slice) -> Array:
    """View (c, filter_h, filter_w, rows, out_w) of a padded image (c, h, w): the pixels that each output sees."""
    plane, row, pixel = padded.strides
    shape = (problem.c, problem.filter_h, problem.filter_w, rows.stop - rows.start, problem.out_w)
    taps = (row * problem.dilation_h, pixel * problem.dilation_w)
    strides = (plane, *taps, row * problem.stride_h, pixel * problem.stride_w)
    first = padded[:, rows.start * problem.stride_h :]
    view: Array = array_module(padded).lib.stride_tricks.as_strided(first, shape, strides)
    return view


def _lowered(problem: ConvProblem, padded: Array, rows: slice) -> Array:
    """Matrices (groups, taps, pixels)."""
    windows = _windows(problem, padded, rows)
    taps = problem.c // problem.groups * problem.filter_h * problem.filter_w
    return windows.reshape(problem.groups, taps, -1)


def _padded(problem: ConvProblem, image: Array, dtype: Any) -> Array:
    pads = ((0, 0), (problem.pad_h,) * 2, (problem.pad_w,) * 2)
    padded: Array = array_module(image).pad(image.astype(dtype), pads)
    return padded


def _filters(problem: ConvProblem, w: Array, dtype: Any) -> Array:
    """Matrices (groups, filters, taps)."""
    return w.astype(dtype).reshape(problem.groups, problem.k // problem.groups, -1)


def _forward(problem: ConvProblem, x: Array, w: Array, dtype: Any) -> Iterator[Block]:
    filters = _filters(problem, w, dtype)
    for n in range(problem.n):
        padded = _padded(problem, x[n], dtype)
        y = array_module(x).empty((problem.k, problem.out_h, problem.out_w), dtype)
        for rows in _row_blocks(problem, dtype):
            y[:, rows] = (filters @ _lowered(problem, padded, rows)).reshape(problem.k, -1, problem.out_w)
        yield (n,), y


def _backward_data(problem: ConvProblem, dy: Array, w: Array, dtype: Any) -> Iterator[Block]:
    filters = _filters(problem, w, dtype).transpose(0, 2, 1)
    size = (problem.c, problem.h + 2 * problem.pad_h, problem.w + 2 * problem.pad_w)
    for n in range(problem.n):
        padded = array_module(dy).zeros(size, dtype)
        for rows in _row_blocks(problem, dtype):
            gradient = dy[n, :, rows].astype(dtype).reshape(problem.groups, problem.k // problem.groups, -1)
            taps = (filters @ gradient).reshape(
                problem.c, problem.filter_h, problem.filter_w, -1, problem.out_w
            )
            for r in range(problem.filter_h):
                for s in range(problem.filter_w):
                    top = rows.start * problem.stride_h + r * problem.dilation_h
                    left = s * problem.dilation_w
                    bottom = top + (rows.stop - rows.start - 1) * problem.stride_h + 1
                    right = left + (problem.out_w - 1) * problem.stride_w + 1
                    padded[:, top : bottom : problem.stride_h, left : right : problem.stride_w] += taps[
                        :, r, s
                    ]
        yield (
            (n,),
            padded[:, problem.pad_h : problem.pad_h + problem.h, problem.pad_w : problem.pad_w + problem.w],
        )


def _backward_weights(problem: ConvProblem, x: Array, dy: Array, dtype: Any) -> Iterator[Block]:
    total: Array = array_module(x).zeros(())
    for n in range(problem.n):
        padded = _padded(problem, x[n], dtype)
        for rows in _row_blocks(problem, dtype):
            gradient = dy[n, :, rows].astype(dtype).reshape(problem.groups, problem.k // problem.groups, -1)
            total = total + gradient @ _lowered(problem, padded, rows).transpose(0, 2, 1)
    yield (
        (),
        total.reshape(problem.k, problem.c // problem.groups, problem.filter_h, problem.filter_w),
    )


# Magnitudes of the matrices of F(2x2, 3x3) and F(4x4, 3x3): Lavin and Gray, CVPR 2016, section 4.
_INPUT = {
    2: [[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]],
    4: [
        [4, 0, 5, 0, 1, 0],
        [0, 4, 4, 1, 1, 0],
        [0, 4, 4, 1, 1, 0],
        [0, 2, 1, 2, 1, 0],
        [0, 2, 1, 2, 1, 0],
        [0, 4, 0, 5, 0, 1],
    ],
}
_POINTS = {2: (0, 1, 1), 4: (0, 1, 1, 2, 2)}
_SCALES = {2: (1, 1 / 2, 1 / 2), 4: (1 / 4, 1 / 6, 1 / 6, 1 / 24, 1 / 24)}


def _powers(tile: int, count: int) -> Matrix:
    """(points and infinity, count): the powers of each point, those of infinity being the last."""
    finite = [[float(point) ** power for power in range(count)] for point in _POINTS[tile]]
    return [*finite, [0.0] * (count - 1) + [1.0]]


def _filter_matrix(tile: int, taps: int) -> Matrix:
    rows = zip(_powers(tile, taps), (*_SCALES[tile], 1.0), strict=True)
    return [[scale * power for power in row] for row, scale in rows]


def _sandwich(matrix: Matrix, tiles: Array) -> Array:
    """matrix t matrix^T for tiles (..., i, j): (points, ...)."""
    xp = array_module(tiles)
    by = xp.asarray(matrix, tiles.dtype)
    transformed: Array = xp.einsum("pi,...ij,qj->pq...", by, tiles, by, optimize=True)
    return transformed.reshape(-1, *transformed.shape[2:])


def _tiles(image: Array, size: int, step: int, count_h: int, count_w: int, pad_h: int, pad_w: int) -> Array:
    """(c, tiles, size, size) of an image (c, h, w), from -pad on, zero outside."""
    xp, (height, width) = array_module(image), ((count - 1) * step + size for count in (count_h, count_w))
    around = xp.zeros((image.shape[0], height, width), image.dtype)
    top, left = max(0, -pad_h), max(0, -pad_w)
    part = image[:, top : height - pad_h, left : width - pad_w]
    around[:, top + pad_h :, left + pad_w :][:, : part.shape[1], : part.shape[2]] = part
    plane, row, pixel = around.strides
    shape = (image.shape[0], count_h, count_w, size, size)
    strides = (plane, row * step, pixel * step, row, pixel)
    windows: Array = xp.lib.stride_tricks.as_strided(around, shape, strides)
    return windows.reshape(image.shape[0], -1, size, size)


def winograd_magnitudes(
    problem: ConvProblem, pass_: str, tile: int, first: Array, second: Array
) -> Iterator[Block]:
    """What F(tile x tile, 3 x 3) sums up, all terms with the magnitudes of matrices and operands.

    Rounding errors of each tile are bounded componentwise by that: Barabasz, Anderson, Soodhalter and Gregg, "Error
    Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", ACM TOMS 46(4), 2020,
    section 3. It grows with the tile.
    """
    size, groups = tile + 2, problem.groups
    group_c, group_k = problem.c // groups, problem.k // groups
    xp, images, filters = array_module(first), abs(first), abs(second)
    height, width, pad_h, pad_w = problem.out_h, problem.out_w, problem.pad_h, problem.pad_w
    if pass_ == "backward_data":
        filters = filters[:, :, ::-1, ::-1].reshape(groups, group_k, group_c, 3, 3).swapaxes(1, 2)
        height, width, pad_h, pad_w = problem.h, problem.w, 2 - pad_h, 2 - pad_w
    elif pass_ == "forward":
        filters = filters.reshape(groups, group_k, group_c, 3, 3)
    count_h, count_w = -(-height // tile), -(-width // tile)

    def grouped(points: Array) -> Array:
        return points.reshape(len(points), groups, -1, count_h * count_w)

    def inputs(n: int) -> Array:
        return grouped(_sandwich(_INPUT[tile], _tiles(images[n], size, tile, count_h, count_w, pad_h, pad_w)))

    if pass_ == "backward_weights":
        total: Array = xp.zeros(())
        for n in range(problem.n):
            tiles = _tiles(filters[n], tile, tile, count_h, count_w, 0, 0)
            gradients = grouped(_sandwich(_filter_matrix(tile, tile), tiles))
            total = total + gradients @ inputs(n).swapaxes(2, 3)
        sums = total.reshape(size, size, problem.k, group_c)
        outputs = xp.asarray(_powers(tile, 3), first.dtype)
        yield (), xp.einsum("pi,pqkc,qj->kcij", outputs, sums, outputs, optimize=True)
        return
    outputs = xp.asarray(_powers(tile, tile), first.dtype)
    transformed = _sandwich(
        _filter_matrix(tile, 3), filters
    )  # (points, groups, output channels, input channels)
    for n in range(problem.n):
        sums = (transformed @ inputs(n)).reshape(size, size, -1, count_h, count_w)
        pixels = xp.einsum("pi,pqkyx,qj->kyixj", outputs, sums, outputs, optimize=True)
        yield (n,), pixels.reshape(-1, count_h * tile, count_w * tile)[:, :height, :width]


def norm_products(problem: ConvProblem, pass_: str, first: Array, second: Array) -> Iterator[Block]:
    """Products of Euclidean norms of what is transformed, summed over what is summed: one value for each plane.

    They bound the rounding errors of Fourier transforms, which spread over the plane (Higham, Accuracy and Stability
    of Numerical Algorithms, 2nd ed. 2002, section 24.1).
    """
    groups, group_c, group_k = problem.groups, problem.c // problem.groups, problem.k // problem.groups
    xp = array_module(first)

    def norms(array: Array) -> Array:
        root: Array = xp.sqrt(xp.einsum("abij,abij->ab", array, array, dtype=np.float64, optimize=True))
        return root

    if pass_ == "backward_weights":
        x = norms(first).reshape(-1, groups, group_c)
        dy = norms(second).reshape(-1, groups, group_k)
        planes = xp.einsum("ngc,ngk->gkc", x, dy).reshape(problem.k, group_c)
        shape = (problem.k, group_c, problem.filter_h, problem.filter_w)
        yield (), xp.broadcast_to(planes[:, :, None, None], shape)
        return
    w = norms(second).reshape(groups, group_k, group_c)
    if pass_ == "forward":
        planes = xp.einsum("ngc,gkc->ngk", norms(first).reshape(-1, groups, group_c), w)
        height, width = problem.out_h, problem.out_w
    else:
        planes = xp.einsum("ngk,gkc->ngc", norms(first).reshape(-1, groups, group_k), w)
        height, width = problem.h, problem.w
    for n in range(problem.n):
        plane = planes[n].reshape(-1, 1, 1)
        yield (n,), xp.broadcast_to(plane, (plane.shape[0], height, width))
