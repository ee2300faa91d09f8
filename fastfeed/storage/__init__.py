"""Where datasets lie: one small Protocol, local files first."""
