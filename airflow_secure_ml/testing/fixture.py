"""The pytest fixture `secure_ml`."""
