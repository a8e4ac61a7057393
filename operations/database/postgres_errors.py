"""What PostgreSQL's words mean when it lets nobody in: at a login no SQLSTATE comes with them."""

import re

# What `grant_perms` mends.
_UNGRANTED = re.compile(
    "permission denied for [a-z]+ [^\\s)]+|role .* is not permitted to log in|.*authentication failed.*"
)
# The first that is found counts. For whoever may ask: no host, user or table is named.
_MEANINGS = {
    "authentication failed": "it refuses the role or password of DATABASE_URL",
    "does not exist": "it does not know the role or database of DATABASE_URL",
    "not permitted": "it does not let the role of DATABASE_URL log in",
    "permission denied": "it does not let the role of DATABASE_URL in",
    "too many": "it has no connection to spare",
    "remaining connection slots": "it has no connection to spare",
    "refused": "nothing answers at the address of DATABASE_URL",
    "resolve": "the host of DATABASE_URL is not known",
    "timeout": "it did not answer in time",
    "timed out": "it did not answer in time",
}


def ungranted(error: Exception) -> str:
    """PostgreSQL's own words where the role lacks what `grant_perms` gives; empty for any other trouble."""
    found = _UNGRANTED.search(str(error))
    return found[0] if found else ""


def meaning(error: Exception) -> str:
    """Why the database cannot be used, for people who may not see its address."""
    text = str(error)
    return next((words for sign, words in _MEANINGS.items() if sign in text), "see the log")
