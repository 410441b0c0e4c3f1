"""The router of a deployment: HAProxy, which every registry has as one small official image.

It lets an allow-list of paths through (those that the engine guards with its key), checks each engine's /health, sends a
refused request to another engine, ends TLS where there is a certificate, and tells Prometheus how it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenhour.serving.proxy.server import ALLOWED

IMAGE = "haproxy:3.0-alpine"
METRICS_PORT = 8404
# No front stands here to check the key: the engine does, and below /v1 only. What it answers without a key (/tokenize,
# /detokenize) stays inside; /health tells nothing.
PATHS = tuple(sorted({path for _, path in ALLOWED if path == "/health" or path.startswith("/v1/")}))


def haproxy_config(engines: Sequence[str], port: int, *, drain_s: int, tls: bool = False) -> str:
    """Return haproxy.cfg for `engines` (host:port); the API key is checked by the engines themselves."""
    bind = f"bind :{port} ssl crt /certs/server.pem alpn h2,http/1.1" if tls else f"bind :{port}"
    resolve = " resolvers docker init-addr libc,none" if any(not each.startswith("127.") for each in engines) else ""
    servers = "\n".join(
        f"  server engine{number} {engine} check inter 2s fall 2 rise 1{resolve}" for number, engine in enumerate(engines)
    )
    resolvers = "resolvers docker\n  parse-resolv-conf\n  hold valid 10s\n\n" if resolve else ""
    return f"""\
global
  maxconn 8000
  log stdout format raw local0 notice
  hard-stop-after {drain_s + 5}s

defaults
  mode http
  log global
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-request 30s
  timeout queue 10m
  option redispatch
  retries 3
  retry-on conn-failure empty-response junk-response 503

{resolvers}frontend public
  {bind}
  acl allowed path {" ".join(PATHS)}
  http-request deny deny_status 404 unless allowed
  http-request del-header X-Forwarded-For
  option forwardfor
  default_backend engines

backend engines
  balance leastconn
  option httpchk GET /health
  http-check expect status 200
{servers}

frontend metrics
  bind :{METRICS_PORT}
  http-request use-service prometheus-exporter if {{ path /metrics }}
  http-request deny deny_status 404
"""
