"""The networks that arms are made of."""
