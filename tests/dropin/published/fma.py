"""a * b + c."""

CALLS = []


def fma(a, b, c):
    CALLS.append("fma")
    return a * b + c
