//! Every limit, hit once: what comes of it has the reason, the words and the count that belong to it.

use std::collections::BTreeSet;
use std::time::Duration;

use sandbar::guest::Engine;
use sandbar::plugin::{Limit, Limits, Loader};
use sandbar::store::Reason;
use sandbar_tests::contract::{Failure, Outcome};
use sandbar_tests::guests::guest;
use sandbar_tests::raw::{Raw, TOPIC};

use super::neighbourhood::{Neighbourhood, spec};

/// Who hits it.
enum By {
    /// The plugin `misbehave`, with this topic and content.
    Topic(&'static str, &'static str),
    /// A component written by hand, with any message.
    Raw(Raw),
    /// A file, when it is loaded.
    File(Vec<u8>),
}

/// What comes of it.
enum Ends {
    /// The message is a dead letter.
    Dead(Reason, &'static str),
    /// It has its reply.
    Served,
    /// It is not loaded.
    Refused(&'static str),
}

struct Case {
    limit: Limit,
    by: By,
    change: fn(&mut Limits),
    ends: Ends,
}

fn case(limit: Limit, by: By, change: fn(&mut Limits), ends: Ends) -> Case {
    Case {
        limit,
        by,
        change,
        ends,
    }
}

fn handle(handle: &str) -> By {
    By::Raw(Raw {
        handle: handle.to_owned(),
        ..Raw::default()
    })
}

fn more(more: &str, handle: &str) -> By {
    By::Raw(Raw {
        more: more.to_owned(),
        handle: handle.to_owned(),
        ..Raw::default()
    })
}

fn imports(imports: &str, handle: &str) -> Raw {
    Raw {
        imports: imports.to_owned(),
        handle: handle.to_owned(),
        ..Raw::default()
    }
}

fn topic(topic: &'static str, content: &'static str) -> By {
    By::Topic(topic, content)
}

fn dead(error: &'static str) -> Ends {
    Ends::Dead(Reason::Limit, error)
}

fn many_instances() -> Result<Vec<u8>, Failure> {
    let instances = "(core instance (instantiate $m))".repeat(100);
    Ok(wat::parse_str(format!(
        r#"(component (core module $m) {instances}
            (instance $handler)
            (export "sandbar:messaging/handler@0.1.0" (instance $handler)))"#
    ))?)
}

/// A component that takes a moment to compile.
fn large() -> Vec<u8> {
    let functions: String = (0..10_000)
        .map(|number| format!("(func (result i32) (i32.const {number}))"))
        .collect();
    let raw = Raw {
        more: functions,
        ..Raw::default()
    };
    raw.component()
}

fn cases() -> Result<Vec<Case>, Failure> {
    use Ends::{Dead, Refused, Served};
    use Limit as L;
    let nothing: fn(&mut Limits) = |_| {};
    let spin = "(loop $for_ever (br $for_ever)) (unreachable)";
    Ok(vec![
        case(
            L::Time,
            handle(spin),
            nothing,
            Dead(Reason::Timeout, "longer than 500ms (`limits.time`)"),
        ),
        case(
            L::LoadTime,
            By::File(
                Raw {
                    routes: spin.to_owned(),
                    ..Raw::default()
                }
                .component(),
            ),
            nothing,
            Refused("longer than 1.5s (`limits.load_time`)"),
        ),
        case(
            L::Memory,
            handle("(drop (memory.grow (i32.const 65000))) (unreachable)"),
            nothing,
            Dead(Reason::Memory, "`limits.memory` is 8388608"),
        ),
        case(
            L::Stack,
            more(
                "(func $down (param i32) (result i32)
                    (i32.add (i32.const 1) (call $down (local.get 0))))",
                "(call $down (i32.const 0))",
            ),
            nothing,
            dead("call stack exhausted, `engine.stack` is 524288"),
        ),
        case(
            L::TableElements,
            more(
                "(table $t 1 funcref)",
                "(drop (table.grow $t (ref.null func) (i32.const 1000))) (unreachable)",
            ),
            |limits| limits.table_elements = 1000,
            dead("it wanted 1001 elements of tables and `limits.table_elements` is 1000"),
        ),
        case(
            L::Instances,
            By::File(many_instances()?),
            nothing,
            Refused("it cannot be compiled"),
        ),
        case(
            L::Resources,
            By::Raw(Raw {
                // A clock that can be waited for takes a handle.
                handle: "(loop $more (drop (call $wait (i64.const 1))) (br $more)) (unreachable)".to_owned(),
                ..Raw::sleeper()
            }),
            |limits| limits.resources = 7,
            dead("it wanted more handles and `limits.resources` is 7"),
        ),
        case(
            L::HostcallFuel,
            By::Raw(imports(
                r#"(import "sandbar:messaging/log@0.1.0" "log"
                    (func $log (param i32 i32 i32 i32 i32)))"#,
                "(call $log (i32.const 0) (i32.const 0) (i32.const 200000) (i32.const 0) (i32.const 0))
                (i32.const 1024)",
            )),
            |limits| limits.hostcall_fuel = 100_000,
            dead("more than 100000 bytes at once, which is its `limits.hostcall_fuel`"),
        ),
        case(
            L::Random,
            By::Raw(imports(
                r#"(import "sandbar:messaging/system@0.1.0" "random"
                    (func $random (param i32 i32)))"#,
                "(call $random (i32.const 65537) (i32.const 512)) (i32.const 1024)",
            )),
            nothing,
            dead("at most 65536 come at once"),
        ),
        case(
            L::Content,
            topic("bad.huge-reply", "1000000"),
            nothing,
            dead("`limits.content` is 65536"),
        ),
        case(
            L::Content,
            topic("bad.wasi", "more than it takes"),
            |limits| limits.content = 8,
            Dead(Reason::TooLarge, "`limits.content` is 8"),
        ),
        case(
            L::Headers,
            topic("bad.wasi", ""),
            |limits| limits.headers = 0,
            Dead(Reason::TooLarge, "`limits.headers` is 0"),
        ),
        case(
            L::HeaderBytes,
            topic("bad.wasi", ""),
            |limits| limits.header_bytes = 3,
            Dead(Reason::TooLarge, "`limits.header_bytes` is 3"),
        ),
        case(
            L::Publishes,
            topic("bad.publish-many", "10000"),
            nothing,
            dead("raise `limits.publishes`"),
        ),
        case(
            L::PublishBytes,
            topic("bad.publish-huge", "2000"),
            |limits| limits.publish_bytes = 1000,
            dead("raise `limits.publish_bytes`"),
        ),
        case(
            L::LogLines,
            topic("bad.log-flood", "1000"),
            nothing,
            Served,
        ),
        case(
            L::LogBytes,
            topic("bad.log-flood", "90"),
            |limits| limits.log_bytes = 1000,
            Served,
        ),
        // What is printed counts as well.
        case(
            L::LogBytes,
            topic("bad.wasi", ""),
            |limits| limits.log_bytes = 20,
            Served,
        ),
        case(
            L::StateValue,
            topic("bad.state-flood", "1 1000000"),
            nothing,
            dead("raise `limits.state_value`"),
        ),
        case(
            L::StateWrites,
            topic("bad.state-flood", "100000 1"),
            nothing,
            dead("raise `limits.state_writes`"),
        ),
        case(
            L::StateTotal,
            topic("bad.state-flood", "10 1000"),
            |limits| {
                limits.state_value = 2000;
                limits.state_total = 5000;
            },
            dead("raise `limits.state_total` of plugin `misbehave`"),
        ),
        case(
            L::Routes,
            By::File(
                Raw {
                    more: r#"(data (i32.const 64) "\00\10\00\00\00\00\01\00")"#.to_owned(),
                    pages: 40,
                    ..Raw::default()
                }
                .component(),
            ),
            nothing,
            Refused("at most 1000 are allowed"),
        ),
        case(
            L::File,
            By::File(Raw::default().component()),
            |limits| limits.file = 100,
            Refused("`limits.file` is 100"),
        ),
        case(
            L::CompileTime,
            By::File(large()),
            |limits| limits.compile_time = Duration::from_millis(1),
            Refused("longer than 1ms (`limits.compile_time`)"),
        ),
        case(
            L::CompileMemory,
            By::File(large()),
            |limits| limits.compile_memory = 20 << 20,
            Refused("`limits.compile_memory` is 20 MiB"),
        ),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hits_a_limit_is_told_and_counted() -> Outcome {
    let mut hit = BTreeSet::new();
    for case in cases()? {
        let name = case.limit.name();
        let check = hits(&case);
        let counted = check.await.map_err(|error| format!("{name}: {error}"))?;
        assert_eq!(counted, [(name, 1)], "{name}");
        hit.insert(name);
    }
    // These keep messages waiting, which is no end of any.
    hit.extend([Limit::Concurrency, Limit::Rate].map(Limit::name));
    // Those of requests are in `http.rs`, for they take a server.
    let requests = [
        Limit::HttpRequests,
        Limit::HttpBytes,
        Limit::HttpConnectTime,
    ];
    hit.extend(requests.map(Limit::name));
    let all: BTreeSet<&str> = Limit::ALL.into_iter().map(Limit::name).collect();
    assert_eq!(hit, all, "every limit is hit");
    Ok(())
}

/// Has a limit hit by one attempt; returns what was counted.
async fn hits(case: &Case) -> Result<Vec<(&'static str, u64)>, Failure> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("raw.wasm");
    let mut hostile = match &case.by {
        By::Topic(..) => spec(&guest("misbehave")),
        By::Raw(raw) => {
            std::fs::write(&file, raw.component())?;
            spec(&file)
        }
        By::File(bytes) => {
            std::fs::write(&file, bytes)?;
            spec(&file)
        }
    };
    (case.change)(&mut hostile.limits);
    let name = hostile.name.clone();
    if let Ends::Refused(error) = case.ends {
        let loader = Loader::new(Engine::new()?);
        let refused = loader.load(hostile).await.err().ok_or("it was loaded")?;
        assert_eq!(refused.limit(), Some(case.limit), "{refused}");
        assert!(refused.to_string().contains(error), "{refused}");
        return Ok(counted(loader.limits_hit(&name)));
    }
    let there = Neighbourhood::once(hostile, folder).await?;
    let (topic, content) = match case.by {
        By::Topic(topic, content) => (topic, content),
        By::Raw(_) | By::File(_) => (TOPIC, "x"),
    };
    match case.ends {
        Ends::Dead(reason, error) => {
            let kept = there.spoils(topic, content).await?;
            assert_eq!(kept.letter.reason, reason, "{}", kept.letter.error);
            assert!(kept.letter.error.contains(error), "{}", kept.letter.error);
        }
        Ends::Served | Ends::Refused(_) => {
            let reply = there.ask(topic, content).await?;
            assert!(reply.ok(), "{reply:?}");
        }
    }
    there.is_served().await?;
    assert!(counted(there.host.limits_hit("echo")).is_empty());
    Ok(counted(there.host.limits_hit(&name)))
}

pub(super) fn counted(all: Vec<(&'static str, u64)>) -> Vec<(&'static str, u64)> {
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}
