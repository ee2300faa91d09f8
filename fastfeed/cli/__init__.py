"""The command line: one module a command, each with `add_parser(subparsers)` and `run(args) -> int`.

`main` finds the command, turns errors into one or two lines and an exit code; it knows nothing of what
commands do. Only the module of the command that was asked for is imported.
"""
