"""llorch and its peers measured on the same files, and the files to measure on."""
