"""Bilinear, zeros outside, corners not aligned."""

import torch.nn.functional as F

CALLS = []
enabled = False


def grid_sample(input, grid):
    CALLS.append("grid_sample")
    return F.grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
