"""The mathematics of SNE on one row block.

NumPy and Numba only: no Dask, no Zarr, no files. A kernel is told which rows and columns of the
(N, N) matrix it works on, never changes its inputs, releases the interpreter lock, and runs on one
thread. Each row is computed on its own, in an order that depends on N alone, so that the same row
has the same bits in every layout.
"""
