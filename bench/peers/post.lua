-- What wrk sends for POST: the head of requests.py, and 102 bytes of JSON.
wrk.method = "POST"
wrk.body = '{"task":"noop","payload":{"to":"somebody@example.org","template":"welcome","language":"en","retry":false}}'
wrk.headers["User-Agent"] = "headway-bench/1.0 (loopback)"
wrk.headers["Accept"] = "*/*"
wrk.headers["Accept-Encoding"] = "gzip, deflate"
wrk.headers["Connection"] = "keep-alive"
wrk.headers["Content-Type"] = "application/json"
