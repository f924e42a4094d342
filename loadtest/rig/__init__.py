"""The parts of a load test: processes, connections, publishers, statistics, reports."""
