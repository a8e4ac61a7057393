"""The format of dates and times: the same for everyone."""
