"""Operations of the forward pass, one a file: operands, the writer that puts one into a program, the runner."""
