"""Operations: database roles, backups, monitoring, and the management commands."""
