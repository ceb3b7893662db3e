"""Small generators that have what the metrics ask for."""

import torch
from torch import Tensor, nn


class Stripes(nn.Module):
    """Stripes [N, channels, size, size] whose phase and slope follow z, with noise on request."""

    z_dim = 4

    def __init__(self, size: int = 16, channels: int = 1, noise: float = 0.0) -> None:
        super().__init__()
        self.size, self.channels = size, channels
        self.noise = nn.Parameter(torch.tensor(noise))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        at = torch.linspace(-3, 3, self.size)
        angle = z[:, :1, None] * at[None, :, None] + z[:, 1:2, None] * at[None, None] + z[:, 2:3, None]  # [N, H, W]
        image = angle.sin()[:, None].repeat(1, self.channels, 1, 1)
        return image + self.noise * torch.randn_like(image)


class Linear(nn.Module):
    """G(z) = A w(z) with w(z) = B z: every path length is known."""

    z_dim = 3

    def __init__(self, size: int = 8, noise: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.size = size
        self.A = nn.Parameter(torch.randn(5, size * size, generator=generator, dtype=torch.float64))
        self.B = nn.Parameter(torch.randn(3, 5, generator=generator, dtype=torch.float64))
        self.noise = noise

    def mapping(self, z: Tensor, c: Tensor) -> Tensor:
        return (z.double() @ self.B)[:, None].repeat(1, 2, 1)  # [N, 2, 5]

    def synthesis(self, ws: Tensor) -> Tensor:
        x = (ws.mean(1) @ self.A).reshape(-1, 1, self.size, self.size)
        return x + self.noise * torch.randn_like(x)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.synthesis(self.mapping(z, c))


def squared(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the first channel of images [N, 3, H, W]: [N]."""
    return (a - b)[:, 0].double().square().sum((1, 2))
