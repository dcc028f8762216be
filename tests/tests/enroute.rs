//! What runs around handlers and in which order, which of them run at all, and which cannot live together: each rule
//! through native actions and through the plugin `enroute`, which are declared alike.
//!
//! That handlers end as they say is in `path.rs`; what is periodic has more rules in `periodic.rs`.

use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Backend, open};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::dispatch::enroute::{self, Enroute, EnrouteError};
use sandbar::dispatch::{Dispatcher, Kind};
use sandbar::message::{Message, Status};
use sandbar::plugin::PluginSpec;
use sandbar::retry::RetryPolicy;
use sandbar::store::Store;
use sandbar_tests::guests::guest;
use sandbar_tests::traffic::{SOON, SetClock, message, publish, take, text, wait_for};

#[path = "enroute/native.rs"]
mod native;

/// New Year of these years, 0:00 UTC, in milliseconds.
const NEW_YEAR_2030: i64 = 1_893_456_000_000;
const NEW_YEAR_2031: i64 = 1_924_992_000_000;

/// Who handles the messages.
#[derive(Debug, Clone, Copy)]
enum Through {
    Native,
    Plugin,
}

struct Fixture {
    host: Host,
    clock: Arc<SetClock>,
    backend: Arc<dyn Backend>,
    store: Arc<dyn Store>,
    _folder: tempfile::TempDir,
}

fn plugin(name: &str) -> ServedPlugin {
    let mut plugin = ServedPlugin::new(PluginSpec::from_file(&guest(name)));
    plugin.spec.grants.state = true;
    plugin.spec.grants.publish = vec!["out.>".parse().unwrap()];
    plugin.retry = RetryPolicy {
        max_attempts: 1000,
        initial: Duration::from_millis(5),
        max: Duration::from_millis(20),
        ..RetryPolicy::default()
    };
    plugin
}

/// A host whose handlers run one at a time, shortly before New Year 2030.
async fn fixture(through: Through) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let opened = open("memory", folder.path()).await.unwrap();
    let mut options = HostOptions::default();
    match through {
        Through::Native => {
            options.native = Some(native::actions());
            options.native_limits.concurrency = 1;
            options.native_retry = plugin("enroute").retry;
        }
        Through::Plugin => {
            let mut plugin = plugin("enroute");
            plugin.spec.limits.concurrency = 1;
            options.plugins.push(plugin);
        }
    }
    let clock = SetClock::at(NEW_YEAR_2030 - 1000);
    let (backend, store) = (opened.backend, opened.store);
    let host = Host::start_with_clock(backend.clone(), store.clone(), options, clock.clone());
    Fixture {
        host: host.await.unwrap(),
        clock,
        backend,
        store,
        _folder: folder,
    }
}

impl Fixture {
    async fn ask(&self, message: Message) -> Arc<Message> {
        self.host.client().request(message, SOON).await.unwrap()
    }

    /// Stores `NAME=VALUE`, or removes `NAME`.
    async fn set(&self, content: &str) {
        assert!(self.ask(message("en.set", content)).await.ok());
    }
}

fn with(mut message: Message, headers: &[(&str, &str)]) -> Message {
    for (name, value) in headers {
        message.payload.headers.insert(name, value).unwrap();
    }
    message
}

/// A message, and what its reply must be: status, content and trace.
struct Case {
    topic: &'static str,
    headers: &'static [(&'static str, &'static str)],
    status: Status,
    content: &'static str,
    trace: &'static str,
}

const CASES: &[Case] = &[
    Case {
        topic: "en.do",
        headers: &[],
        status: Status::Success,
        content: "x",
        trace: "outer in, inner in, before all, before commands, act, after commands, inner out, outer out",
    },
    // Middleware that answers by itself keeps hooks and handler from running.
    Case {
        topic: "en.do",
        headers: &[("shortcut", "short")],
        status: Status::Success,
        content: "short",
        trace: "outer in, inner in, inner out, outer out",
    },
    // Hooks are for a kind.
    Case {
        topic: "en.ask",
        headers: &[],
        status: Status::Success,
        content: "1",
        trace: "outer in, before all, ask, after queries, outer out",
    },
    // An error of a hook ends the call; the middleware that let it pass sees it.
    Case {
        topic: "en.do",
        headers: &[("stop", "no")],
        status: Status::Error,
        content: "no [outer in, inner in, before all, before commands, outer out]",
        trace: "",
    },
    Case {
        topic: "en.do",
        headers: &[("late", "too late")],
        status: Status::SystemError,
        content: "too late [outer in, inner in, before all, before commands, act, after commands, outer out]",
        trace: "",
    },
    // Checks come after the hooks, in the order in which they are listed.
    Case {
        topic: "en.checked",
        headers: &[("rude", "never")],
        status: Status::Error,
        content: "never [outer in, before all, before commands, polite, outer out]",
        trace: "",
    },
    // One that isn't satisfied puts the message off, and rejects it at the last attempt.
    Case {
        topic: "en.checked",
        headers: &[],
        status: Status::Error,
        content: "check `ready` was not satisfied in 3 attempts [outer in, before all, before commands, polite, ready, outer out]",
        trace: "",
    },
];

async fn layers_run_from_the_outside_in_and_out_again(through: Through) {
    let fixture = fixture(through).await;
    for case in CASES {
        let what = format!("{through:?}: {} {:?}", case.topic, case.headers);
        let reply = fixture
            .ask(with(message(case.topic, "x"), case.headers))
            .await;
        assert_eq!(reply.payload.status, case.status, "{what}");
        assert_eq!(text(&reply), case.content, "{what}");
        let trace = reply.payload.headers.get("trace").unwrap_or_default();
        assert_eq!(trace, case.trace, "{what}");
        let after_commands = reply.ok() && trace.contains("after commands");
        let after = reply.payload.headers.get("after");
        assert_eq!(after, after_commands.then_some("commands"), "{what}");
    }
    // What a hook lets fail has stored nothing.
    let late = with(message("en.set", "late=1"), &[("late", "no")]);
    assert!(!fixture.ask(late).await.ok());
    let plugins = fixture.host.plugins();
    let name = plugins.first().map_or("native", |plugin| &plugin.name);
    let stored = fixture.store.state_get(name, "late").await.unwrap();
    assert_eq!(stored.value, None);
}

async fn a_check_blocks_nobody_else(through: Through) {
    let fixture = fixture(through).await;
    let waiting = {
        let client = fixture.host.client().clone();
        tokio::spawn(async move { client.request(message("en.patient", ""), SOON).await })
    };
    // One runs at a time: if the check waited in its place, nobody could ever make it true.
    for _ in 0..20 {
        assert_eq!(text(&*fixture.ask(message("en.ask", "")).await), "1");
    }
    assert!(!waiting.is_finished(), "nothing has made it true");
    fixture.set("ready=yes").await;
    let reply = waiting.await.unwrap().unwrap();
    assert!(reply.ok(), "{reply:?}");
    // It has been put off at least once, so each attempt was a message of its own.
    assert!(text(&reply).parse::<u32>().unwrap() > 1, "{reply:?}");
}

async fn every_event_handler_runs_with_attempts_of_its_own(through: Through) {
    let fixture = fixture(through).await;
    fixture.set("fail=yes").await;
    publish(&*fixture.backend, message("en.told", "1")).await;
    let first = wait_for(&*fixture.backend, "out.first", 1).await;
    assert_eq!(text(&first[0]), "1");
    fixture.set("fail").await;
    assert_eq!(wait_for(&*fixture.backend, "out.second", 1).await.len(), 1);
    let mut traces: Vec<String> = wait_for(&*fixture.backend, "out.trace", 2)
        .await
        .iter()
        .map(|trace| text(trace))
        .collect();
    traces.sort();
    assert_eq!(
        traces,
        [
            "outer in, before all, before events, first, outer out",
            "outer in, before all, before events, second, outer out",
        ]
    );
    // However often the second one was tried, the first one ran once.
    assert!(fixture.host.stop(SOON).await);
    assert_eq!(take(&*fixture.backend, "out.first").await.len(), 0);
}

async fn what_is_periodic_is_a_route_of_its_own_kind(through: Through) {
    let fixture = fixture(through).await;
    fixture.set("fail=yes").await;
    fixture.clock.awaits(NEW_YEAR_2030).await;
    fixture.clock.set(NEW_YEAR_2030);
    // The first attempt failed; its run came again, as any message does.
    let tick = wait_for(&*fixture.backend, "out.tick", 1).await;
    assert_eq!(text(&tick[0]), "2030-01-01T00:00:00Z");
    let trace = wait_for(&*fixture.backend, "out.trace", 1).await;
    assert_eq!(text(&trace[0]), "outer in, before all, tick, outer out");
    fixture.clock.awaits(NEW_YEAR_2031).await;
    fixture.clock.set(NEW_YEAR_2031);
    let tick = wait_for(&*fixture.backend, "out.tick", 1).await;
    assert_eq!(text(&tick[0]), "2031-01-01T00:00:00Z");
    // No topic leads to it.
    for topic in ["periodic.native", "periodic.enroute"] {
        let asked = fixture
            .host
            .client()
            .request(message(topic, ""), SOON)
            .await;
        assert!(asked.is_err(), "{asked:?}");
    }
}

async fn the_message_at_hand_is_known_everywhere(through: Through) {
    let fixture = fixture(through).await;
    let user = "b3057bc1-8723-4ec7-8b6f-b36efd0f7284";
    for (headers, expected) in [
        (
            [("note", "1"), ("user", user)].as_slice(),
            serde_json::json!({"note": "1", "user": user, "reply": true}),
        ),
        (
            &[],
            serde_json::json!({"note": null, "user": null, "reply": true}),
        ),
    ] {
        let reply = fixture.ask(with(message("en.context", ""), headers)).await;
        let said: serde_json::Value = reply.payload.parse_json().unwrap();
        assert_eq!(said, expected);
    }
}

macro_rules! through_each {
    ($($case:ident),* $(,)?) => {
        mod through_native_actions { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case(super::Through::Native).await; }
        )* }
        mod through_a_plugin { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case(super::Through::Plugin).await; }
        )* }
    };
}

through_each! {
    layers_run_from_the_outside_in_and_out_again,
    a_check_blocks_nobody_else,
    every_event_handler_runs_with_attempts_of_its_own,
    what_is_periodic_is_a_route_of_its_own_kind,
    the_message_at_hand_is_known_everywhere,
}

/// Starts a host that must not start, and returns why.
async fn refused(options: HostOptions) -> String {
    let folder = tempfile::tempdir().unwrap();
    let opened = open("memory", folder.path()).await.unwrap();
    let host = Host::start(opened.backend, opened.store, options).await;
    host.map(drop).unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handlers_for_one_topic_are_refused_with_both_places() {
    let nothing = |_| async { Ok(()) };
    let here = |line: u32| format!("{}:{line}:", file!());
    // Two native actions of one table.
    let first = line!() + 2;
    let declared = Enroute::new()
        .action(enroute::command("t", nothing))
        .action(enroute::query("t", nothing));
    let error = declared.dispatcher().unwrap_err().to_string();
    for part in [
        format!("command `t` of `native` ({}", here(first)),
        format!("and query `t` of `native` ({}", here(first + 1)),
    ] {
        assert!(error.contains(&part), "{part}\n{error}");
    }
    // A native action and a plugin of one host; patterns overlap as well.
    let mut table = Dispatcher::default();
    let line = line!() + 2;
    table
        .action(Kind::Query, "en.*".parse().unwrap(), nothing)
        .unwrap();
    let error = refused(HostOptions {
        plugins: vec![plugin("enroute")],
        native: Some(table),
        ..HostOptions::default()
    })
    .await;
    let file = guest("enroute").display().to_string();
    for part in [
        format!("command `en.do` of `enroute` ({file}, route 1)"),
        format!("query `en.*` of `native` ({}", here(line)),
    ] {
        assert!(error.contains(&part), "{part}\n{error}");
    }
    // Two plugins.
    let mut copy = plugin("enroute");
    copy.spec.name = "copy".to_owned();
    let error = refused(HostOptions {
        plugins: vec![plugin("enroute"), copy],
        ..HostOptions::default()
    })
    .await;
    assert_eq!(
        error.matches(&format!("({file}, route 1)")).count(),
        2,
        "{error}"
    );
    // Events may share a topic, with each other and with a command.
    Enroute::new()
        .action(enroute::event("t", nothing))
        .action(enroute::event("t", nothing))
        .action(enroute::command("t", nothing))
        .dispatcher()
        .unwrap();
}

#[test]
fn a_malformed_declaration_is_refused_with_its_place() {
    let nothing = |_| async { Ok(()) };
    let line = line!() + 1;
    let topic = Enroute::new().action(enroute::event("a..b", nothing));
    let schedule = Enroute::new().action(enroute::periodic("* * * *", nothing));
    for (declared, line, what) in [(topic, line, "a..b"), (schedule, line + 1, "* * * *")] {
        let error = declared.dispatcher().unwrap_err();
        assert!(!matches!(error, EnrouteError::Conflict(_)));
        let error = error.to_string();
        let place = format!("{}:{line}:", file!());
        assert!(error.starts_with(&place), "{error}");
        assert!(error.contains(what), "{error}");
    }
}
