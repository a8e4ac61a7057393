"""`kernex-agent once`: exchange requests with the server until nothing is left to do. For timers and tests."""

import threading

from agent.errors import AgentError, BrokenState, Refused
from agent.server.exchanges import Exchange, ServerExchanges

MAX_ATTEMPTS = 3


def exchange_until_idle(exchanges: ServerExchanges, stop: threading.Event) -> None:
    """Send a heartbeat, and continue until the commands in its response are done.

    The last heartbeat acknowledges the commands and describes what runs after them.

    Raises:
        BrokenState: The journal cannot be written.
        AgentError: The server refused a request, or three attempts in a row failed.
    """
    session, journal = exchanges.session, exchanges.journal

    def is_idle() -> bool:
        return journal.state.is_idle() and not session.has_unreported_end

    def owes_heartbeat() -> bool:
        state = journal.state
        has_news = bool(state.acknowledge or state.command_outcomes) or session.has_unreported_end
        return has_news and not (state.jobs or state.log_requests)

    while not stop.is_set():
        heartbeat = exchanges.heartbeat.schedule
        if owes_heartbeat() and not heartbeat.is_backing_off:
            heartbeat.make_due()
        exchange = exchanges.next_due()
        if exchange is not None:
            failure = exchanges.attempt(exchange)
            if failure is not None:
                if exchanges.is_final(failure) or _is_last(exchanges, exchange, failure):
                    raise failure
                exchange.schedule.failed(failure)
            if session.cannot_accept:
                raise BrokenState(session.cannot_accept)
        elif is_idle():
            return
        else:
            exchanges.wait(lambda: stop.is_set() or is_idle())


def _is_last(exchanges: ServerExchanges, exchange: Exchange, failure: AgentError) -> bool:
    """Return whether there is no further attempt after this one. Attributes may stay unsent."""
    if exchange is exchanges.attributes:
        return False
    return isinstance(failure, Refused) or exchange.schedule.backoff.failures + 1 >= MAX_ATTEMPTS
