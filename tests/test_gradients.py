"""The gradient buckets in problem_sizes/allreduce/gradients.csv, made again from the networks' published shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from microbench.plan import columns
from microbench.tables import load_problems

# PyTorch's DistributedDataParallel: gradients in the reverse order of the parameters, a first bucket of 1 MiB and then
# of 25 MiB of fp32, each closed by the tensor that fills it (Li et al., VLDB 2020, section 4.2).
_FIRST_BYTES = 1 << 20
_BYTES = 25 << 20

Shape = tuple[int, ...]


def _layer(*weight: int) -> Iterator[Shape]:
    yield weight
    yield weight[:1]  # its bias


def _alexnet() -> Iterator[Shape]:
    """Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014."""
    for weight in ((64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3)):
        yield from _layer(*weight)
    for weights in ((4096, 256 * 6 * 6), (4096, 4096), (1000, 4096)):
        yield from _layer(*weights)


def _vgg_16() -> Iterator[Shape]:
    """Simonyan and Zisserman 2014, configuration D."""
    before = 3
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            yield from _layer(channels, before, 3, 3)
            before = channels
    for weights in ((4096, 512 * 7 * 7), (4096, 4096), (1000, 4096)):
        yield from _layer(*weights)


def _normalised(*weight: int) -> Iterator[Shape]:
    yield weight
    yield weight[:1]  # batch normalisation's scale
    yield weight[:1]  # and shift


def _resnet_50() -> Iterator[Shape]:
    """He et al. 2015."""
    yield from _normalised(64, 3, 7, 7)
    before = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            yield from _normalised(width, before, 1, 1)
            yield from _normalised(width, width, 3, 3)
            yield from _normalised(4 * width, width, 1, 1)
            if block == 0:  # the projection of the shortcut
                yield from _normalised(4 * width, before, 1, 1)
            before = 4 * width
    yield from _layer(1000, 2048)


def _bert_base() -> Iterator[Shape]:
    """Devlin et al. 2018: 12 layers, hidden size 768, vocabulary 30,522; embeddings, encoder and pooler."""
    hidden = 768
    yield from ((30_522, hidden), (512, hidden), (2, hidden), (hidden,), (hidden,))
    for _ in range(12):
        for _ in range(4):  # query, key, value, output
            yield from _layer(hidden, hidden)
        yield from ((hidden,), (hidden,))
        yield from _layer(4 * hidden, hidden)
        yield from _layer(hidden, 4 * hidden)
        yield from ((hidden,), (hidden,))
    yield from _layer(hidden, hidden)


NETWORKS = {
    "AlexNet": (_alexnet, 61_100_840),
    "VGG-16": (_vgg_16, 138_357_544),
    "ResNet-50": (_resnet_50, 25_557_032),
    "BERT-base": (_bert_base, 109_482_240),
}


def _buckets(shapes: Iterator[Shape]) -> list[int]:
    buckets, filled, limit = [], 0, _FIRST_BYTES
    for shape in reversed([*shapes]):
        filled += math.prod(shape)
        if 4 * filled >= limit:
            buckets.append(filled)
            filled, limit = 0, _BYTES
    return buckets + [filled] * (filled > 0)


@pytest.mark.parametrize("network", NETWORKS)
def test_buckets_are_those_of_the_network(network: str) -> None:
    shapes, parameters = NETWORKS[network]
    rows = [row for row in load_problems("allreduce", "gradients") if row.labels["network"] == network]
    sizes = [columns(row)["elements"] for row in rows]
    assert sizes == _buckets(shapes())
    assert sum(math.prod(shape) for shape in shapes()) == parameters
    assert [row.labels["layer"] for row in rows] == [f"bucket {place}" for place in range(1, len(rows) + 1)]
