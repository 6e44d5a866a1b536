"""Composition, command line and catalog."""
