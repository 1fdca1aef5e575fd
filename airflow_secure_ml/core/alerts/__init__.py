"""Alert rules: what a Sigma rule says, whether an event is meant, when events are too many.

Pure: files, YAML, the log and the clock are arguments.
"""
