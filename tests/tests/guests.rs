//! What the example plugins are as files: components of our world that import no more than they use.
//!
//! What they do is in the other tests; these read them, and one weighs a call.

use std::sync::Arc;

use sandbar::backend::MemoryBackend;
use sandbar::call::{Access, Call};
use sandbar::dispatch::Outcome;
use sandbar::guest::{Engine, Inspection, inspect};
use sandbar::plugin::{Grants, Limits};
use sandbar_tests::guests::{PLUGINS, guest};
use sandbar_tests::traffic::message;

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

/// A call goes through several hands for each message, by value. What only some calls need lies elsewhere.
#[tokio::test]
async fn a_call_is_small_where_it_is_handed_on() {
    let plugin: Arc<str> = "echo".into();
    let access = Arc::new(Access {
        plugin: plugin.clone(),
        grants: Grants::default(),
        limits: Limits::default(),
        hits: Arc::default(),
        store: Arc::new(MemoryBackend::new()),
        client: None,
        http: None,
    });
    let bytes = std::fs::read(guest("echo")).unwrap();
    let component = Engine::new().unwrap().load(&bytes).unwrap();
    let instance = component
        .instantiate(&plugin, &Arc::default(), &access.limits)
        .await
        .unwrap();
    let message = Arc::new(message("echo", "1"));
    let call = Call::new(access, message, 1, 0, 0);
    assert!(size_of_val(&call) <= 96, "{} bytes", size_of_val(&call));
    let handling = instance.handle(call);
    let size = size_of_val(&handling);
    assert!(size <= 768, "{size} bytes");
    assert!(matches!(handling.await.1, Outcome::Done(Some(_))));
}
