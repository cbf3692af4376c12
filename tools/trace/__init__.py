"""Pictures of simulated computations."""
