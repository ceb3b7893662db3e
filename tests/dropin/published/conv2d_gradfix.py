"""The convolutions as torch has them."""

import contextlib

import torch.nn.functional as F

CALLS = []
enabled = False
weight_gradients_disabled = False


@contextlib.contextmanager
def no_weight_gradients(disable=True):
    CALLS.append("no_weight_gradients")
    yield


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    CALLS.append("conv2d")
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    CALLS.append("conv_transpose2d")
    return F.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)
