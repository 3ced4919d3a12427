"""The parts of the server, one idea a file; see docs/how-it-works.md."""
