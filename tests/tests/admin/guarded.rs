//! Who may ask, and where: tokens, names of the host, pages of others, addresses that cannot be listened at.

use std::net::TcpListener;

use sandbar_tests::golden;
use sandbar_tests::http::{get, raw};
use sandbar_tests::process::{Folder, Host};

use super::host;

const TOKEN: &str = "t0ken-of-the-tests-0123456789";

#[test]
fn only_those_who_know_the_token_are_answered_where_others_can_reach_it() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    folder.write(
        "sandbar.toml",
        "[admin]\nlisten = \"0.0.0.0:0\"\ntoken = \"env:ADMIN_TOKEN\"\nhosts = [\"sandbar.internal\"]\n",
    );
    let mut command = folder.command(["run"]);
    command.env("ADMIN_TOKEN", TOKEN);
    let host = Host::start(command);
    let address = host.admin();
    for path in ["/livez", "/readyz", "/metrics", "/nothing"] {
        let asked = get(address, path, &[]);
        assert_eq!(asked.status, 401, "{asked:?}");
        assert_eq!(asked.headers["www-authenticate"], "Bearer");
        assert!(
            asked.json()["remedy"]
                .as_str()
                .unwrap()
                .contains("Authorization: Bearer")
        );
        let wrong = format!("Bearer {TOKEN}x");
        assert_eq!(get(address, path, &[("authorization", &wrong)]).status, 401);
    }
    let right = format!("Bearer {TOKEN}");
    for path in ["/livez", "/readyz", "/metrics"] {
        let asked = get(address, path, &[("authorization", &right)]);
        assert_eq!(asked.status, 200, "{asked:?}");
        assert!(!asked.body.contains(TOKEN));
    }
    let named = |name: &str| {
        let request = format!(
            "GET /livez HTTP/1.1\r\nhost: {name}\r\nauthorization: {right}\r\nconnection: close\r\n\r\n"
        );
        raw(address, &request).status
    };
    assert_eq!(named("sandbar.internal:9464"), 200);
    assert_eq!(
        named("evil.example"),
        421,
        "the token does not help a page that was led here"
    );
    let shown = folder.run(["config", "show"]).stdout;
    assert!(shown.contains("env:ADMIN_TOKEN"), "{shown}");
    assert!(!host.log().contains(TOKEN), "{}", host.log());
}

#[test]
fn a_page_in_a_browser_is_told_nothing() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    let (_host, address) = host(&folder, &[]);
    for path in ["/livez", "/readyz", "/metrics"] {
        // A name of theirs that leads here.
        let led = raw(
            address,
            &format!(
                "GET {path} HTTP/1.1\r\nhost: evil.example:{}\r\n\r\n",
                address.port()
            ),
        );
        assert_eq!(led.status, 421);
        assert!(!led.body.contains("evil"), "{led:?}");
        let absolute = format!("GET http://evil.example{path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert_eq!(raw(address, &absolute).status, 421);
        let nobody = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n\r\n");
        assert_eq!(raw(address, &nobody).status, 400);
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("sec-fetch-site", "cross-site"),
        ] {
            let asked = get(address, path, &[(name, value)]);
            assert_eq!(asked.status, 403, "{asked:?}");
            assert!(!asked.headers.contains_key("access-control-allow-origin"));
        }
    }
}

#[test]
fn an_address_that_others_reach_needs_a_token() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    folder.write("sandbar.toml", "[admin]\nlisten = \"0.0.0.0:9464\"\n");
    let refused = folder.run(["run"]);
    assert_eq!(refused.code, Some(64));
    golden::check("admin_without_token", folder.path(), &refused);
    folder.write("sandbar.toml", "");
    let refused = folder.run(["run", "--admin", "192.0.2.1:9464"]);
    assert_eq!(refused.code, Some(64));
    golden::check("admin_without_token_flag", folder.path(), &refused);
    folder.write(
        "sandbar.toml",
        "[admin]\nlisten = \"here\"\ntoken = \"in-the-open\"\nhosts = [\"http://x\"]\n",
    );
    let refused = folder.run(["config", "check"]);
    assert_eq!(refused.code, Some(64));
    golden::check("admin_wrong_values", folder.path(), &refused);
}

#[test]
fn a_token_that_is_none_is_refused_without_showing_it() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    let written = "[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"env:ADMIN_TOKEN\"\n";
    folder.write("sandbar.toml", written);
    let unset = folder.run(["run"]);
    assert_eq!(unset.code, Some(64), "{}", unset.stderr);
    assert!(
        unset.stderr.contains("`ADMIN_TOKEN` is not set"),
        "{}",
        unset.stderr
    );
    let mut command = folder.command(["run"]);
    command.env("ADMIN_TOKEN", "shorttoken");
    let short = sandbar_tests::process::finish(command, b"");
    assert_eq!(short.code, Some(64), "{}", short.stderr);
    assert!(
        short.stderr.contains("at least 16 characters"),
        "{}",
        short.stderr
    );
    assert!(!short.stderr.contains("shorttoken"), "{}", short.stderr);
}

#[test]
fn an_address_that_is_taken_is_an_error_that_says_so() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = taken.local_addr().unwrap().to_string();
    let refused = folder.run(["run", "--admin", &place]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    for said in [
        format!("nothing can listen at {place}: Address already in use"),
        "name another address with --admin".to_owned(),
    ] {
        assert!(refused.stderr.contains(&said), "{}", refused.stderr);
    }
    // Nothing is served that cannot be watched as it was told to be.
    assert!(
        !refused.stderr.contains("Ctrl-C stops"),
        "{}",
        refused.stderr
    );
}

/// Nobody listens who was not told to.
#[test]
fn it_is_off_unless_an_address_is_named() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    let host = folder.host::<&str>([]);
    assert!(!host.log().contains("/livez"), "{}", host.log());
    let mut command = folder.command(["run", "--data", "other"]);
    command.env("SANDBAR_ADMIN__LISTEN", "localhost:0");
    let host = Host::start(command);
    assert_eq!(get(host.admin(), "/livez", &[]).status, 200);
}
