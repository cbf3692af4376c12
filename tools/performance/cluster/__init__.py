"""A discrete-event simulation of many replicas: the engine's own scheduling rules, with measured step times."""
