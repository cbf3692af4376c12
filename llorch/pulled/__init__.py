"""Models that `llorch pull` fetches: the names they have, the folder they are kept in, the places they come from."""
