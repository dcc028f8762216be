//! Where plugins may send over HTTP: what operators write, and what guests ask for.

use super::*;

use sandbar::http::{HttpPattern, Target};

/// What addresses are made of, and what passes for it.
const PIECES: [&str; 28] = [
    "a.example",
    "A.Example",
    "b",
    ".",
    "..",
    "/",
    "//",
    "%2e",
    "%2F",
    "%5c",
    "%25",
    "%0d%0a",
    "@",
    ":",
    ":443",
    "80",
    "?",
    "#",
    ";",
    "\\",
    "*",
    "127.0.0.1",
    "[::1]",
    "ü",
    "v1",
    "%76",
    " ",
    "\n",
];

fn pieces() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(&PIECES[..]);
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn wrong(error: impl std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

fn pattern(text: &str) -> HttpPattern {
    text.parse().expect("a pattern")
}

/// Whatever a guest says: what matches goes to the host, the port and below the path of the pattern, and what is sent is what
/// was said.
#[test]
fn nothing_but_what_is_granted_matches() {
    let granted = pattern("https://a.example/v1/*");
    let scheme = proptest::sample::select(&["http", "https", "HTTPS", "ftp"][..]);
    let authority = prop_oneof![Just("a.example".to_owned()), pieces()];
    let path = prop_oneof![pieces(), pieces().prop_map(|path| format!("/v1/{path}"))];
    check(
        "addresses",
        5000,
        &(scheme, authority, path),
        |(scheme, authority, path)| {
            let Ok(target) = Target::parse(scheme, &authority, &path) else {
                return Ok(());
            };
            let slash = if path.starts_with('/') { "" } else { "/" };
            prop_assert_eq!(target.path_and_query(), format!("{slash}{path}"));
            if granted.matches(&target) {
                prop_assert!(scheme.eq_ignore_ascii_case("https"));
                let authority = authority.to_ascii_lowercase();
                prop_assert!(
                    authority == "a.example" || authority == "a.example:443",
                    "{authority}"
                );
                prop_assert!(target.path.starts_with("/v1/"), "{target}");
                prop_assert!(
                    !target.path.split(['/', '\\']).any(|part| part == ".."),
                    "{target}"
                );
            }
            Ok(())
        },
    );
}

/// The line that is offered grants what was refused, and can be written.
#[test]
fn what_is_offered_grants_what_was_refused() {
    let scheme = proptest::sample::select(&["http", "https"][..]);
    let authority = prop_oneof![Just("a.example:8080".to_owned()), pieces()];
    check(
        "offers",
        5000,
        &(scheme, authority, pieces()),
        |(scheme, authority, path)| {
            if let Ok(target) = Target::parse(scheme, &authority, &path) {
                let offered = target.suggestion();
                let parsed: HttpPattern = offered.parse().map_err(wrong)?;
                prop_assert!(parsed.matches(&target), "{offered} and {target}");
            }
            Ok(())
        },
    );
}

#[test]
fn patterns_of_addresses_are_refused_or_mean_something() {
    let usual = [
        "https://api.example.com/v1/*",
        "private+http://*.a.example:8080/x",
        "http://[::1]:80/*",
    ];
    let text = prop_oneof![
        changed_text(&usual),
        pieces().prop_map(|rest| format!("https://{rest}")),
        pieces().prop_map(|rest| format!("https://a.example/{rest}")),
    ];
    check("patterns of addresses", 5000, &text, |text| {
        if let Ok(pattern) = text.parse::<HttpPattern>() {
            let again = pattern.to_string().parse::<HttpPattern>().map_err(wrong)?;
            prop_assert_eq!(again, pattern);
        }
        Ok(())
    });
}
