"""Recorders inside other people's tools; each needs an extra, and gradflow itself imports none of them."""
