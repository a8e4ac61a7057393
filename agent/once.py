"""`kernex-agent once`: the conversation until nothing is left to do, for timers and tests."""

import threading

from agent.errors import AgentError, BrokenState, Refused
from agent.server.conversation import Conversation, Exchange

MAX_ATTEMPTS = 3


def talk_until_idle(conversation: Conversation, stop: threading.Event) -> None:
    """Send a heartbeat, and then whatever the commands of its response lead to.

    The last heartbeat acknowledges the commands and describes what runs after them.

    Raises:
        BrokenState: The journal cannot be written.
        AgentError: The server refused, or did not answer three times in a row.
    """
    session, journal = conversation.session, conversation.journal

    def is_idle() -> bool:
        return journal.state.is_idle() and not session.has_unreported_end

    def owes_heartbeat() -> bool:
        state = journal.state
        has_news = bool(state.acknowledge or state.command_outcomes) or session.has_unreported_end
        return has_news and not (state.jobs or state.log_requests)

    while not stop.is_set():
        heartbeat = conversation.heartbeat.schedule
        if owes_heartbeat() and not heartbeat.is_backing_off:
            heartbeat.make_due()
        exchange = conversation.next_due()
        if exchange is not None:
            failure = conversation.attempt(exchange)
            if failure is not None:
                if conversation.is_final(failure) or _is_last(conversation, exchange, failure):
                    raise failure
                exchange.schedule.failed(failure)
            if session.cannot_accept:
                raise BrokenState(session.cannot_accept)
        elif is_idle():
            return
        else:
            conversation.wait(lambda: stop.is_set() or is_idle())


def _is_last(conversation: Conversation, exchange: Exchange, failure: AgentError) -> bool:
    """Return whether there is no further attempt after this one. Attributes may stay unsent."""
    if exchange is conversation.attributes:
        return False
    return isinstance(failure, Refused) or exchange.schedule.backoff.failures + 1 >= MAX_ATTEMPTS
