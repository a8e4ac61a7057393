"""What every layer stands on and what knows no fleet: errors, API conventions, accounts, events, the scheduler loop."""
