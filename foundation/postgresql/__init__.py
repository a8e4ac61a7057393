"""Django's database backend for PostgreSQL, with a pool that recovers at once when its sessions have ended."""
