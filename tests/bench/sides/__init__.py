"""The sides of a benchmark, each in processes of its own: this project, the library in a process, its server."""
