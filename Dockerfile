# The last stage, which is the default, is the image for the web server, scheduler, migration and backup. `--target agent`
# builds the image for devices. BASE is a Debian or Ubuntu image with Python 3.11 or newer and its venv module; `make image` passes one
# that it builds itself. The default is pinned by digest; docs/image.md describes how to update it.
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

# Common base of both build stages. The final images start from BASE, without pip's settings.
FROM ${BASE} AS tools
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv /opt/python

FROM tools AS build
# One requirement is written in C and has no wheel. The compiler stays in this stage. Its version is Debian's, not pinned.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/*
COPY deploy/build.txt deploy/fast.txt requirements.txt /build/
# For builds without a package index: a directory of wheels.
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
# Bytecode is compiled here, because the root file system is read-only later.
RUN /opt/python/bin/pip install --require-hashes --only-binary :all: -r /build/build.txt \
    && /opt/python/bin/pip install --require-hashes --no-build-isolation -r /build/requirements.txt -r /build/fast.txt \
    && /opt/python/bin/pip uninstall -y pip setuptools wheel
WORKDIR /app
COPY manage.py gunicorn.conf.py ./
COPY kernex kernex
COPY operations operations
COPY foundation foundation
COPY devices devices
COPY bundles bundles
COPY deployments deployments
COPY --chmod=755 deploy/entry deploy/alive deploy/nightly deploy/
# The settings require a key and a database. collectstatic uses neither, and the image does not contain these values.
RUN SECRET_KEY=only-for-collecting-static-files-while-the-image-is-built-0 \
    DATABASE_URL=postgresql://nobody@localhost/nothing STATIC_ROOT=/app/static \
    /opt/python/bin/python manage.py collectstatic --no-input --verbosity 0 \
    && /opt/python/bin/python -m compileall -q /app

FROM tools AS agent-build
COPY agent/requirements.txt /build/
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
RUN /opt/python/bin/pip install --require-hashes --only-binary :all: -r /build/requirements.txt \
    && /opt/python/bin/pip uninstall -y pip setuptools
WORKDIR /app
COPY agent agent
RUN /opt/python/bin/python -m compileall -q /app

FROM ${BASE} AS agent
# The state directory must outlive the container: mount a volume there.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/kernex-agent
COPY --from=agent-build /opt/python /opt/python
COPY --from=agent-build /app /app
ENV PATH=/opt/python/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/app
WORKDIR /var/lib/kernex-agent
# Orchestrators that refuse root cannot look up names, so the user is a number.
USER 10001:10001
ENTRYPOINT ["python", "-m", "agent"]
CMD ["run"]

FROM ${BASE} AS control-plane
# pg_dump and pg_restore for `backup` and `restore`. They refuse a server that is newer than themselves. Debian bookworm
# has PostgreSQL 15, the version of terraform/ and compose.yaml. For a newer server, POSTGRES_MAJOR=18 installs that
# version from the PostgreSQL project's own packages.
ARG POSTGRES_MAJOR=""
# hadolint ignore=DL3008
RUN apt-get update \
    && if [ -n "$POSTGRES_MAJOR" ]; then \
        apt-get install -y --no-install-recommends ca-certificates postgresql-common \
        && /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y; \
    fi \
    && apt-get install -y --no-install-recommends "postgresql-client${POSTGRES_MAJOR:+-$POSTGRES_MAJOR}" \
    && rm -rf /var/lib/apt/lists/*
# Mount volumes here: /var/lib/kernex stores bundles if no bucket is configured, and /backups stores backups.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/kernex /backups
COPY --from=build /opt/python /opt/python
COPY --from=build /app /app
# Some platforms replace the entry point with their run command, so each program's name is a command, too.
RUN for program in web scheduler migrate backup nightly; do ln -s /app/deploy/entry "/usr/local/bin/$program"; done
ENV PATH=/opt/python/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    STATIC_ROOT=/app/static STORAGE_DIR=/var/lib/kernex
WORKDIR /app
USER 10001:10001
EXPOSE 8000
# gunicorn and the scheduler finish their work after SIGTERM.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=20s --timeout=5s --start-period=60s --retries=3 CMD ["/app/deploy/alive"]
ENTRYPOINT ["/app/deploy/entry"]
CMD ["web"]
