"""Redis connections, and the embedded Valkey."""
