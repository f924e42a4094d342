"""A way out: the log as signed webhooks, in the receiver's own dialect."""
