"""Matrix products, one module per weight format."""
