"""One program per client; they run in an environment of their own and import nothing of llorch."""
