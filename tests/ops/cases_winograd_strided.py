"""winograd_strided takes no part in the contract, whose cases run in float64: its kernels have no such arithmetic.

test_winograd_strided.py holds them to float64 references; conv2d, which is built on them, is under contract.
"""

from __future__ import annotations

from case import Case

CASES: list[Case] = []
