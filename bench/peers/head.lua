-- What wrk sends for HEAD, to compare it with our own generator on a server that says Content-Length: 0.
wrk.method = "HEAD"
wrk.headers["User-Agent"] = "headway-bench/1.0 (loopback)"
wrk.headers["Accept"] = "*/*"
wrk.headers["Accept-Encoding"] = "gzip, deflate"
wrk.headers["Connection"] = "keep-alive"
