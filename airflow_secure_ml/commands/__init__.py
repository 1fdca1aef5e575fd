"""What each command of the command line does: parse, call a service, say what came of it.

A function takes the parsed arguments and the session and returns a Result; it prints nothing.
"""
