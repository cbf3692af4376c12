"""HTTP in and out; no inference happens here."""
