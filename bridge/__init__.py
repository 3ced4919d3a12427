"""What makes the scripts right, one idea a file; see docs/how-it-works.md."""

VERSION = "1.0.0"
