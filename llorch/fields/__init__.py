"""One table of settings and request fields: every range, default and meaning is stated here and nowhere else."""
