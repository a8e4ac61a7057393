# One image for web, scheduler and migrations (the last stage, so the default), and `--target agent` for devices.
# BASE is any Debian or Ubuntu with Python 3.11 or newer and its venv module: `make image` hands in one that it makes
# itself. The default is pinned by digest; docs/image.md says how it is moved on.
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

# What both need for building; nothing of pip reaches the images that run.
FROM ${BASE} AS tools
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv /opt/python

FROM tools AS build
# One requirement is C without a wheel. The compiler stays in this stage, so its version is Debian's to choose.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/*
COPY deploy/build.txt deploy/fast.txt requirements.txt /build/
# Unset unless given: a directory of wheels for builds without an index.
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
# Bytecode is written now: the root file system is read-only later.
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
COPY --chmod=755 deploy/entry deploy/alive deploy/
# The settings want a key and a database before they say anything; neither is used, and neither is kept.
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
# The state directory outlives the container: mount a volume there.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/kernex-agent
COPY --from=agent-build /opt/python /opt/python
COPY --from=agent-build /app /app
ENV PATH=/opt/python/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/app
WORKDIR /var/lib/kernex-agent
# By number: orchestrators refuse root only if they can see that it is not.
USER 10001:10001
ENTRYPOINT ["python", "-m", "agent"]
CMD ["run"]

FROM ${BASE} AS control-plane
# Bundles on a local disk, where no bucket is set: mount a volume there.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/kernex
COPY --from=build /opt/python /opt/python
COPY --from=build /app /app
# Where a platform replaces the entry point by its run command, the words are programs.
RUN for word in web scheduler migrate; do ln -s /app/deploy/entry "/usr/local/bin/$word"; done
ENV PATH=/opt/python/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    STATIC_ROOT=/app/static STORAGE_DIR=/var/lib/kernex
WORKDIR /app
USER 10001:10001
EXPOSE 8000
# The order to stop that gunicorn and the scheduler finish their work on.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=20s --timeout=5s --start-period=60s --retries=3 CMD ["/app/deploy/alive"]
ENTRYPOINT ["/app/deploy/entry"]
CMD ["web"]
