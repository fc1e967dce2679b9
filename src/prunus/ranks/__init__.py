"""Solvers over ranks: `f(matrix, ...) -> Components`, a weight as a sum of rank-one parts with a score for each; and searches."""
