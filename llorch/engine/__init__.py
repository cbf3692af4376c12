"""Requests become events: sampling, scheduling, sessions, and the service with its compute thread."""
