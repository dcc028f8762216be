//! What the example plugins are as files: components of our world that import no more than they use.
//!
//! What they do is in the other tests; these only read.

use sandbar::guest::{Inspection, inspect};
use sandbar_tests::guests::{PLUGINS, guest};

fn inspected(name: &str) -> Inspection {
    inspect(&std::fs::read(guest(name)).unwrap()).unwrap()
}

#[test]
fn all_are_components_of_our_world_made_by_our_sdk() {
    for name in PLUGINS {
        let found = inspected(name);
        assert_eq!(
            found.world.as_deref(),
            Some("sandbar:messaging/plugin@0.1.0"),
            "{name}"
        );
        assert_eq!(
            found.sdk.get("sdk").map(String::as_str),
            Some("sandbar-guest"),
            "{name}"
        );
        assert_eq!(
            found.sdk.get("language").map(String::as_str),
            Some("rust"),
            "{name}"
        );
    }
}

#[test]
fn a_plugin_imports_wasi_only_if_it_says_so() {
    for name in PLUGINS {
        let imports = inspected(name).imports;
        let wasi: Vec<&String> = imports
            .iter()
            .filter(|name| name.starts_with("wasi:"))
            .collect();
        assert_eq!(
            !wasi.is_empty(),
            ["misbehave", "fetch"].contains(&name),
            "{name} imports {wasi:?}"
        );
    }
}

#[test]
fn a_plugin_imports_only_what_it_uses() {
    let uses = |name: &str| -> Vec<String> {
        let imports = inspected(name).imports.into_iter();
        let short = imports.filter_map(|import| {
            let import = import.strip_prefix("sandbar:messaging/")?;
            Some(import.split('@').next()?.to_owned())
        });
        short.filter(|name| name != "types").collect()
    };
    // Every plugin reports its panics.
    assert_eq!(uses("echo"), ["log"]);
    assert!(uses("quakes").iter().any(|name| name == "publisher"));
    assert!(!uses("quakes").iter().any(|name| name == "client"));
    assert!(uses("orders").iter().any(|name| name == "client"));
    assert!(!uses("stock").iter().any(|name| name == "publisher"));
}
