"""The open subscriptions of this process, by caller: counted when they open, looked at again when rights change.

Nothing here happens per event.  Rights are held against a subscription when it opens, when a key changes, and when a
credential's time is over.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from gateway.access.limits import Limits, OverLimit
from gateway.access.principal import Principal, Refused
from gateway.events.filter import Filter

Reason = Literal["expired", "revoked", "narrowed"]
"""Why a session was ended: ``narrowed`` means that it may come back, and then gets what is still allowed."""


@dataclass(slots=True)
class _Account:
    """What one caller has open."""

    sessions: set[Session] = field(default_factory=set)
    filters: dict[Filter, int] = field(default_factory=dict)
    replaying: list[Session] = field(default_factory=list)


class Session:
    """One subscription of one caller. `filter` is `wish` narrowed to what the caller may see."""

    __slots__ = ("_end", "_ended", "_over", "_sessions", "caller", "filter", "ip", "open", "streams", "wish")

    def __init__(
        self, sessions: Sessions, caller: Principal, wish: Filter, streams: tuple[str, ...], ip: str | None
    ) -> None:
        self.caller = caller
        self.wish = wish
        self.streams = streams
        self.filter = caller.narrow(wish, streams)
        self.ip = ip
        self.open = True
        self._sessions = sessions
        self._end: Callable[[Reason], None] | None = None
        self._ended: Reason | None = None
        self._over: Callable[[], bool] | None = None

    def __repr__(self) -> str:
        return f"<Session {self.filter!r}{'' if self.open else ' closed'}>"

    def watch(self, end: Callable[[Reason], None]) -> None:
        """Call `end` when the rights are gone: at once, if they already are."""
        self._end = end
        if self._ended is not None:
            end(self._ended)

    def replay(self, over: Callable[[], bool]) -> None:
        """It reads what is not in memory until `over`. Raises `OverLimit` when the caller does too much of that."""
        self._over = over
        self._sessions.count_replay(self)

    @property
    def replaying(self) -> bool:
        """Whether the replay goes on."""
        return self.open and self._over is not None and not self._over()

    def end(self, reason: Reason) -> None:
        """Tell whoever watches."""
        if self._ended is None:
            self._ended = reason
            if self._end is not None:
                self._end(reason)

    def close(self) -> None:
        """It is over. Does nothing the second time."""
        if self.open:
            self.open = False
            self._end = self._over = None
            self._sessions.forget(self)


class Sessions:
    """All of them. `now` is Unix seconds."""

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        self.limits = limits
        self._now = now
        self._accounts: dict[str, _Account] = {}
        self._by_ip: Counter[str] = Counter()
        self._count = 0
        self._due: defaultdict[int, set[Session]] = defaultdict(set)  # by the second in which they expire
        self._swept = int(now())

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<Sessions {self._count} of {len(self._accounts)} callers>"

    def open(self, caller: Principal, wish: Filter, streams: tuple[str, ...], ip: str | None) -> Session:
        """A new one, counted. Raises `Refused`, `OverLimit`."""
        session = Session(self, caller, wish, streams, ip)
        account = self._accounts.get(caller.namespace)
        if account is None:
            account = _Account()
        self._check(account, session)
        self._accounts[caller.namespace] = account
        account.sessions.add(session)
        account.filters[session.filter] = account.filters.get(session.filter, 0) + 1
        if ip is not None:
            self._by_ip[ip] += 1
        self._count += 1
        self._schedule(session)
        return session

    def _check(self, account: _Account, session: Session) -> None:
        limits, caller = self.limits, session.caller
        if 0 < limits.process_connections <= self._count:
            raise OverLimit("process_connections", "this process has no room for another subscription", ours=True)
        if session.ip is not None and 0 < limits.ip_connections <= self._by_ip[session.ip]:
            raise OverLimit("ip_connections", f"{limits.ip_connections} subscriptions from one address are the limit")
        most = limits.of(caller, "connections")
        if 0 < most <= len(account.sessions):
            raise OverLimit("connections", f"{most:g} subscriptions at once are the limit")
        most = limits.of(caller, "filters")
        if 0 < most <= len(account.filters) and session.filter not in account.filters:
            raise OverLimit("filters", f"{most:g} different filters at once are the limit")

    def count_replay(self, session: Session) -> None:
        """Raises `OverLimit`."""
        account = self._accounts[session.caller.namespace]
        most = self.limits.of(session.caller, "replays")
        if most > 0:
            account.replaying = [other for other in account.replaying if other.replaying]
            if len(account.replaying) >= most:
                raise OverLimit("replays", f"{most:g} replays at once are the limit", retry_after=2)
            account.replaying.append(session)

    def forget(self, session: Session) -> None:
        """It is closed."""
        account = self._accounts[session.caller.namespace]
        account.sessions.discard(session)
        if not account.sessions:
            del self._accounts[session.caller.namespace]
        else:
            left = account.filters.pop(session.filter) - 1
            if left:
                account.filters[session.filter] = left
        if session.ip is not None:
            if self._by_ip[session.ip] > 1:
                self._by_ip[session.ip] -= 1
            else:
                del self._by_ip[session.ip]
        self._count -= 1
        self._unschedule(session)

    def reconsider(self, current: Callable[[Principal], Principal | None]) -> None:
        """Rights may have changed: end those that have none any more, or whose filter would now be another."""
        verdicts: dict[int, Principal | None] = {}  # by identity: a key's sessions share one principal
        for account in tuple(self._accounts.values()):
            for session in tuple(account.sessions):
                caller = session.caller
                if id(caller) not in verdicts:
                    verdicts[id(caller)] = current(caller)
                self._judge(session, verdicts[id(caller)])

    def _judge(self, session: Session, now_allowed: Principal | None) -> None:
        if now_allowed is None:
            session.end("expired" if session.caller.expired(self._now()) else "revoked")
            return
        try:
            now_allowed.demand("subscribe")
            filter_ = now_allowed.narrow(session.wish, session.streams)
        except Refused:
            session.end("revoked")
            return
        # Another tenant is another account, and another filter too: then it stays where it was counted until it closes.
        if filter_ != session.filter or now_allowed.namespace != session.caller.namespace:
            session.end("narrowed")
            return
        self._unschedule(session)
        session.caller = now_allowed
        self._schedule(session)

    def expire(self) -> None:
        """End those whose time is over. Call it a few times a second."""
        now = self._now()
        # The second that now is gets looked at again: what expires later in it is still to come.
        seconds: Iterable[int] = range(self._swept, int(now) + 1)
        if now - self._swept > len(self._due):  # the clock jumped
            seconds = [second for second in self._due if second <= now]
        for second in seconds:
            for session in tuple(self._due.get(second, ())):
                if session.caller.expired(now):
                    self._unschedule(session)
                    session.end("expired")
        self._swept = int(now)

    def _schedule(self, session: Session) -> None:
        if session.caller.expires_at is not None:
            self._due[int(session.caller.expires_at)].add(session)

    def _unschedule(self, session: Session) -> None:
        if session.caller.expires_at is not None:
            second = int(session.caller.expires_at)
            due = self._due.get(second)
            if due is not None:
                due.discard(session)
                if not due:
                    del self._due[second]
