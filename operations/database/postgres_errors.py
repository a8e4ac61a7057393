"""The meaning of PostgreSQL's error texts when a connection fails: libpq gives no SQLSTATE for those."""

import re

# The errors that `grant_perms` fixes.
_UNGRANTED = re.compile(
    "permission denied for [a-z]+ [^\\s)]+|role .* is not permitted to log in|.*authentication failed.*"
)
# The first match counts. /health shows these texts to anyone, so they name no host, user or table.
_MEANINGS = {
    "authentication failed": "it refuses the role or password of DATABASE_URL",
    "does not exist": "it does not know the role or database of DATABASE_URL",
    "not permitted": "it does not let the role of DATABASE_URL log in",
    "permission denied": "it does not let the role of DATABASE_URL in",
    "too many": "it has no connection to spare",
    "remaining connection slots": "it has no connection to spare",
    "refused": "nothing answers at the host and port of DATABASE_URL",
    "resolve": "the host of DATABASE_URL is not known",
    "timeout": "it did not answer in time",
    "timed out": "it did not answer in time",
}


def ungranted(error: Exception) -> str:
    """Return PostgreSQL's error text if the role lacks what `grant_perms` grants; empty for other problems."""
    match = _UNGRANTED.search(str(error))
    return match[0] if match else ""


def meaning(error: Exception) -> str:
    """Return why the database cannot be used, without naming its host."""
    text = str(error)
    return next((words for sign, words in _MEANINGS.items() if sign in text), "see the log")
