"""One table of settings and request fields; whatever states a range, a default or a meaning takes it from here."""
