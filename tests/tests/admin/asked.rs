//! The endpoints, and everything that is no request for one of them.

use std::io::Write as _;

use sandbar_tests::http::{Response, connect, get, raw, read};
use sandbar_tests::process::Folder;

use super::host;

/// Why something was not answered, in words.
fn refused(response: &Response, status: u16, why: &str) {
    assert_eq!(response.status, status, "{response:?}");
    let json = response.json();
    assert!(json["error"].as_str().unwrap().contains(why), "{json}");
    assert!(!json["remedy"].as_str().unwrap().is_empty(), "{json}");
}

#[test]
fn the_endpoints_answer_and_nothing_else_does() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    let (host, address) = host(&folder, &[]);

    let alive = get(address, "/livez", &[]);
    assert_eq!(
        (alive.status, alive.json()["status"].as_str()),
        (200, Some("alive"))
    );
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(alive.headers[name], value);
    }
    let ready = get(address, "/readyz?verbose", &[]);
    assert_eq!(
        (ready.status, ready.json()["status"].as_str()),
        (200, Some("ready"))
    );
    let metrics = get(address, "/metrics", &[]);
    assert_eq!(metrics.status, 200);
    assert_eq!(
        metrics.headers["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(metrics.body.ends_with("# EOF\n"), "{}", metrics.body);

    let request =
        |line: &str, more: &str| format!("{line} HTTP/1.1\r\nhost: localhost\r\n{more}\r\n");
    let head = raw(address, &request("HEAD /metrics", "connection: close\r\n"));
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.headers["content-length"].parse::<u64>().unwrap() > 0);
    for path in ["/", "/metric", "/livez/", "//livez", "/readyz/x"] {
        refused(&get(address, path, &[]), 404, "nothing at this path");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let asked = raw(address, &request(&format!("{method} /livez"), ""));
        refused(&asked, 405, method);
        assert_eq!(asked.headers["connection"], "close");
    }
    let body = raw(
        address,
        &request("GET /livez", "content-length: 1000000000\r\n"),
    );
    refused(&body, 413, "has a body");
    let chunked = raw(
        address,
        &request("GET /livez", "transfer-encoding: chunked\r\n"),
    );
    refused(&chunked, 413, "has a body");
    let many = format!("x-long: {}\r\n", "x".repeat(9_000));
    refused(
        &raw(address, &request("GET /livez", &many)),
        431,
        "more than 8192 bytes",
    );
    // So much is not even read.
    let endless = format!("x-long: {}\r\n", "x".repeat(100_000));
    assert!(matches!(
        raw(address, &request("GET /livez", &endless)).status,
        0 | 431
    ));
    let all = "x: y\r\n".repeat(100);
    assert!(matches!(
        raw(address, &request("GET /livez", &all)).status,
        0 | 431
    ));
    for nonsense in [
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "\u{1}\u{2}\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
    ] {
        assert!(
            matches!(raw(address, nonsense).status, 0 | 400 | 505),
            "{nonsense:?}"
        );
    }

    // After all that it is as well as before.
    assert_eq!(get(address, "/readyz", &[]).status, 200);
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
}

/// Whoever sends slowly holds up nobody, and not for ever: connections are counted, and one that asks nothing is closed.
#[test]
fn slow_senders_are_cut_off_and_too_many_are_told() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    let (_host, address) = host(&folder, &[]);
    let begin = || {
        let mut stream = connect(address);
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nhost: loc")
            .unwrap();
        stream
    };
    let mut slow: Vec<_> = (0..63).map(|_| begin()).collect();
    assert_eq!(get(address, "/livez", &[]).status, 200);
    // One more than those, and no room for another one, until the system has seen the end of the one before.
    slow.push(begin());
    let full = (0..100).map(|_| get(address, "/livez", &[]));
    let full = full
        .into_iter()
        .find(|it| it.status == 503)
        .expect("it is full");
    refused(&full, 503, "connections are open already");
    for mut stream in slow {
        let told = read(&mut stream).status;
        assert!(matches!(told, 0 | 408), "{told}");
    }
    assert_eq!(get(address, "/livez", &[]).status, 200);
}

/// One client cannot ask without end.
#[test]
fn more_requests_than_anybody_needs_are_refused() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    let (_host, address) = host(&folder, &[]);
    let mut stream = connect(address);
    let request = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let last = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream
        .write_all(format!("{}{last}", request.repeat(3_000)).as_bytes())
        .ok();
    let all = read(&mut stream);
    assert_eq!(all.status, 200, "the first one is answered");
    assert!(
        all.body.contains("HTTP/1.1 429 Too Many Requests"),
        "the last ones are not"
    );
}
