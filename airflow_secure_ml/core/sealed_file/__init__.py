"""The sealed-file format, version 1: layout, keys and segments, computed and never fetched.

Here belongs what SEALED_FILE_FORMAT fixes byte for byte. Randomness and I/O are arguments;
reading and writing objects is `services.sealing`'s business.
"""
