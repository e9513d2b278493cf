"""Scores of classes and numbers: metrics, intervals, tests."""
