# The server in a container: docker build -t headway .
# docs/deploy.md tells how to add your tasks.

FROM python:3.14-slim AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/headway \
    && /opt/headway/bin/pip install --no-cache-dir --require-hashes -r requirements/headway.txt \
        -r requirements/backend.txt \
    && /opt/headway/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.14-slim
COPY --from=build /opt/headway /opt/headway
# A number, so that Kubernetes can tell that it is not root (runAsNonRoot).
RUN useradd --system --uid 10001 --home-dir /var/lib/headway headway \
    && install -d -o headway -m 0700 /var/lib/headway \
    && install -d /app
# These name a file, and ask for a token to be made: none of them is a secret.
# hadolint ignore=DL3064
ENV PATH=/opt/headway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HEADWAY_SERVER__HOST=0.0.0.0 \
    HEADWAY_SERVER__PORT=8080 \
    HEADWAY_JOURNAL__PATH=/var/lib/headway/headway.db \
    HEADWAY_AUTH__TOKENS=/var/lib/headway/headway-tokens.yaml \
    HEADWAY_AUTH__FIRST_TOKEN=true
# The user's tasks and settings.
WORKDIR /app
VOLUME /var/lib/headway
EXPOSE 8080
USER 10001
# Drains. Give it longer than drain_timeout, drain_linger and 7 seconds: docker stop --timeout 45.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['HEADWAY_SERVER__PORT'] + '/healthz', timeout=3)"]
ENTRYPOINT ["headway"]
CMD ["serve"]
