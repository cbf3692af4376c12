"""Programs for people and CI; `llorch` never imports them."""
