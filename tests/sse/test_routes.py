"""The route table against the plain question to every filter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.events.filter import EVERYTHING, Filter, channel_globs, type_globs
from gateway.sse.cohort import Cohort, CohortKey
from gateway.sse.frame import Wires
from gateway.sse.routing import Routes

WIRE = Wires().get("sse", "native", True)
NAMES = ["a", "b", "a.x", "b.y"]
GLOBS = [*NAMES, "a*", "*.x", "b.*"]


def sets(make: object) -> st.SearchStrategy[object]:
    return st.none() | st.lists(st.sampled_from(GLOBS), min_size=1, max_size=3).map(make)  # type: ignore[arg-type]


FILTERS = st.builds(
    Filter,
    channels=sets(channel_globs),
    types=sets(type_globs),
    tenant=st.sampled_from([None, "t", "u"]),
    allowed_channels=sets(channel_globs),
    allowed_types=sets(type_globs),
)
EVENTS = st.tuples(st.sampled_from([None, "t", "u"]), st.sampled_from(NAMES), st.sampled_from(NAMES))


def cohort(filter_: Filter) -> Cohort:
    return Cohort(CohortKey(("events",), filter_, WIRE, True), 0.0, 0)


@given(st.lists(FILTERS | st.integers(0, 20) | EVENTS, max_size=80))
def test_routes_lead_to_those_who_accept_and_are_there(steps: list[Filter | int | tuple[str | None, str, str]]) -> None:
    routes = Routes()
    there: list[Cohort] = []
    for step in steps:
        if isinstance(step, Filter):
            there.append(cohort(step))
            routes.add(there[-1])
        elif isinstance(step, int):
            if there:
                routes.remove(there.pop(step % len(there)))
        else:
            found = routes.to(*step)
            assert len(found) == len(set(found))
            assert set(found) == {one for one in there if one.key.filter.accepts(*step)}
    assert len(routes) == len(there)
    assert set(routes) == set(there)


def test_an_event_asks_only_filters_that_name_what_it_is() -> None:
    asked = []

    class Asked(Filter):
        def accepts(self, tenant: str | None, channel: str, type_: str) -> bool:
            asked.append(self)
            return super().accepts(tenant, channel, type_)

    routes = Routes()
    for i in range(100):
        routes.add(cohort(Asked(channels=channel_globs([f"c{i}"]))))
        routes.add(cohort(Asked(types=type_globs([f"t{i}"]))))
        routes.add(cohort(Asked(tenant=f"n{i}")))
        routes.add(cohort(Asked(allowed_channels=channel_globs([f"c{i}"]))))
        routes.add(cohort(Asked(channels=channel_globs([f"d{i}:*", f"d{i}"]))))
    routes.add(cohort(EVERYTHING))
    assert len(routes.to("n7", "c7", "t7")) == 5
    assert len(asked) == 4
    assert len(routes.to("n7", "c7", "t7")) == 5
    assert len(asked) == 4
    assert len(routes.to(None, "d42:x", "t")) == 2
    assert len(asked) == 5


def test_nothing_is_left_of_those_who_left() -> None:
    routes = Routes()
    one = cohort(Filter(channels=channel_globs(["a", "b", "c*", "cc*"])))
    routes.add(one)
    assert routes.to(None, "ccc", "t") == [one]
    assert routes.to(None, "a", "t") == [one]
    routes.remove(one)
    assert routes.to(None, "a", "t") == []
    assert not routes._shelves
    assert not any(routes._lengths.values())


def test_a_remembered_route_forgets_who_left() -> None:
    routes = Routes()
    one = cohort(Filter(channels=channel_globs(["a"])))
    other = cohort(Filter(channels=channel_globs(["a"]), types=type_globs(["t*"])))
    routes.add(one)
    routes.add(other)
    assert set(routes.to(None, "a", "tt")) == {one, other}
    routes.remove(one)
    assert routes.to(None, "a", "tt") == [other]
