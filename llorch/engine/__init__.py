"""Who runs next: requests, sequences, the scheduler and the one compute thread."""
