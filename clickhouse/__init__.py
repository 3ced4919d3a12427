"""The demo with ClickHouse; see README.md in this folder."""
