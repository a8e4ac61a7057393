"""The query language: one grammar for list filters, the API, the command line and dynamic groups.

    query := or
    or    := and ("or" and)*
    and   := not ("and"? not)*
    not   := "not" not | "(" or ")" | term
    term  := FIELD OPERATOR value | FIELD "in" "(" value ("," value)* ")" | FIELD "is" ["not"] "set" | word
    value := "text" | number | true | false | 10m ago | 2026-11-24T10:00Z | word

`lexer` splits a text into tokens, `parser` builds the tree of `syntax`. Neither knows any field: the app that owns the
rows binds the tree to its fields (`devices.queries`).
"""
