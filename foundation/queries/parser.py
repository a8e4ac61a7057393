"""The recursive-descent parser of queries. One method per rule of the grammar; see the package's docstring."""

from foundation.queries.errors import BadQuery
from foundation.queries.lexer import Token, TokenType, tokens
from foundation.queries.syntax import And, Comparison, FieldName, IsIn, IsSet, Node, Not, Operator, Or, Value, Word

MAX_DEPTH = 20
MAX_TERMS = 50
MAX_VALUES = 200
OPERATORS = tuple(operator.value for operator in Operator)


def parse(query: str) -> Node:
    """Return the tree of a query that is not empty. Raises `BadQuery`."""
    return _Parser(tokens(query)).parse()


class _Parser:
    def __init__(self, found: list[Token]) -> None:
        self.tokens = found
        self.index = 0
        self.depth = 0
        self.terms = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.index]

    def parse(self) -> Node:
        node = self.parse_or()
        if self.token.type is not TokenType.END:
            raise self.unexpected("`and`, `or`", "the end of the query")
        return node

    def parse_or(self) -> Node:
        terms = [self.parse_and()]
        while self.token.is_keyword("or"):
            self.advance()
            terms.append(self.parse_and())
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def parse_and(self) -> Node:
        terms = [self.parse_not()]
        while self.token.is_keyword("and") or self.begins_term():
            if self.token.is_keyword("and"):
                self.advance()
            terms.append(self.parse_not())
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def begins_term(self) -> bool:
        token = self.token
        return token.type in {TokenType.WORD, TokenType.TEXT} or token.is_mark("(") or token.is_keyword("not")

    def parse_not(self) -> Node:
        token = self.token
        if not token.is_keyword("not") and not token.is_mark("("):
            return self.parse_term()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise BadQuery(f"A query must be at most {MAX_DEPTH} levels deep.", token.position, token.length)
        self.advance()
        if token.is_keyword("not"):
            node: Node = Not(self.parse_not())
        else:
            node = self.parse_or()
            self.expect_mark(")", "`and`, `or`", "`)`")
        self.depth -= 1
        return node

    def parse_term(self) -> Node:
        token = self.token
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise BadQuery(f"A query must have at most {MAX_TERMS} terms.", token.position, token.length)
        if token.type is TokenType.TEXT:
            self.advance()
            return Word(token.text)
        if token.type is not TokenType.WORD:
            raise self.unexpected("a field", "a word", "`not`", "`(`")
        self.advance()
        field = FieldName(token.text, token.position)
        if self.token.type is TokenType.OPERATOR:
            operator = Operator(self.token.text)
            self.advance()
            return Comparison(field, operator, self.parse_value())
        if self.token.is_keyword("in"):
            self.advance()
            return IsIn(field, self.parse_values())
        if self.token.is_keyword("is"):
            self.advance()
            return self.parse_is_set(field)
        return Word(token.text)

    def parse_is_set(self, field: FieldName) -> Node:
        is_negated = self.token.is_keyword("not")
        if is_negated:
            self.advance()
        if not self.token.is_keyword("set"):
            raise self.unexpected(*(() if is_negated else ("`not`",)), "`set`")
        self.advance()
        return Not(IsSet(field)) if is_negated else IsSet(field)

    def parse_values(self) -> tuple[Value, ...]:
        self.expect_mark("(", "`(`")
        values = [self.parse_value()]
        while self.token.is_mark(","):
            self.advance()
            if len(values) == MAX_VALUES:
                token = self.token
                raise BadQuery(f"A list must have at most {MAX_VALUES} values.", token.position, token.length)
            values.append(self.parse_value())
        self.expect_mark(")", "`,`", "`)`")
        return tuple(values)

    def parse_value(self) -> Value:
        token = self.token
        if token.type not in {TokenType.WORD, TokenType.TEXT}:
            raise self.unexpected("a value")
        self.advance()
        if token.type is TokenType.WORD and self.token.is_keyword("ago"):
            end = self.token.position + self.token.length
            self.advance()
            return Value(token.text, token.position, end - token.position, is_ago=True)
        return Value(token.text, token.position, token.length, is_quoted=token.type is TokenType.TEXT)

    def advance(self) -> None:
        self.index += 1

    def expect_mark(self, mark: str, *expected: str) -> None:
        if not self.token.is_mark(mark):
            raise self.unexpected(*expected)
        self.advance()

    def unexpected(self, *expected: str) -> BadQuery:
        token = self.token
        found = "The query ends here" if token.type is TokenType.END else f"{token.text[:80]!a} is not allowed here"
        return BadQuery(f"{found}; expected {' or '.join(expected)}.", token.position, token.length, expected)
