"""What is wrong with a query, and where."""


class BadQuery(ValueError):
    """A query that cannot be understood.

    `position` and `length` mark the characters of the query that are wrong. `expected` lists what could be there.
    """

    def __init__(self, message: str, position: int, length: int = 1, expected: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.position = position
        self.length = length
        self.expected = expected
