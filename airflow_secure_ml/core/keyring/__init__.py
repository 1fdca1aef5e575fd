"""What a keyring holds and what may be done with each version of a key; time and randomness are
arguments, and where it is kept is an adapter's part.
"""
