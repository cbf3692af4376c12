"""Clients that others wrote, run against a live server: what an application sees of llorch."""
