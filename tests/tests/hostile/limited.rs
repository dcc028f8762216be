//! Limits that keep messages waiting, those of the whole host, and the list of all in the manual.

use std::sync::Arc;
use std::time::Duration;

use sandbar::config;
use sandbar::guest::{Engine, EngineOptions};
use sandbar::plugin::{Limit, Loader, PluginSpec};
use sandbar_tests::contract::Outcome;
use sandbar_tests::guests::guest;
use sandbar_tests::raw::Raw;

use super::limits::counted;
use super::neighbourhood::{Neighbourhood, spec};

const MANUAL: &str = include_str!("../../../docs/sandbox.md");

/// Of two messages at once the second waits for its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_its_turn_is_counted() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut spec = spec(&guest("misbehave"));
    spec.limits.concurrency = 1;
    spec.limits.time = Duration::from_millis(200);
    let there = Neighbourhood::once(spec, folder).await?;
    let (first, second) = tokio::join!(there.ask("bad.loop", ""), there.ask("bad.loop", ""));
    assert!(!first?.ok() && !second?.ok());
    let hits = counted(there.host.limits_hit("misbehave"));
    assert_eq!(hits, [("time", 2), ("concurrency", 1)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_faster_than_its_rate_is_counted() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut spec = spec(&guest("misbehave"));
    spec.limits.rate = Some(1);
    let there = Neighbourhood::once(spec, folder).await?;
    for _ in 0..2 {
        assert!(there.ask("bad.wasi", "").await?.ok());
    }
    let hits = there.host.limits_hit("misbehave");
    let rate = hits.iter().find(|(name, _)| *name == "rate");
    assert!(rate.is_some_and(|(_, count)| *count > 0), "{hits:?}");
    Ok(())
}

/// The stack is the host's to say, one for all plugins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_stack_of_the_host_has_no_room_for_is_refused() -> Outcome {
    let deep = Raw {
        more: "(func $down (param i32) (result i32)
            (if (result i32) (i32.eqz (local.get 0))
                (then (i32.const 0))
                (else (i32.add (i32.const 1)
                    (call $down (i32.sub (local.get 0) (i32.const 1)))))))"
            .to_owned(),
        routes: "(drop (call $down (i32.const 5000))) (i32.const 64)".to_owned(),
        ..Raw::default()
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("raw.wasm");
    std::fs::write(&file, deep.component())?;
    Loader::new(Engine::new()?).load(spec(&file)).await?;
    let narrow = Engine::with(EngineOptions {
        stack: Some(64 << 10),
        ..EngineOptions::default()
    })?;
    let refused = Loader::new(narrow).load(spec(&file)).await;
    let refused = refused.err().ok_or("it was loaded")?;
    assert_eq!(refused.limit(), Some(Limit::Stack));
    assert!(
        refused.to_string().contains("`engine.stack` is 65536"),
        "{refused}"
    );
    Ok(())
}

/// The total is of what is kept, not of what was ever written, and less may always be kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replaced_makes_no_more_of_the_state() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut spec = spec(&guest("misbehave"));
    spec.limits.state_value = 2000;
    spec.limits.state_total = 5000;
    let there = Neighbourhood::once(spec, folder).await?;
    let store = there.opened.store.clone();
    for _ in 0..20 {
        let reply = there.ask("bad.state-flood", "4 1000").await?;
        assert!(reply.ok(), "{reply:?}");
    }
    assert_eq!(store.state_size("misbehave").await?, Some(4 * 1007));
    there.spoils("bad.state-flood", "5 1000").await?;
    assert_eq!(store.state_size("misbehave").await?, Some(4 * 1007));
    let (_, mut served) = there.host.plugin("misbehave").ok_or("it is served")?;
    served.spec.limits.state_total = 3000;
    there.host.reload(served).await;
    there.spoils("bad.state-flood", "1 1001").await?;
    let reply = there.ask("bad.state-flood", "4 500").await?;
    assert!(reply.ok(), "{reply:?}");
    assert_eq!(store.state_size("misbehave").await?, Some(4 * 507));
    Ok(())
}

/// Counts belong to the plugin, not to its version, and a version that is refused counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_counted_survives_a_reload() -> Outcome {
    let folder = tempfile::tempdir()?;
    let there = Neighbourhood::once(spec(&guest("misbehave")), folder).await?;
    there.spoils("bad.loop", "").await?;
    let (plugin, mut served) = there.host.plugin("misbehave").ok_or("it is served")?;
    served.spec.limits.time = Duration::from_millis(300);
    let outcome = there.host.reload(served.clone()).await;
    assert_eq!(outcome.to_string(), "swapped");
    there.spoils("bad.loop", "").await?;
    served.spec.limits.file = 10;
    let outcome = there.host.reload(served).await;
    assert!(
        outcome.to_string().contains("`limits.file` is 10"),
        "{outcome}"
    );
    let hits = counted(there.host.limits_hit("misbehave"));
    assert_eq!(hits, [("time", 2), ("file", 1)]);
    let (live, _) = there.host.plugin("misbehave").ok_or("it is served")?;
    assert!(!Arc::ptr_eq(&plugin, &live));
    let of_live: Vec<_> = live.counts().all().collect();
    assert_eq!(of_live, there.host.limits_hit("misbehave"));
    Ok(())
}

/// The table of the manual has every limit with its key and its default, in order.
#[test]
fn the_manual_lists_every_limit() {
    let (_, section) = MANUAL.split_once("## Every limit").expect("a section");
    let (section, _) = section.split_once("\n## ").expect("another section");
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            line.split('|')
                .map(|cell| cell.trim().trim_matches('`'))
                .collect()
        })
        .collect();
    let schema = config::schema();
    let mut listed = Vec::new();
    for row in &rows {
        let [_, name, key, default, what, _] = row[..] else {
            panic!("{row:?} has not four cells");
        };
        assert!(!what.is_empty(), "{name}");
        listed.push(name);
        let limit = Limit::ALL.into_iter().find(|limit| limit.name() == name);
        let limit = limit.unwrap_or_else(|| panic!("there is no limit {name}"));
        let Some(found) = limit.key() else {
            assert_eq!(key, "–", "{name} is fixed");
            continue;
        };
        assert_eq!(key, found, "{name}");
        let table = match key.split_once('.') {
            Some(("limits", key)) => {
                &schema["properties"]["defaults"]["properties"]["limits"]["properties"][key]
            }
            Some((table, key)) => &schema["properties"][table]["properties"][key],
            None => panic!("{key} is in no table"),
        };
        assert!(table.is_object(), "{key} is no key");
        let found = match &table["default"] {
            serde_json::Value::Null => "none".to_owned(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert_eq!(default, found, "{key}");
    }
    assert_eq!(listed, Limit::ALL.map(Limit::name));
}

/// What a spec is made of that nobody limits.
#[test]
fn the_defaults_are_within_what_the_engine_has_room_for() {
    let limits = PluginSpec::from_file(std::path::Path::new("x.wasm")).limits;
    assert!(limits.table_elements <= sandbar::plugin::MOST_TABLE_ELEMENTS);
    assert!(limits.hostcall_fuel >= limits.content + limits.header_bytes);
    assert!(limits.hostcall_fuel >= limits.state_value);
    assert!(sandbar::guest::STACKS.contains(&sandbar::guest::DEFAULT_STACK));
}
