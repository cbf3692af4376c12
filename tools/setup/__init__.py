"""Set-up of the clone's virtual environment: packages, and the versions that are locked."""
