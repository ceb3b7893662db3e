"""The ops as Triton kernels. Imported at an op's first use, so that `import gankern` does not pay for Triton."""
