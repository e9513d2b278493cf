"""Prepared scans on disk: the contract they were prepared under, the store, the participants."""
