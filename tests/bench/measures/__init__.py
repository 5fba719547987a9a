"""The measures, one a file: each takes a Bench and gives results."""
