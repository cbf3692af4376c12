"""The parts of the soak test: clients, faults, what is watched meanwhile, what is judged afterwards."""
