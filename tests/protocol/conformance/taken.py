"""Messages that are taken, some of them odd. The connection goes on, or ends as the message says."""

from __future__ import annotations

from tests.protocol.conformance.edits import (
    ALL,
    BARE,
    GET,
    GOOD,
    POST,
    Case,
    cases,
    chunks,
    coded,
    host,
    length,
    line,
    method,
    replaced,
    start,
    target,
    then,
    version,
)

TAKEN: list[Case] = [
    *(Case(name, "2.1", name, sent, status) for name, (sent, status) in GOOD.items()),
    *cases(
        "2.2",
        {
            "empty-line-before": lambda good: b"\r\n" + good,
            "empty-lines-before": lambda good: b"\r\n\r\n\r\n" + good,
            # No line of another length can be meant: the parser takes them all for empty ones.
            "lf-before": lambda good: b"\n" + good,
            "cr-before": lambda good: b"\r" + good,
        },
        ALL,
    ),
    # RFC 9112, 3 lets a recipient part the request line at white space.
    *cases("3", {"two-spaces": start(rb" ", b"  "), "two-spaces-before-version": start(rb" HTTP", b"  HTTP")}, ALL),
    *cases(
        "3.2.2",
        {
            "absolute": target(b"http://test~"),
            "absolute-of-https": target(b"https://test~"),
            "absolute-in-capitals": target(b"HTTP://TEST:8080~"),
            "absolute-with-address": target(b"http://[::1]:80~"),
            "absolute-with-other-host": then(target(b"http://other:81~"), host(b" test:80")),
            "absolute-with-empty-host": then(target(b"http://other~"), host(b"")),
        },
        ALL,
    ),
    *cases("3.2.1", {"query": target(b"~?a=/b?c&d=%zz"), "empty-query": target(b"~?")}, ["get", "post"]),
    *cases(
        "3.2",
        {
            f"host-{name}": host(value)
            for name, value in {
                "empty": b"",
                "empty-after-space": b" ",
                "name": b" a.b-c_d~e",
                "no-space": b"a",
                "tab": b"\ta\t ",
                "address": b" 127.0.0.1:8080",
                "ipv6": b" [::1]",
                "ipv6-and-port": b" [2001:db8::7]:80",
                "ipv6-of-ipv4": b" [::ffff:192.0.2.1]",
                "later-ip": b" [v1.fe80::a+en1]",
                "empty-port": b" a:",
                "escape": b" %41%c3%a9",
                "sub-delimiters": b" a!$&'()*+,;=",
                "puny": b" xn--nxasmq6b",
            }.items()
        },
        ALL,
    ),
    *cases(
        "3986, 6.2.2.2",
        {"escaped-letters": replaced(b"/jobs", b"/%6Aob%73"), "escaped-in-lower-case": replaced(b"/jobs", b"/%6aobs")},
        ["poll", "post"],
    ),
    *cases("3986, 6.2.2.2", {"escaped-letters": replaced(b"/healthz", b"/%68ealth%7A")}, ["get"]),
    *cases("3986, 2.2", {"escaped-slash": replaced(b"/jobs/", b"/jobs%2F")}, ["poll"], 404),
    *cases("3986, 2.2", {"escaped-question-mark": target(b"~%3Fa=b")}, ["get", "post"], 404),
    # Fields.
    *cases(
        "9110, 5.5",
        {
            "no-value": line(b"X:"),
            "spaces-for-a-value": line(b"X:    "),
            "not-ascii": line(b"X: \xe9\xff"),
            "tab-within": line(b"X: y\tz"),
            "long-white-space": line(b"X:" + b" \t" * 500 + b"y" + b"\t " * 500),
            "no-space": line(b"X:y"),
            "colons": line(b"X:: y:z"),
        },
        ALL,
    ),
    *cases("9110, 5.1", {"any-token": line(b"!#$%&'*+-.^_`|~09aZ: y"), "capitals": replaced(b"Host", b"HOST")}, ALL),
    *cases("9110, 5.1", {"capitals-in-length": replaced(b"Content-L", b"CONTENT-l")}, ["post"]),
    *cases(
        "9110, 5.3", {"a-field-twice": line(b"X: y\r\nX: z"), "accepts-twice": line(b"Accept: a/b\r\nAccept: *")}, BARE
    ),
    # The length of the content.
    *cases(
        "6.3",
        {
            f"length-{name}": length(value)
            for name, value in {"no-space": b"18", "spaces": b"  18 ", "tabs": b"\t18\t", "zeros": b" 00018"}.items()
        },
        ["post"],
    ),
    *cases("6.3", {"length-of-nothing": line(b"Content-Length: 0")}, BARE),
    *cases("9110, 9.3.1", {"content-in-get": lambda good: line(b"Content-Length: %d" % len(GET))(good) + GET}, ["get"]),
    *cases(
        "9110, 9.3.1", {"chunks-in-get": lambda good: line(b"Transfer-Encoding: chunked")(good) + b"0\r\n\r\n"}, ["get"]
    ),
    *cases(
        "7",
        {
            f"coding-{name}": coded(value)
            for name, value in {
                "plain": b" chunked",
                "no-space": b"chunked",
                "capitals": b" CHUNKED",
                "space": b" chunked ",
            }.items()
        },
        ["post"],
    ),
    *cases(
        "7.1",
        {
            f"chunks-{name}": chunks(text)
            for name, text in {
                "zeros": b"00000000000000000000012\r\n~\r\n000\r\n\r\n",
                "two": b'1\r\n{\r\n11\r\n"task":"nothing"}\r\n0\r\n\r\n',
                "extension": b"12;a\r\n~\r\n0\r\n\r\n",
                "extension-with-value": b"12;a=b;c=d\r\n~\r\n0;e\r\n\r\n",
                "extension-in-quotes": b'12;a="b;c \\" d"\r\n~\r\n0\r\n\r\n',
                "trailer": b"12\r\n~\r\n0\r\nX: y\r\nZ:\r\n\r\n",
                "trailer-host": b"12\r\n~\r\n0\r\nHost: a b\r\nHost: c\r\n\r\n",
                "trailer-expect": b"12\r\n~\r\n0\r\nExpect: x\r\n\r\n",
                "trailer-type": b"12\r\n~\r\n0\r\nContent-Type: text/plain\r\n\r\n",
                # An extension that is none. The server ignores all of them, and the parser looks at their bytes alone.
                "empty-extension-among-others": b"12;a;;b\r\n~\r\n0\r\n\r\n",
                "extension-without-name": b"12;=b\r\n~\r\n0\r\n\r\n",
                "extension-with-empty-value": b"12;a=\r\n~\r\n0\r\n\r\n",
            }.items()
        },
        ["post"],
    ),
    # Connections.
    *cases(
        "9.3",
        {
            f"connection-{name}": line(b"Connection:" + value)
            for name, value in {
                "keep-alive": b" keep-alive",
                "other": b" x",
                "of-nothing": b"",
                "xclose": b" xclose",
                "close-and-word": b" close x",
                "close-with-parameter": b" close;x",
                "quoted-close": b' "close"',
                "upgrade-without-field": b" upgrade",
            }.items()
        },
        ALL,
    ),
    *cases(
        "9.6",
        {
            f"connection-{name}": line(b"Connection:" + value)
            for name, value in {
                "close": b" close",
                "capitals": b" CLOSE",
                "close-last": b" keep-alive, close",
                "close-first": b" close, keep-alive",
                "close-among": b"x,close ,y",
                "close-and-nothing": b" ,close\t,",
                "close-in-two-lines": b" x\r\nConnection: close",
                "close-then-keep": b" close\r\nConnection: keep-alive",
            }.items()
        },
        ALL,
        closes=True,
    ),
    *cases(
        "9.3",
        {
            "1.0": version(b"HTTP/1.0"),
            "1.0-other": version(b"HTTP/1.0", b"Connection: x"),
            "1.0-close": version(b"HTTP/1.0", b"Connection: close"),
            "1.0-both": version(b"HTTP/1.0", b"Connection: keep-alive, close"),
            "1.0-both-in-the-other-order": version(b"HTTP/1.0", b"Connection: close, keep-alive"),
            "1.0-both-in-two-lines": version(b"HTTP/1.0", b"Connection: keep-alive", b"Connection: close"),
            "1.0-keep-and-word": version(b"HTTP/1.0", b"Connection: keep-alive x"),
            "1.0-for-a-proxy": version(b"HTTP/1.0", b"Proxy-Connection: keep-alive"),
        },
        ALL,
        closes=True,
    ),
    *cases(
        "9.3",
        {
            "1.0-kept": version(b"HTTP/1.0", b"Connection: keep-alive"),
            "1.0-kept-in-capitals": version(b"HTTP/1.0", b"CONNECTION: Keep-Alive"),
            "1.0-kept-among-others": version(b"HTTP/1.0", b"Connection: x, keep-alive"),
            "1.0-without-host": then(version(b"HTTP/1.0", b"Connection: keep-alive"), replaced(b"Host: test\r\n", b"")),
        },
        ALL,
    ),
    *cases(
        "9110, 7.8",
        {
            "upgrade": line(b"Connection: Upgrade\r\nUpgrade: h2c"),
            "upgrade-to-several": line(b"Upgrade: websocket, x/1\r\nConnection: x, upgrade"),
            "upgrade-without-connection": line(b"Upgrade: h2c"),
        },
        ALL,
    ),
    *cases(
        "9110, 7.8",
        {"upgrade-of-chunks": then(coded(b" chunked"), line(b"Connection: upgrade\r\nUpgrade: x"))},
        ["post"],
    ),
    *cases("9110, 7.8", {"upgrade-and-close": line(b"Connection: upgrade, close\r\nUpgrade: h2c")}, ALL, closes=True),
    # Expectations.
    *cases(
        "9110, 10.1.1",
        {
            "expect-without-content": line(b"Expect: 100-continue"),
            "expect-nothing": line(b"Expect:"),
            "expect-and-length-of-nothing": line(b"Expect: 100-continue\r\nContent-Length: 00"),
        },
        BARE,
    ),
    *cases(
        "9110, 10.1.1",
        {
            "expect-in-1.0": version(b"HTTP/1.0", b"Connection: keep-alive", b"Expect: 100-continue"),
            "expect-other-in-1.0": version(b"HTTP/1.0", b"Connection: keep-alive", b"Expect: x"),
        },
        ALL,
    ),
    *(
        Case(name, "9110, 10.1.1", "post", edit(POST), 202, continues=True)
        for name, edit in {
            "expect": line(b"Expect: 100-continue"),
            "expect-in-capitals": line(b"EXPECT:100-CONTINUE \t"),
            "expect-twice": line(b"Expect: 100-continue\r\nExpect: 100-continue"),
            "expect-with-nothing": line(b"Expect: , 100-continue,"),
            "expect-chunks": then(coded(b" chunked"), line(b"Expect: 100-continue")),
        }.items()
    ),
    # Methods.
    *cases("9110, 9.3.7", {"options": method(b"OPTIONS")}, ALL, 204),
    *cases("9110, 9.3.7", {"options-of-all": then(method(b"OPTIONS"), target(b"*"))}, ALL, 204),
    *cases("9110, 15.5.6", {"trace": method(b"TRACE"), "patch": method(b"PATCH")}, ["get", "post"], 405),
    *cases("9110, 15.5.6", {"trace": method(b"TRACE")}, ["poll"], 405),
    # The protocol of the request line is seen by the parser alone. OPTIONS changes nothing.
    *cases("9110, 9.3.7", {"options-of-rtsp": then(method(b"OPTIONS"), version(b"RTSP/1.1"))}, ["get"], 204),
]
