"""``classify``: arms compared on a column of the participants, and models that predict it."""
