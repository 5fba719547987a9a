"""The client of a benchmark: many streams in one process, that notes when messages come and reads them afterwards."""
