"""spectral_norm_batched as Triton kernels: a few launches for all layers, however many there are.

A kernel finds its tensors by a table of their addresses in the GPU's memory. A kernel writes that table too, from its
own arguments: nothing is copied from the host and nothing waits for it, so that a CUDA graph can record a call.
Sums go through partial sums, one of each program, and are the same in every run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

import torch
import triton
import triton.language as tl

BLOCK = 4096  # elements of a program that goes over a weight one by one
WARPS = 8  # of a program with 4096 elements: without spills in float64
TILES = 8  # of a product of a weight with a vector that one program sums up
ROWS = {"OUT": 16, "IN": 256}  # a tile of W v: elements of the result, and terms of each
COLUMNS = {"OUT": 128, "IN": 32}  # a tile of W^T u
ADDRESSES = 256  # of tensors that a kernel takes as arguments

Tensors = list[torch.Tensor]
DTYPES = {
    torch.float64: tl.float64,
    torch.float32: tl.float32,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
}


def spectral_norm_batched_iterate(
    weights: Tensors, us: Tensors, vs: Tensors, order: str, eps: float, num_iters: int, training: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """u, v of all layers one after the other, and sigma; in training u, and v where given, are written back."""
    wide = torch.float64 if weights[0].dtype == torch.float64 else torch.float32
    rows, columns = [w.shape[0] for w in weights], [w.numel() // w.shape[0] for w in weights]
    sizes = [n for pair in zip(rows, columns, strict=True) for n in pair]
    uv = weights[0].new_empty([sum(sizes)], dtype=wide)
    sigma = weights[0].new_empty([len(weights)], dtype=wide)
    vectors = uv.split(sizes)
    pairs = [(us, vectors[::2]), *([(vs, vectors[1::2])] if vs else [])]
    buffers = [b for given, _ in pairs for b in given]
    own = [v.view_as(b) for given, vectors_of in pairs for b, v in zip(given, vectors_of, strict=True)]
    torch._foreach_copy_(own, buffers)
    by_row, by_column = _units(rows, columns, ROWS), _units(columns, rows, COLUMNS)
    starts = [_starts(by_row), _starts(by_column)]
    table = _table([weights], [rows, columns, _starts(map(sum, zip(rows, columns, strict=True))), *starts])
    partial = uv.new_empty([max(sum(by_row) * ROWS["OUT"], sum(by_column) * COLUMNS["OUT"])])
    types = {"DTYPE": DTYPES[weights[0].dtype], "ACC": DTYPES[wide], "num_warps": WARPS}

    def renew(of_u: bool, keep: bool = False) -> None:
        units, tile = (sum(by_row), ROWS) if of_u else (sum(by_column), COLUMNS)
        with torch.cuda.device_of(uv):
            spectral_product_kernel[(units,)](
                table, uv, partial, len(weights), OF_U=of_u, **tile, TILES=TILES, LAYERS=_padded(weights), **types
            )
            spectral_normalise_kernel[(len(weights),)](
                table, partial, uv, sigma, len(weights), eps, OF_U=of_u, KEEP=keep, **tile, TILES=TILES, BLOCK=1024,
                ACC=types["ACC"],
            )  # fmt: skip

    iterations = num_iters if training else 0 if vs else 1
    for _ in range(iterations):
        renew(order == "u")
        renew(order != "u")
    if iterations == 0:
        renew(True, keep=True)
    if training:
        torch._foreach_copy_(buffers, own)
    return uv, sigma


def spectral_norm_batched(weights: Tensors, uv: torch.Tensor, sigma: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """W / sigma, and sigma once more."""
    ys = [torch.empty_like(w, dtype=_written_as(w)) for w in weights]
    numbers = [w.numel() for w in weights]
    table, units = _table_of_blocks([weights, ys], numbers)
    with torch.cuda.device_of(uv):
        spectral_scale_kernel[(units,)](
            table, sigma.contiguous(), len(weights), **_types(weights[0], ys[0]), **_blocks(weights, ys)
        )
    return [y.to(w.dtype) for y, w in zip(ys, weights, strict=True)], sigma.clone()


def spectral_norm_batched_backward(
    dys: Tensors, ys: Tensors, uv: torch.Tensor, sigma: torch.Tensor, dsigma: torch.Tensor | None
) -> Tensors:
    """dW = (dY - r u v^T) / sigma with r = sum(dY * Y) - sigma dsigma."""
    dys = [dy.contiguous() for dy in dys]
    dws = [torch.empty_like(y, dtype=_written_as(y)) for y in ys]
    rows, columns = [y.shape[0] for y in ys], [y.numel() // y.shape[0] for y in ys]
    offsets = _starts(map(sum, zip(rows, columns, strict=True)))
    table, units = _table_of_blocks([dys, ys, dws], [y.numel() for y in ys], [columns, offsets])
    partial = uv.new_empty([units])
    dsigma = None if dsigma is None else dsigma.contiguous()
    options = {**_types(ys[0], dws[0]), **_blocks(dys, ys, dws)}
    with torch.cuda.device_of(uv):
        spectral_dot_kernel[(units,)](table, partial, len(ys), **options)
        spectral_backward_kernel[(units,)](table, partial, uv, sigma.contiguous(), dsigma, len(ys), **options)
    return [dw.to(y.dtype) for dw, y in zip(dws, ys, strict=True)]


def _table(tensors: list[Tensors], numbers: list[list[int]]) -> torch.Tensor:
    """int64 [fields, layers]: the addresses of the tensors, then the numbers, which the kernel has in its code."""
    flat, constants = [t for field in tensors for t in field], [n for field in numbers for n in field]
    table = torch.empty([len(flat) + len(constants)], dtype=torch.int64, device=flat[0].device)
    with torch.cuda.device_of(table):
        for at in range(0, len(flat), ADDRESSES):
            some = tuple(flat[at : at + ADDRESSES])
            after = tuple(constants) if at + ADDRESSES >= len(flat) else ()
            spectral_table_kernel[(1,)](table[at:], some, NUMBERS=after, num_warps=1)
    return table


def _table_of_blocks(
    tensors: list[Tensors], numbers: list[int], more: Sequence[list[int]] = ()
) -> tuple[torch.Tensor, int]:
    """The table of layers in blocks of elements, with the size and the first block of each; and how many there are."""
    blocks = [triton.cdiv(n, BLOCK) for n in numbers]
    return _table(tensors, [numbers, _starts(blocks), *more]), sum(blocks)


def _starts(sizes: Iterable[int]) -> list[int]:
    """Where each begins that follow each other."""
    return list(accumulate(sizes, initial=0))[:-1]


def _units(out: list[int], terms: list[int], tile: dict[str, int]) -> list[int]:
    """Programs of each layer for a product with `out` elements of so many terms."""
    return [triton.cdiv(o, tile["OUT"]) * triton.cdiv(n, tile["IN"] * TILES) for o, n in zip(out, terms, strict=True)]


def _padded(tensors: Tensors) -> int:
    return triton.next_power_of_2(len(tensors))


def _written_as(t: torch.Tensor) -> torch.dtype:
    """bfloat16 is written as float32 on the CPU: Triton's interpreter would cut off, not round."""
    return torch.float32 if t.dtype == torch.bfloat16 and t.device.type == "cpu" else t.dtype


def _types(read: torch.Tensor, written: torch.Tensor) -> dict[str, tl.dtype]:
    acc = tl.float64 if read.dtype == torch.float64 else tl.float32
    return {"DTYPE": DTYPES[read.dtype], "TO": DTYPES[written.dtype], "ACC": acc}


def _blocks(*tensors: Tensors) -> dict[str, int]:
    """ALIGNED lets a thread move 16 bytes at once."""
    aligned = all(t.data_ptr() % 16 == 0 for field in tensors for t in field)
    return {"ALIGNED": 16 if aligned else 1, "BLOCK": BLOCK, "LAYERS": _padded(tensors[0]), "num_warps": WARPS}


@triton.jit
def spectral_table_kernel(table_ptr, tensors, NUMBERS: tl.constexpr):
    for i in tl.static_range(len(tensors)):
        tl.store(table_ptr + i, tensors[i].to(tl.int64))
    for i in tl.static_range(len(NUMBERS)):
        tl.store(table_ptr + len(tensors) + i, NUMBERS[i])


@triton.jit
def _layer_of(starts_ptr, unit, layers, LAYERS: tl.constexpr):
    """The last layer that starts at this unit of work or before it."""
    i = tl.arange(0, LAYERS)
    starts = tl.load(starts_ptr + i, mask=i < layers, other=0)
    return tl.sum(((starts <= unit) & (i < layers)).to(tl.int32), axis=0) - 1


@triton.jit
def _tensor(table_ptr, at, DTYPE: tl.constexpr, ALIGNED: tl.constexpr):
    return tl.multiple_of(tl.load(table_ptr + at).to(tl.pointer_type(DTYPE)), ALIGNED)


@triton.jit
def spectral_product_kernel(
    table_ptr,
    uv_ptr,
    partial_ptr,
    layers,
    OF_U: tl.constexpr,
    OUT: tl.constexpr,
    IN: tl.constexpr,
    TILES: tl.constexpr,
    LAYERS: tl.constexpr,
    DTYPE: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    starts_ptr = table_ptr + layers * (4 if OF_U else 5)
    layer = _layer_of(starts_ptr, program, layers, LAYERS)
    w_ptr = _tensor(table_ptr, layer, DTYPE, 1)
    rows = tl.load(table_ptr + layers + layer)
    columns = tl.load(table_ptr + 2 * layers + layer)
    vector_ptr = uv_ptr + tl.load(table_ptr + 3 * layers + layer)
    if OF_U:
        vector_ptr += rows
        size, terms, step, across = rows, columns, columns, 1
    else:
        size, terms, step, across = columns, rows, 1, columns
    chunks = (terms + IN * TILES - 1) // (IN * TILES)
    unit = program - tl.load(starts_ptr + layer)
    o = unit // chunks * OUT + tl.arange(0, OUT)
    first = unit % chunks * (IN * TILES)
    total = tl.zeros([OUT, IN], ACC)
    for i in range(tl.minimum((terms - first + IN - 1) // IN, TILES).to(tl.int32)):
        k = first + i * IN + tl.arange(0, IN)
        inside = (o < size)[:, None] & (k < terms)[None, :]
        w = tl.load(w_ptr + (o * step)[:, None] + (k * across)[None, :], mask=inside, other=0.0).to(ACC)
        total += w * tl.load(vector_ptr + k, mask=k < terms, other=0.0)[None, :]
    tl.store(partial_ptr + program * OUT + tl.arange(0, OUT), tl.sum(total, axis=1))


@triton.jit
def _sum_of_partials(partial_ptr, at, size, chunks, OUT: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):
    total = tl.zeros([BLOCK], ACC)
    from_ptr = partial_ptr + at // OUT * chunks * OUT + at % OUT
    for chunk in range(chunks):
        total += tl.load(from_ptr + chunk * OUT, mask=at < size, other=0.0)
    return total


@triton.jit
def spectral_normalise_kernel(
    table_ptr,
    partial_ptr,
    uv_ptr,
    sigma_ptr,
    layers,
    eps: tl.float64,
    OF_U: tl.constexpr,
    KEEP: tl.constexpr,
    OUT: tl.constexpr,
    IN: tl.constexpr,
    TILES: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):
    layer = tl.program_id(0)
    rows = tl.load(table_ptr + layers + layer)
    columns = tl.load(table_ptr + 2 * layers + layer)
    vector_ptr = uv_ptr + tl.load(table_ptr + 3 * layers + layer)
    if OF_U:
        size, terms = rows, columns
    else:
        vector_ptr += rows
        size, terms = columns, rows
    partial_ptr += tl.load(table_ptr + layers * (4 if OF_U else 5) + layer) * OUT
    chunks = ((terms + IN * TILES - 1) // (IN * TILES)).to(tl.int32)
    blocks = ((size + BLOCK - 1) // BLOCK).to(tl.int32)
    total = tl.zeros([BLOCK], ACC)
    for block in range(blocks):
        at = block * BLOCK + tl.arange(0, BLOCK)
        product = _sum_of_partials(partial_ptr, at, size, chunks, OUT, ACC, BLOCK)
        if KEEP:
            total += product * tl.load(vector_ptr + at, mask=at < size, other=0.0)
        else:
            total += product * product
    square = tl.sum(total, axis=0)
    if KEEP:
        tl.store(sigma_ptr + layer, square)
    else:
        inverse = 1.0 / tl.maximum(tl.sqrt(square), tl.full((), eps, ACC))
        tl.store(sigma_ptr + layer, square * inverse)
        for block in range(blocks):
            at = block * BLOCK + tl.arange(0, BLOCK)
            product = _sum_of_partials(partial_ptr, at, size, chunks, OUT, ACC, BLOCK)
            tl.store(vector_ptr + at, product * inverse, mask=at < size)


@triton.jit
def spectral_scale_kernel(
    table_ptr,
    sigma_ptr,
    layers,
    DTYPE: tl.constexpr,
    TO: tl.constexpr,
    ACC: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
    LAYERS: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    layer = _layer_of(table_ptr + 3 * layers, program, layers, LAYERS)
    unit = program - tl.load(table_ptr + 3 * layers + layer)
    at = unit * BLOCK + tl.arange(0, BLOCK)
    inside = at < tl.load(table_ptr + 2 * layers + layer)
    w = tl.load(_tensor(table_ptr, layer, DTYPE, ALIGNED) + at, mask=inside, other=0.0).to(ACC)
    y = w * (1.0 / tl.load(sigma_ptr + layer))
    tl.store(_tensor(table_ptr, layers + layer, TO, ALIGNED) + at, y.to(TO), mask=inside)


@triton.jit
def spectral_dot_kernel(
    table_ptr,
    partial_ptr,
    layers,
    DTYPE: tl.constexpr,
    TO: tl.constexpr,
    ACC: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
    LAYERS: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    layer = _layer_of(table_ptr + 4 * layers, program, layers, LAYERS)
    unit = program - tl.load(table_ptr + 4 * layers + layer)
    at = unit * BLOCK + tl.arange(0, BLOCK)
    inside = at < tl.load(table_ptr + 3 * layers + layer)
    dy = tl.load(_tensor(table_ptr, layer, DTYPE, ALIGNED) + at, mask=inside, other=0.0).to(ACC)
    y = tl.load(_tensor(table_ptr, layers + layer, DTYPE, ALIGNED) + at, mask=inside, other=0.0).to(ACC)
    tl.store(partial_ptr + program, tl.sum(dy * y, axis=0))


@triton.jit
def spectral_backward_kernel(
    table_ptr,
    partial_ptr,
    uv_ptr,
    sigma_ptr,
    dsigma_ptr,
    layers,
    DTYPE: tl.constexpr,
    TO: tl.constexpr,
    ACC: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
    LAYERS: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    layer = _layer_of(table_ptr + 4 * layers, program, layers, LAYERS)
    size = tl.load(table_ptr + 3 * layers + layer)
    start = tl.load(table_ptr + 4 * layers + layer)
    columns = tl.load(table_ptr + 5 * layers + layer)
    u_ptr = uv_ptr + tl.load(table_ptr + 6 * layers + layer)
    v_ptr = u_ptr + size // columns
    sigma = tl.load(sigma_ptr + layer)
    blocks = ((size + BLOCK - 1) // BLOCK).to(tl.int32)
    terms = tl.zeros([1024], ACC)
    for first in range(0, blocks, 1024):
        i = first + tl.arange(0, 1024)
        terms += tl.load(partial_ptr + start + i, mask=i < blocks, other=0.0)
    r = tl.sum(terms, axis=0)
    if dsigma_ptr is not None:
        r -= sigma * tl.load(dsigma_ptr + layer)
    first = (program - start) * BLOCK
    at = first + tl.arange(0, BLOCK)
    inside = at < size
    dy = tl.load(_tensor(table_ptr, layer, DTYPE, ALIGNED) + at, mask=inside, other=0.0).to(ACC)
    column = (first % columns).to(tl.int32) + tl.arange(0, BLOCK)  # in the row of the first, and on in the next ones
    u = tl.load(u_ptr + first // columns + column // columns.to(tl.int32), mask=inside, other=0.0)
    v = tl.load(v_ptr + column % columns.to(tl.int32), mask=inside, other=0.0)
    inverse = 1.0 / sigma
    dw = dy * inverse - (r * inverse) * u * v
    tl.store(_tensor(table_ptr, 2 * layers + layer, TO, ALIGNED) + at, dw.to(TO), mask=inside)
