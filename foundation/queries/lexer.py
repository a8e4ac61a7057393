"""The tokens of a query."""

import re
from dataclasses import dataclass
from enum import Enum, auto

from foundation.queries.errors import BadQuery

MAX_QUERY_SIZE = 4096
KEYWORDS = frozenset({"and", "or", "not", "in", "is", "set", "ago"})
_TOKEN = re.compile(r"""\s*(?:(?P<operator>!=|<=|>=|[=<>~])|(?P<mark>[(),])|(?P<word>[^\s()",=!<>~]+)|(?P<quote>"))""")
_TEXT = re.compile(r'"((?:[^"\\]|\\["\\])*)"')


class TokenType(Enum):
    WORD = auto()
    KEYWORD = auto()
    TEXT = auto()  # in quotation marks
    OPERATOR = auto()
    MARK = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """`text` is the token's value: without quotation marks, keywords in lower case."""

    type: TokenType
    text: str
    position: int
    length: int

    def is_mark(self, mark: str) -> bool:
        return self.type is TokenType.MARK and self.text == mark

    def is_keyword(self, keyword: str) -> bool:
        return self.type is TokenType.KEYWORD and self.text == keyword


def tokens(query: str) -> list[Token]:
    """Split a query into tokens, with `END` as the last one. Raises `BadQuery`."""
    size = len(query.encode("utf-8", "surrogatepass"))
    if size > MAX_QUERY_SIZE:
        raise BadQuery(f"A query must be at most {MAX_QUERY_SIZE} bytes; this one has {size}.", 0, len(query))
    if "\x00" in query or any("\ud800" <= character <= "\udfff" for character in query):
        raise BadQuery("A query must not contain NUL characters or surrogates.", 0, len(query))
    found: list[Token] = []
    position, end = 0, len(query.rstrip())
    while position < end:
        token = _next(query, position)
        found.append(token)
        position = token.position + token.length
    return [*found, Token(TokenType.END, "", end, 1)]


def _next(query: str, position: int) -> Token:
    match = _TOKEN.match(query, position)
    if match is None:
        start = position + len(query[position:]) - len(query[position:].lstrip())
        raise BadQuery(f"{query[start]!a} cannot be used here.", start)
    kind, text = str(match.lastgroup), match[str(match.lastgroup)]
    start = match.start(kind)
    if kind == "quote":
        return _text(query, start)
    if kind == "word":
        is_keyword = text.lower() in KEYWORDS
        token_type = TokenType.KEYWORD if is_keyword else TokenType.WORD
        return Token(token_type, text.lower() if is_keyword else text, start, len(text))
    return Token(TokenType.OPERATOR if kind == "operator" else TokenType.MARK, text, start, len(text))


def _text(query: str, start: int) -> Token:
    match = _TEXT.match(query, start)
    if match is None:
        raise BadQuery("This quotation mark is not closed.", start, len(query) - start, ('"',))
    return Token(TokenType.TEXT, re.sub(r"\\(.)", r"\1", match[1]), start, len(match[0]))
