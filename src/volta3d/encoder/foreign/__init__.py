"""Networks of other people's encoders, each a file: sizes from shapes, and volumes to tokens."""
