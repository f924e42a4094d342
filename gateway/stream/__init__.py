"""The log: Redis Streams read once per process, a hot tail in memory, and cursors across both."""
