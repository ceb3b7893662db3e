"""Standing statistics: what the batch normalisations of an averaged generator are to use."""

import copy

import torch

from gankern.nn import standing_statistics

from .state import Generator


def with_standing_statistics(G: Generator, num_batches: int, batch: int, seed: int = 0) -> Generator:
    """A copy of G whose running statistics are averages over batches of its own, drawn anew; or G itself.

    Args:
        G: Generator in evaluation mode; not changed.
        num_batches: How many batches; with 0, G is returned as it is.
        batch: Images in each.
        seed: Of the latents and labels, whose classes are equally likely.

    Source: Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019, appendix C.
    """
    if num_batches == 0:
        return G
    G = copy.deepcopy(G)
    device = next(G.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(num_batches):
        z = torch.randn([batch, G.z_dim], generator=generator)
        c = torch.zeros([batch, G.c_dim])
        if G.c_dim > 0:
            c.scatter_(1, torch.randint(G.c_dim, [batch, 1], generator=generator), 1.0)
        batches.append((z.to(device), c.to(device)))
    standing_statistics(G, batches)
    return G
