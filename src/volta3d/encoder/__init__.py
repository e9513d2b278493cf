"""Encoders in use: load, import, and turn scans into features."""
