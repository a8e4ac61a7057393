"""For whoever runs Kernex: the database role, backups, monitoring, the scheduler command."""
