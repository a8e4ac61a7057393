"""`kernex-agent once`: send requests to the server until nothing is left to do. For timers and tests."""

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

    def needs_heartbeat() -> bool:
        state = journal.state
        has_unsent_data = bool(state.acknowledge or state.command_outcomes) or session.has_unreported_end
        return has_unsent_data and not (state.jobs or state.log_requests)

    while not stop.is_set():
        heartbeat = exchanges.heartbeat.schedule
        if needs_heartbeat() and not heartbeat.is_backing_off:
            heartbeat.make_due()
        exchange = exchanges.next_due()
        if exchange is not None:
            failure = exchanges.attempt(exchange)
            if failure is not None:
                if exchanges.is_final(failure) or _is_last(exchanges, exchange, failure):
                    raise failure
                exchange.schedule.failed(failure)
            if session.acceptance_error:
                raise BrokenState(session.acceptance_error)
        elif is_idle():
            return
        else:
            exchanges.wait(lambda: stop.is_set() or is_idle())


def _is_last(exchanges: ServerExchanges, exchange: Exchange, failure: AgentError) -> bool:
    """Return whether no attempt follows this one. Attributes may remain unsent."""
    if exchange is exchanges.attributes:
        return False
    return isinstance(failure, Refused) or exchange.schedule.backoff.failures + 1 >= MAX_ATTEMPTS
