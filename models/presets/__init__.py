"""The published configurations, one file per family: its options, its rows, and what they resolve to."""
