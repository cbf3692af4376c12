"""Building LLVM IR: what Numba cannot say, and inner loops whose vectors must stay in registers."""
