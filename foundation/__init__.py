"""The lowest layer, independent of the fleet: errors, API conventions, accounts, events, the scheduler loop."""
