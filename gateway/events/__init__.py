"""What flows: events, their envelopes and filters. Pure: no I/O, no clock, no settings."""
