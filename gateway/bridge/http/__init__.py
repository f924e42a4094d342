"""An HTTP/1.1 client that does one thing: POST a webhook to an address that may be anybody's."""
