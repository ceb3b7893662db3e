"""BigGAN and BigGAN-deep in plain PyTorch, as published: what bench/models/biggan.py and the tests compare with.

Every layer normalises its own weight, every operation is the one that the paper names, in its order: up, then
convolution; convolution, then pool. The state dicts are those of gankern.models.biggan.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Sizes = Sequence[tuple[int, int, bool]]  # of each stage: channels in and out, whether it resamples


class _SpectralNorm:
    """One layer's power iteration; v is not kept."""

    weight: Tensor
    u0: Tensor
    sv0: Tensor
    training: bool
    eps: float

    def add_buffers(self, eps: float) -> None:
        self.eps = eps
        self.register_buffer("u0", F.normalize(torch.randn(1, self.weight.shape[0]), dim=1))  # type: ignore[attr-defined]
        self.register_buffer("sv0", torch.ones(1))  # type: ignore[attr-defined]

    def normalised(self) -> Tensor:
        w = self.weight.flatten(1)  # [O, K]
        with torch.no_grad():
            v = F.normalize(self.u0 @ w, eps=self.eps)  # [1, K]
            u = F.normalize(v @ w.t(), eps=self.eps)  # [1, O]
            if self.training:
                self.u0.copy_(u)
        sigma = (v @ w.t() @ u.t()).squeeze()  # []
        if self.training:
            self.sv0.copy_(sigma.detach()[None])
        return self.weight / sigma


class SNConv2d(nn.Conv2d, _SpectralNorm):
    def __init__(self, i: int, o: int, k: int, bias: bool = True, eps: float = 1e-6) -> None:
        super().__init__(i, o, k, padding=k // 2, bias=bias)
        self.add_buffers(eps)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.normalised(), self.bias, padding=self.padding)


class SNLinear(nn.Linear, _SpectralNorm):
    def __init__(self, i: int, o: int, bias: bool = True, eps: float = 1e-6) -> None:
        super().__init__(i, o, bias)
        self.add_buffers(eps)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.normalised(), self.bias)


class SNEmbedding(nn.Embedding, _SpectralNorm):
    def __init__(self, n: int, dim: int, eps: float = 1e-6) -> None:
        super().__init__(n, dim)
        self.add_buffers(eps)

    def forward(self, y: Tensor) -> Tensor:
        return F.embedding(y, self.normalised())


class ConditionalBN(nn.Module):
    stored_mean: Tensor
    stored_var: Tensor

    def __init__(self, channels: int, cond: int) -> None:
        super().__init__()
        self.gain, self.bias = SNLinear(cond, channels, bias=False), SNLinear(cond, channels, bias=False)
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        gain, bias = (1 + self.gain(s))[:, :, None, None], self.bias(s)[:, :, None, None]
        x = F.batch_norm(x, self.stored_mean, self.stored_var, None, None, self.training, 0.1, 1e-5)
        return torch.addcmul(bias, x, gain)


class BN(nn.Module):
    stored_mean: Tensor
    stored_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.stored_mean, self.stored_var, self.gain, self.bias, self.training, 0.1, 1e-5)


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = partial(SNConv2d, k=1, bias=False)
        self.theta, self.phi = conv(channels, channels // 8), conv(channels, channels // 8)
        self.g, self.o = conv(channels, channels // 2), conv(channels // 2, channels)
        self.gamma = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor) -> Tensor:
        theta = self.theta(x).flatten(2)  # [N, C / 8, HW]
        phi = F.max_pool2d(self.phi(x), 2).flatten(2)  # [N, C / 8, HW / 4]
        g = F.max_pool2d(self.g(x), 2).flatten(2)  # [N, C / 2, HW / 4]
        beta = F.softmax(theta.mT @ phi, -1)  # [N, HW, HW / 4]
        o = self.o((g @ beta.mT).unflatten(2, x.shape[2:]))  # [N, C, H, W]
        return self.gamma * o + x


def up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


class GBlock(nn.Module):
    def __init__(self, i: int, o: int, cond: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv_sc = SNConv2d(i, o, 3), SNConv2d(o, o, 3), SNConv2d(i, o, 1)
        self.bn1, self.bn2 = ConditionalBN(i, cond), ConditionalBN(o, cond)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        h = self.conv1(up(self.bn1(x, s).relu()))
        h = self.conv2(self.bn2(h, s).relu())
        return h + self.conv_sc(up(x))


class DeepGBlock(nn.Module):
    def __init__(self, i: int, o: int, cond: int, ups: bool) -> None:
        super().__init__()
        h = i // 4
        self.o, self.ups = o, ups
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            SNConv2d(*sizes) for sizes in ((i, h, 1), (h, h, 3), (h, h, 3), (h, o, 1))
        )
        self.bn1, self.bn2, self.bn3, self.bn4 = (ConditionalBN(c, cond) for c in (i, h, h, h))

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        h = self.conv1(self.bn1(x, s).relu())
        h = self.bn2(h, s).relu()
        x = x[:, : self.o]
        if self.ups:
            h, x = up(h), up(x)
        h = self.conv2(h)
        h = self.conv3(self.bn3(h, s).relu())
        h = self.conv4(self.bn4(h, s).relu())
        return h + x


class DBlock(nn.Module):
    def __init__(self, i: int, o: int, first: bool, down: bool) -> None:
        super().__init__()
        self.first, self.down = first, down
        self.conv1, self.conv2 = SNConv2d(i, o, 3), SNConv2d(o, o, 3)
        self.conv_sc = SNConv2d(i, o, 1) if i != o or down else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(x if self.first else x.relu())
        h = self.conv2(h.relu())
        if self.first:  # the image: pool, then conv1x1
            return F.avg_pool2d(h, 2) + self.conv_sc(F.avg_pool2d(x, 2))
        x = x if self.conv_sc is None else self.conv_sc(x)
        return F.avg_pool2d(h, 2) + F.avg_pool2d(x, 2) if self.down else h + x


class DeepDBlock(nn.Module):
    def __init__(self, i: int, o: int, down: bool) -> None:
        super().__init__()
        h = o // 4
        self.down = down
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            SNConv2d(*sizes) for sizes in ((i, h, 1), (h, h, 3), (h, h, 3), (h, o, 1))
        )
        self.conv_sc = SNConv2d(i, o - i, 1) if i != o else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(x.relu())
        h = self.conv2(h.relu())
        h = self.conv3(h.relu()).relu()
        if self.down:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        h = self.conv4(h)
        return h + (x if self.conv_sc is None else torch.cat([x, self.conv_sc(x)], 1))


class Generator(nn.Module):
    """z [N, chunk * (stages + 1)], or any size if deep, and c one-hot -> image.

    Args:
        sizes: Of the stages; attention: indices of those with attention behind them.
    """

    def __init__(
        self, z_dim: int, c_dim: int, sizes: Sizes, attention: Sequence[int], deep: bool, shared_dim: int = 128
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim = z_dim, c_dim
        self.deep, self.chunk = deep, z_dim if deep else z_dim // (len(sizes) + 1)
        cond = shared_dim + self.chunk
        self.shared = nn.Embedding(c_dim, shared_dim)
        self.linear = SNLinear(cond if deep else self.chunk, sizes[0][0] * 16)
        self.blocks = nn.ModuleList()
        for k, (i, o, _) in enumerate(sizes):
            if deep:
                self.blocks.append(nn.ModuleList([DeepGBlock(i, i, cond, False)]))
            block = DeepGBlock(i, o, cond, True) if deep else GBlock(i, o, cond)
            self.blocks.append(nn.ModuleList([block, *([Attention(o)] if k in attention else [])]))
        last = sizes[-1][1]
        self.output_layer = nn.Sequential(BN(last), nn.ReLU(), SNConv2d(last, 3, 3))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        y = self.shared(c.argmax(1))
        if self.deep:
            first = torch.cat([y, z], 1)
            conditions = [first] * len(self.blocks)
        else:
            first, *chunks = z.split(self.chunk, 1)
            conditions = [torch.cat([y, chunk], 1) for chunk in chunks]
        x = self.linear(first).unflatten(1, (-1, 4, 4))
        if self.output_layer[2].weight.is_contiguous(memory_format=torch.channels_last):
            x = x.contiguous(memory_format=torch.channels_last)
        for (block, *attention), s in zip(self.blocks, conditions, strict=True):
            x = block(x, s)
            for layer in attention:
                x = layer(x)
        return torch.tanh(self.output_layer(x))


class Discriminator(nn.Module):
    """Image and c one-hot -> scores [N, 1]; arguments as of `Generator`."""

    def __init__(self, c_dim: int, sizes: Sizes, attention: Sequence[int], deep: bool) -> None:
        super().__init__()
        self.input_conv = SNConv2d(3, sizes[0][0], 3) if deep else None
        self.blocks = nn.ModuleList()
        for k, (i, o, down) in enumerate(sizes):
            own: list[nn.Module] = [DBlock(i, o, k == 0, down)]
            if deep:
                own = [DeepDBlock(i, o, down), DeepDBlock(o, o, False)]
            self.blocks.append(nn.ModuleList([*own, *([Attention(o)] if k in attention else [])]))
        last = sizes[-1][1]
        self.linear, self.embed = SNLinear(last, 1), SNEmbedding(c_dim, last)

    def forward(self, img: Tensor, c: Tensor) -> Tensor:
        x = img if self.input_conv is None else self.input_conv(img)
        for stage in self.blocks:
            for layer in stage:  # type: ignore[attr-defined]
                x = layer(x)
        h = x.relu().sum([2, 3])
        return self.linear(h) + (self.embed(c.argmax(1)) * h).sum(1, keepdim=True)


def like(G: nn.Module, D: nn.Module, sizes: tuple[Sizes, Sizes], attention: tuple[Sequence[int], ...]) -> tuple:
    """The same networks as gankern's G and D, weights, buffers and modes included."""
    deep = G.deep
    own = (
        Generator(G.z_dim, G.c_dim, sizes[0], attention[0], deep, G.shared.embedding_dim),
        Discriminator(D.c_dim, sizes[1], attention[1], deep),
    )
    for net, source in zip(own, (G, D), strict=True):
        net.to(next(source.parameters()).dtype).train(source.training).load_state_dict(source.state_dict())
    return own
