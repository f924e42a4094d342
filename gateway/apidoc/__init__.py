"""The API as documents for machines: OpenAPI 3.1 for the requests, AsyncAPI 3.0 for what a stream carries.

Both are made from the code that reads requests and writes events. A route or a parameter that nobody described is an
error here, so it cannot be forgotten.
"""

from gateway.apidoc.asyncapi import asyncapi
from gateway.apidoc.openapi import openapi

__all__ = ["asyncapi", "openapi"]
