"""The networks: encoder, decoder, summariser, projection heads, student and teacher."""
