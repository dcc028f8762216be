//! A pattern matches what it says and nothing else.

use super::*;

fn pattern(text: &str) -> HttpPattern {
    text.parse().unwrap()
}

/// As a guest gives it.
fn target(url: &str) -> Result<Target, String> {
    let (scheme, rest) = url.split_once("://").unwrap();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    Target::parse(scheme, authority, path)
}

fn matches(of: &str, url: &str) -> bool {
    target(url).is_ok_and(|target| pattern(of).matches(&target))
}

#[test]
fn what_a_pattern_matches() {
    for (of, url, expected) in [
        ("https://a.example/*", "https://a.example", true),
        ("https://a.example/*", "https://a.example/", true),
        ("https://a.example/*", "https://a.example?q=1", true),
        ("https://a.example/*", "https://a.example/b/c?d=e", true),
        ("https://a.example/*", "HTTPS://A.Example/b", true),
        ("https://A.EXAMPLE/*", "https://a.example/b", true),
        ("https://a.example/*", "http://a.example/b", false),
        ("https://a.example/*", "https://b.example/", false),
        (
            "https://a.example/*",
            "https://a.example.evil.example/",
            false,
        ),
        ("https://a.example/*", "https://evil-a.example/", false),
        ("https://a.example/*", "https://sub.a.example/", false),
        // Ports.
        ("https://a.example/*", "https://a.example:443/", true),
        ("https://a.example:443/*", "https://a.example/", true),
        ("https://a.example/*", "https://a.example:80/", false),
        ("https://a.example/*", "https://a.example:8443/", false),
        ("http://a.example:8080/*", "http://a.example:8080/x", true),
        ("http://a.example:8080/*", "http://a.example/x", false),
        ("http://a.example/*", "http://a.example:0080/", false),
        ("http://a.example/*", "http://a.example:+80/", false),
        ("http://a.example/*", "http://a.example:/", false),
        // Users before the host.
        ("https://a.example/*", "https://user@a.example/", false),
        (
            "https://a.example/*",
            "https://a.example@evil.example/",
            false,
        ),
        (
            "https://a.example/*",
            "https://a.example:443@evil.example/",
            false,
        ),
        // Names.
        ("https://a.example/*", "https://a.example./", false),
        ("https://a.example/*", "https://a%2eexample/", false),
        (
            "https://a.example/*",
            "https://a.example%00.evil.example/",
            false,
        ),
        ("https://a.example/*", "https://а.example/", false),
        (
            "https://xn--bcher-kva.example/*",
            "https://xn--BCHER-kva.example/",
            true,
        ),
        (
            "https://xn--bcher-kva.example/*",
            "https://bücher.example/",
            false,
        ),
        ("https://*.a.example/*", "https://b.a.example/", true),
        ("https://*.a.example/*", "https://a.example/", false),
        ("https://*.a.example/*", "https://c.b.a.example/", false),
        ("https://*.a.example/*", "https://ba.example/", false),
        ("https://*.a.example/*", "https://.a.example/", false),
        // Addresses.
        ("http://127.0.0.1/*", "http://127.0.0.1/", true),
        ("http://127.0.0.1/*", "http://127.1/", false),
        ("http://127.0.0.1/*", "http://0x7f000001/", false),
        ("http://127.0.0.1/*", "http://2130706433/", false),
        ("http://127.0.0.1/*", "http://0177.0.0.1/", false),
        ("http://127.0.0.1/*", "http://localhost/", false),
        ("http://[::1]/*", "http://[::1]/", true),
        ("http://[::1]/*", "http://[0:0:0:0:0:0:0:1]/", true),
        ("http://[::1]:8080/*", "http://[::1]:8080/", true),
        ("http://[::1]/*", "http://[::ffff:127.0.0.1]/", false),
        ("http://[fe80::1]/*", "http://[fe80::1%25eth0]/", false),
        ("http://[::1]/*", "http://[::1]x/", false),
        // Paths.
        ("https://a.example/v1/*", "https://a.example/v1/users", true),
        ("https://a.example/v1/*", "https://a.example/v1/", true),
        ("https://a.example/v1/*", "https://a.example/v1", false),
        (
            "https://a.example/v1/*",
            "https://a.example/v10/users",
            false,
        ),
        (
            "https://a.example/v1/*",
            "https://a.example/V1/users",
            false,
        ),
        (
            "https://a.example/v1/*",
            "https://a.example//v1/users",
            false,
        ),
        (
            "https://a.example/v1/*",
            "https://a.example/v1//users",
            true,
        ),
        ("https://a.example/v1/*", "https://a.example/v1/a%2Fb", true),
        (
            "https://a.example/v1/*",
            "https://a.example/%76%31/users",
            false,
        ),
        (
            "https://a.example/v1/*",
            "https://a.example/v1/../admin",
            false,
        ),
        ("https://a.example/v1/*", "https://a.example/v1/./a", false),
        (
            "https://a.example/v1/*",
            "https://a.example/v1/%2e%2e/admin",
            false,
        ),
        (
            "https://a.example/v1/*",
            "https://a.example/v1/.%2E/admin",
            false,
        ),
        (
            "https://a.example/v1/*",
            "https://a.example/v1/%252e%252e/admin",
            false,
        ),
        (
            "https://a.example/v1/*",
            "https://a.example/v1/x%2f..%2f..%2fadmin",
            false,
        ),
        (
            "https://a.example/v1/*",
            "https://a.example/v1/..;a=b/admin",
            false,
        ),
        (
            "https://a.example/v1/*",
            "https://a.example/v1/..\\admin",
            false,
        ),
        (
            "https://a.example/v1/*",
            "https://a.example/v1/..%5cadmin",
            false,
        ),
        (
            "https://a.example/v1/*",
            "https://a.example/v1/%0d%0aX:y",
            false,
        ),
        ("https://a.example/v1/*", "https://a.example/v1/%00", false),
        ("https://a.example/v1/*", "https://a.example/v1/...", true),
        ("https://a.example/v1/*", "https://a.example/v1/a..b", true),
        ("https://a.example/*", "https://a.example/v1/../admin", true),
        ("https://a.example/v1/u", "https://a.example/v1/u", true),
        (
            "https://a.example/v1/u",
            "https://a.example/v1/u?id=1",
            true,
        ),
        ("https://a.example/v1/u", "https://a.example/v1/u/", false),
        ("https://a.example/v1/u", "https://a.example/v1/user", false),
        ("https://a.example/", "https://a.example/", true),
        ("https://a.example/", "https://a.example/b", false),
        // What is no request at all.
        ("https://a.example/*", "https://a.example/a b", false),
        (
            "https://a.example/*",
            "https://a.example/a\r\nHost: b",
            false,
        ),
        ("https://a.example/*", "https://a.example/ü", false),
        ("https://a.example/*", "https://a.example/a#b", false),
        ("https://a.example/*", "ftp://a.example/", false),
        ("https://a.example/*", "https:///", false),
    ] {
        assert_eq!(matches(of, url), expected, "{of} and {url}");
    }
}

#[test]
fn a_pattern_that_is_wrong_is_told_how_to_be_right() {
    for (text, why) in [
        (
            "api.example.com/*",
            "write it like \"https://api.example.com/*\"",
        ),
        ("ftp://a.example/*", "use `https` or `http`"),
        ("*://a.example/*", "use `https` or `http`"),
        ("https://a.example", "add `/*` for everything there"),
        ("https://", "it names no host"),
        ("https:///x", "it names no host"),
        ("https://*/*", "stands for the whole first part of a name"),
        (
            "https://a*.example/*",
            "stands for the whole first part of a name",
        ),
        (
            "https://a.*.example/*",
            "stands for the whole first part of a name",
        ),
        ("https://*.com/*", "name more of it, as in `*.example.com`"),
        ("https://*.127.0.0.1/*", "an address has no parts"),
        ("https://a.example:*/*", "its port is \"*\""),
        ("https://a.example:0/*", "its port is \"0\""),
        ("https://a.example:99999/*", "its port is \"99999\""),
        ("https://a.example:/*", "its port is \"\""),
        ("https://me:pw@a.example/*", "it names a user"),
        ("https://a.example./*", "ends with a dot"),
        ("https://bücher.example/*", "write `xn--bcher-kva.example`"),
        ("https://a..example/*", "is no name of DNS"),
        ("https://-a.example/*", "is no name of DNS"),
        ("https://127.1/*", "neither a name nor an address"),
        ("https://[::1/*", "is no address of IPv6"),
        ("https://[fe80::1%eth0]/*", "without a zone"),
        ("https://a.example/v1*", "`*` stands after a `/`"),
        ("https://a.example/*/b", "`*` stands only at the end"),
        ("https://a.example/*/*", "`*` stands only at the end"),
        ("https://a.example/a?b=*", "leave out what begins with `?`"),
        (
            "https://a.example/a#b",
            "leave out what begins with `?` or `#`",
        ),
        ("https://a.example/../*", "has no segments `.` and `..`"),
        ("https://a.example/%2e%2e/*", "has no segments `.` and `..`"),
        ("https://a.example/%zz/*", "is percent-encoded"),
        ("https://a.example/a\\b/*", "is no path"),
        ("https://a.example/a b/*", "it has ' ' in it"),
        ("https://a.example/\r\n*", "it has '\\r' in it"),
        (" https://a.example/*", "it has ' ' in it"),
        ("private+a.example/*", "it has no scheme"),
        ("PRIVATE+https://a.example/*", "use `https` or `http`"),
    ] {
        let error = text.parse::<HttpPattern>().unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn a_pattern_is_shown_as_it_counts() {
    for (text, shown) in [
        ("HTTPS://A.Example:443/V1/*", "https://a.example/V1/*"),
        ("http://a.example:8080/x", "http://a.example:8080/x"),
        (
            "private+http://*.a.example/*",
            "private+http://*.a.example/*",
        ),
        ("http://[0:0::1]:80/*", "http://[::1]/*"),
    ] {
        assert_eq!(pattern(text).to_string(), shown);
        assert_eq!(pattern(shown), pattern(text));
    }
}
