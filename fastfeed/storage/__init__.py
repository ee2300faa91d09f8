"""Where the files of a dataset are: one small Protocol, local folders behind it, and a failing one for tests."""
