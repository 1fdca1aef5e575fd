"""The verifier that outsiders run without this package: one file, which travels in evidence packs.

It imports nothing of ours and nothing of ours imports it: two implementations have to agree.
"""
