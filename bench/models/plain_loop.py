"""The training of a GAN as one writes it in plain PyTorch: what an iteration of gankern's loop is compared with.

The best of it: fused Adam, the average by `torch._foreach`, the networks' gradients switched off where they are not
needed, nothing read back from the device. Random numbers are drawn in the order in which gankern's loop draws them, so
that the losses of both are the same.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from bench.models.iteration import Training
from gankern.models.training.losses import LOSSES
from gankern.models.training.optimiser import lazy_ratio
from gankern.models.training.regularisers import mix_styles


class PlainLoop:
    """Trains networks with the losses and penalties that their options name; no growing, one batch at a time.

    Args:
        training: Networks and options.
        images: Real ones uint8 [M, C, H, W].
        labels: Their labels float32 [M, c_dim].
    """

    def __init__(self, training: Training, images: Tensor, labels: Tensor) -> None:
        self.G, self.D, self.options = training
        self.G.train()
        self.D.train()
        self.labels = labels
        self.G_ema = copy.deepcopy(self.G).eval().requires_grad_(False)
        self.pl_mean = torch.zeros([])
        self.losses: dict[str, Tensor] = {}  # of the last iteration
        o = self.options
        self.opts = {
            "G": self._adam(self.G, o.lr, o.pl_interval),
            "D": self._adam(self.D, o.d_lr or o.lr, o.r1_interval),
        }
        data = TensorDataset(images, labels)
        forever = RandomSampler(data, replacement=True, num_samples=10**9, generator=torch.Generator().manual_seed(0))
        self.reals = iter(DataLoader(data, batch_size=o.batch, sampler=forever))

    def _adam(self, net: nn.Module, lr: float, interval: int) -> torch.optim.Adam:
        ratio = lazy_ratio(interval)
        betas = (self.options.beta1**ratio, self.options.beta2**ratio)
        return torch.optim.Adam(net.parameters(), lr * ratio, betas, self.options.adam_eps, fused=True)

    def iteration(self, index: int) -> None:
        """Iteration number `index` from 0, which decides whether the regularisations are due."""
        images, real_c = next(self.reals)
        real = images.to(torch.float32) / 127.5 - 1  # [N, C, H, W]
        for part in self.options.order:
            if part == "ema":
                self._average()
            elif part == "G":
                self._step("G", self._g_main())
                if self._due(index, self.options.pl_interval, self.options.pl_weight):
                    self._step("G", self._path_length(), self.options.pl_interval)
            else:
                self._step("D", self._d_main(real, real_c))
                if self._due(index, self.options.r1_interval, self.options.r1_gamma):
                    self._step("D", self._r1_step(real, real_c), self.options.r1_interval)

    @staticmethod
    def _due(index: int, interval: int, weight: float) -> bool:
        return interval > 1 and weight > 0 and index % interval == 0

    def _step(self, name: str, losses: Iterator[Tensor], interval: int = 1) -> None:
        for net in (self.G, self.D):
            net.requires_grad_(net is getattr(self, name))
        self.opts[name].zero_grad(set_to_none=True)
        for loss in losses:
            (loss * interval).backward()
        self.opts[name].step()

    def _latents(self) -> tuple[Tensor, Tensor]:
        n = self.options.batch
        z = torch.randn(n, self.G.z_dim)
        return z, self.labels[torch.randint(len(self.labels), (n,))]

    def _generate(self, z: Tensor, c: Tensor, update_emas: bool = False) -> tuple[Tensor, Tensor]:
        """Images and the latents that path length regularisation looks at."""
        if not hasattr(self.G, "mapping"):
            return self.G(z, c), z
        ws = self.G.mapping(z, c, update_emas=update_emas)
        if self.options.style_mixing_prob:
            other = self.G.mapping(torch.randn_like(z), c, update_emas=False)
            ws = mix_styles(ws, other, self.options.style_mixing_prob)
        return self.G.synthesis(ws), ws

    def _g_main(self) -> Iterator[Tensor]:
        z, c = self._latents()
        loss = LOSSES[self.options.loss].g(self.D(self._generate(z, c)[0], c)).mean()
        self.losses["Loss/G/loss"] = loss.detach()
        yield loss

    def _path_length(self) -> Iterator[Tensor]:
        z, c = (x[: max(len(x) // 2, 1)] for x in self._latents())
        img, ws = self._generate(z, c)
        noise = torch.randn_like(img) / math.sqrt(img.shape[2] * img.shape[3])
        (gradient,) = torch.autograd.grad((img * noise).sum(), ws, create_graph=True)  # [N, num_ws, w_dim]
        lengths = gradient.square().sum(2).mean(1).sqrt()  # [N]
        mean = self.pl_mean.lerp(lengths.mean(), 0.01)
        self.pl_mean.copy_(mean.detach())
        yield (lengths - mean).square().mean() * self.options.pl_weight

    def _d_main(self, real: Tensor, real_c: Tensor) -> Iterator[Tensor]:
        o, adversarial = self.options, LOSSES[self.options.loss]
        z, c = self._latents()
        with torch.no_grad():
            fake, _ = self._generate(z, c, update_emas=True)
        if o.d_joint:
            fake_scores, real_scores = self.D(torch.cat([fake, real]), torch.cat([c, real_c])).chunk(2)
            loss = adversarial.d_fake(fake_scores).mean() + adversarial.d_real(real_scores).mean()
            self.losses["Loss/D/loss"] = loss.detach()
            yield loss
            return
        fake_loss = adversarial.d_fake(self.D(fake, c)).mean()
        yield fake_loss

        every_step = o.r1_interval == 1 and o.r1_gamma > 0
        img = real.detach().requires_grad_(every_step)
        real_scores = self.D(img, real_c)
        loss = adversarial.d_real(real_scores).mean()
        self.losses["Loss/D/loss"] = (fake_loss + loss).detach()
        if every_step:
            loss = loss + self._squared_gradient(real_scores, img) * (o.r1_gamma / 2)
        if o.drift_weight:
            loss = loss + real_scores.square().mean() * o.drift_weight
        yield loss
        if o.gp_weight:
            between = real.lerp(fake, torch.rand(len(real), 1, 1, 1)).requires_grad_()
            (gradient,) = torch.autograd.grad(self.D(between, real_c).sum(), between, create_graph=True)
            lengths = gradient.square().sum([1, 2, 3]).sqrt()  # [N]
            yield (lengths - o.gp_target).square().mean() * (o.gp_weight / o.gp_target**2)

    def _r1_step(self, real: Tensor, real_c: Tensor) -> Iterator[Tensor]:
        self._latents()  # which gankern's loop draws for each phase
        img = real.detach().requires_grad_()
        yield self._squared_gradient(self.D(img, real_c), img) * (self.options.r1_gamma / 2)

    @staticmethod
    def _squared_gradient(scores: Tensor, img: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(scores.sum(), img, create_graph=True)
        return gradient.square().sum([1, 2, 3]).mean()

    @torch.no_grad()
    def _average(self) -> None:
        beta = self.options.ema_beta or 0.999  # its value costs nothing
        torch._foreach_lerp_(list(self.G_ema.parameters()), list(self.G.parameters()), 1 - beta)
        for average, buffer in zip(self.G_ema.buffers(), self.G.buffers(), strict=True):
            average.copy_(buffer)
