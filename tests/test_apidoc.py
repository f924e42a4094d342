"""The API documents say what the code does: no route, parameter, field, format or control event is missing or extra."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette
from starlette.routing import Route

import gateway.sse
from gateway.apidoc import asyncapi, openapi
from gateway.apidoc.openapi import Undescribed, described_routes
from gateway.apidoc.paths import OPERATIONS
from gateway.apidoc.schemas import CONTROLS, DRAFT_FIELDS, FORMATS
from gateway.app import create_app
from gateway.errors import Problem
from gateway.events.draft import Draft
from gateway.events.envelope import ENCODERS
from gateway.events.event import Event, read_entry
from gateway.settings import Settings
from gateway.sse.parameters import ALIASES, PARAMETERS
from gateway.sse.request import parse_request
from tests.conftest import Start
from tests.support.redisserver import RedisServer


@pytest.fixture(scope="module")
def app() -> Starlette:
    """The whole application; nothing is connected before its lifespan begins."""
    return create_app(Settings(redis_url="redis://127.0.0.1:1"))


@pytest.fixture(scope="module")
def document(app: Starlette) -> dict[str, Any]:
    return orjson.loads(orjson.dumps(openapi(app.routes)))


def _parse(name: str, value: str, accept: str = "application/json") -> None:
    parse_request([(name, value)], accept=accept, last_event_id="", default_stream="events", now=lambda: 0.0)


def test_openapi_is_valid(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_each_route_is_described_and_each_description_has_a_route(app: Starlette, document: dict[str, Any]) -> None:
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == set(described_routes(app.routes)) == set(OPERATIONS)


def test_only_pages_are_left_out(app: Starlette) -> None:
    left_out = {route.path for route in app.routes if not route.include_in_schema}
    assert left_out == {"/", "/assets/{version}/{name:path}"}


def test_a_route_that_nobody_described_is_an_error() -> None:
    with pytest.raises(Undescribed, match="GET /api/new"):
        openapi([Route("/api/new", lambda request: None)])


def test_operation_ids_are_distinct(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


def test_the_parameters_are_those_that_the_parser_takes(document: dict[str, Any]) -> None:
    parameters = document["paths"]["/api/events"]["get"]["parameters"]
    documented = {parameter["name"] for parameter in parameters if parameter["in"] == "query"}
    credentials = {parameter.name for parameter in PARAMETERS if parameter.credential}
    with pytest.raises(Problem) as refused:
        _parse("no_such_parameter", "1")
    known = set(re.search(r"known: ([^)]*)", refused.value.detail)[1].split(", "))  # type: ignore[index]
    assert documented | credentials == known | set(ALIASES)


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_what_a_schema_allows_is_accepted_and_the_rest_refused(parameter: Any) -> None:
    schema = parameter.schema["items"] if parameter.many else parameter.schema
    if parameter.credential:
        return
    valid = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    samples = ["", "a", "a.b", "a,b", "a,,b", "*", "a.*", "\u00e9", "0", "1", "1000", "1001", "true", "raw", "xml",
               "1-0", "1-", "18446744073709551616-0", "0-18446744073709551615", "events@1-0", "earliest", "latest",
               "10m", "10y", "2025-01-01T12:00:00Z", "2025-13-01T12:00:00Z", "x" * 128, "x" * 129]  # fmt: skip
    for sample in samples:
        if schema["type"] == "integer":
            allowed = sample.isascii() and sample.isdecimal() and valid.is_valid(int(sample))
        else:
            allowed = valid.is_valid(sample)
        try:
            _parse(parameter.name, sample)
            accepted = True
        except Problem:
            accepted = False
        assert accepted == allowed, sample


def test_the_published_fields_are_those_of_a_draft() -> None:
    assert set(DRAFT_FIELDS) == {field.name for field in dataclasses.fields(Draft)} - {"size"}


def _sample(**fields: str) -> Event:
    pairs = {"type": "sms.delivered", "data": '{"id":"msg_1","n":12345678901234567890}', **fields}
    event = read_entry("events", b"1735732800000-0", [text.encode() for pair in pairs.items() for text in pair])
    assert isinstance(event, Event)
    return event


@pytest.mark.parametrize("name", ENCODERS)
def test_each_format_has_a_schema_that_its_events_keep(name: str) -> None:
    assert set(FORMATS) == set(ENCODERS)
    validator = Draft7Validator(FORMATS[name], format_checker=Draft7Validator.FORMAT_CHECKER)
    for event in (_sample(), _sample(tenant="cust_1"), _sample(data="7"), _sample(time="2025-01-01T00:00:00+01:00")):
        validator.validate(orjson.loads(ENCODERS[name](event)))


def test_each_control_event_in_the_code_is_described() -> None:
    source = "".join(path.read_text() for path in Path(gateway.sse.__path__[0]).glob("*.py"))
    assert set(re.findall(r'control\(\s*"(gateway\.[a-z-]+)"', source)) == set(CONTROLS)


def test_asyncapi_references_lead_somewhere() -> None:
    document = asyncapi()
    references = re.findall(rb'"\$ref":"#/([^"]+)"', orjson.dumps(document))
    assert len(references) > len(FORMATS) + len(CONTROLS)
    for reference in references:
        found: Any = document
        for part in reference.decode().split("/"):
            found = found[part]
    messages = document["channels"]["events"]["messages"]
    assert {message["name"] for message in messages.values()} == set(FORMATS) | set(CONTROLS)


def test_asyncapi_schemas_are_schemas() -> None:
    for message in asyncapi()["channels"]["events"]["messages"].values():
        Draft7Validator.check_schema(message["payload"])
        Draft7Validator.check_schema(message["headers"])


def test_a_running_gateway_serves_both(shared_gateway: Start, valkey: RedisServer) -> None:
    url = shared_gateway().url
    served = httpx.get(f"{url}/openapi.json")
    assert served.headers["content-type"] == "application/json"
    OpenAPIV31SpecValidator(served.json()).validate()
    assert httpx.get(f"{url}/asyncapi.json").json()["asyncapi"] == "3.0.0"


def test_every_method_of_a_path_is_allowed(shared_gateway: Start, valkey: RedisServer) -> None:
    refused = httpx.request("DELETE", f"{shared_gateway().url}/api/events")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, HEAD, POST"
