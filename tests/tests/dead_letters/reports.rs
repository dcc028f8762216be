//! Why a handler failed can be read from its dead letter: where it was, what it logged, what it was refused, and what it had
//! used of its limits.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Opened, open};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::guest::Engine;
use sandbar::message::{Message, Payload};
use sandbar::plugin::{Grants, Loader, Plugin, PluginSpec};
use sandbar::retry::RetryPolicy;
use sandbar::store::{Journal, KeptLetter, Reason, Report, Step};
use sandbar::trial::{self, Ended, Run, Trial};
use sandbar::wire::Form;
use sandbar_tests::contract::{Failure, Outcome};
use sandbar_tests::guests::{guest, misbehave_with_lines, version_of};

use super::served::{letter_of, send};

/// Milliseconds of the time limit.
const TIME: u64 = 300;
/// Bytes of the memory limit.
const MEMORY: u64 = 8 << 20;

fn grants() -> Result<Grants, Failure> {
    Ok(Grants {
        publish: vec!["out.>".parse()?],
        request: vec!["bad.context".parse()?],
        state: true,
        ..Grants::default()
    })
}

async fn host(opened: &Opened, component: &Path) -> Result<Host, Failure> {
    let mut spec = PluginSpec::from_file(component);
    spec.limits.time = Duration::from_millis(TIME);
    spec.limits.memory = usize::try_from(MEMORY)?;
    spec.limits.log_lines = 50;
    spec.grants = grants()?;
    let mut plugin = ServedPlugin::new(spec);
    plugin.retry = RetryPolicy {
        max_attempts: 2,
        initial: Duration::from_millis(2),
        ..RetryPolicy::default()
    };
    let options = HostOptions {
        plugins: vec![plugin],
        ..HostOptions::default()
    };
    Ok(Host::start(opened.backend.clone(), opened.store.clone(), options).await?)
}

fn report(kept: &KeptLetter) -> Result<&Report, Failure> {
    let report = kept.history.report.as_deref();
    report.ok_or_else(|| "there is no report".into())
}

/// What was used of a limit, and the limit.
fn used(report: &Report, limit: &str) -> Result<(u64, u64), Failure> {
    let mut all = report.used.iter();
    let used = all.find(|used| used.limit == limit);
    let used = used.ok_or_else(|| format!("nothing about {limit}: {report:?}"))?;
    Ok((used.used, used.of))
}

fn functions(report: &Report) -> Vec<&str> {
    let functions = report.trace.iter();
    functions.map(|frame| frame.function.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_says_where_it_was_and_what_came_before() -> Outcome {
    let folder = tempfile::tempdir()?;
    let opened = open("embedded", folder.path()).await?;
    let host = host(&opened, &guest("misbehave")).await?;

    send(&opened, "bad.trap", "a\u{1b}[31mb").await?;
    let kept = letter_of(&opened, "bad.trap").await?;
    assert_eq!(kept.letter.reason, Reason::Trap);
    let trapped = report(&kept)?;
    let names = functions(trapped);
    let own = names.iter().position(|name| name.contains("misbehave::"));
    assert!(own.is_some_and(|own| own > 0), "{names:?}");
    // Neither a compiler's hash nor its mangling.
    assert!(names.iter().all(|name| !name.contains("17h")), "{names:?}");
    assert!(
        names.iter().all(|name| !name.starts_with("_ZN")),
        "{names:?}"
    );
    let [line] = trapped.log.as_slice() else {
        return Err(format!("one line: {trapped:?}").into());
    };
    assert!(
        line.starts_with("error: handler panicked: trapped: a"),
        "{line}"
    );
    assert!(line.contains("src/hog.rs:"), "{line}");
    assert!(!line.contains('\u{1b}'), "{line}");
    assert_eq!(used(trapped, "log_lines")?, (1, 50));
    assert_eq!(used(trapped, "publishes")?.0, 0);
    let (memory, of) = used(trapped, "memory")?;
    assert!((65_536..MEMORY).contains(&memory), "{memory}");
    assert_eq!(of, MEMORY);

    send(&opened, "bad.loop", "").await?;
    let kept = letter_of(&opened, "bad.loop").await?;
    let looped = report(&kept)?;
    let names = functions(looped);
    assert!(
        names.iter().any(|name| name.contains("misbehave::hog")),
        "{names:?}"
    );
    let (time, of) = used(looped, "time")?;
    assert!(time >= TIME && of == TIME, "{time} of {of}");

    send(&opened, "bad.memory", "").await?;
    let kept = letter_of(&opened, "bad.memory").await?;
    let (asked, of) = used(report(&kept)?, "memory")?;
    assert!(asked > MEMORY && of == MEMORY, "{asked} of {of}");

    // A flood leaves its last lines, of those that were logged.
    send(&opened, "bad.log-flood", "40").await?;
    send(&opened, "bad.fail", "after a flood").await?;
    let kept = letter_of(&opened, "bad.fail").await?;
    assert_eq!(kept.letter.reason, Reason::Failed);
    let failed = report(&kept)?;
    assert!(failed.trace.is_empty(), "it has not crashed: {failed:?}");
    assert!(failed.log.is_empty(), "of another message: {failed:?}");

    // What is on disk says the same.
    let before = report(&letter_of(&opened, "bad.trap").await?)?.clone();
    assert!(host.stop(Duration::from_secs(5)).await);
    opened.backend.close().await;
    drop(opened);
    let opened = open("embedded", folder.path()).await?;
    assert_eq!(*report(&letter_of(&opened, "bad.trap").await?)?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_granted_is_the_reason_with_the_line_to_add() -> Outcome {
    let folder = tempfile::tempdir()?;
    let opened = open("embedded", folder.path()).await?;
    let host = host(&opened, &guest("misbehave")).await?;
    for (topic, content, line) in [
        (
            "bad.publish-forbidden",
            "no.such",
            "add `publish = [\"no.such\"]` under [plugins.misbehave]",
        ),
        (
            "bad.request",
            "no.such x",
            "add `request = [\"no.such\"]` under [plugins.misbehave]",
        ),
    ] {
        send(&opened, topic, content).await?;
        let kept = letter_of(&opened, topic).await?;
        assert_eq!(kept.letter.reason, Reason::Forbidden, "{kept:?}");
        assert!(kept.letter.error.contains(line), "{}", kept.letter.error);
        let refused = &report(&kept)?.refused;
        assert!(
            refused.len() == 1 && refused[0].contains(line),
            "{refused:?}"
        );
    }
    assert!(host.stop(Duration::from_secs(5)).await);
    Ok(())
}

async fn load(bytes: &[u8]) -> Result<Arc<Plugin>, Failure> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("misbehave.wasm");
    std::fs::write(&file, bytes)?;
    let mut spec = PluginSpec::from_file(&file);
    spec.grants = grants()?;
    // An engine of its own, as in another process: nothing is the same that is not given again.
    Ok(Loader::new(Engine::new()?).load(spec).await?)
}

/// Time, randomness, state and the answers to requests are those of the attempt that failed, however much has changed; and
/// it is said where another version goes another way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_attempt_is_run_again_exactly() -> Outcome {
    let folder = tempfile::tempdir()?;
    let opened = open("embedded", folder.path()).await?;
    let host = host(&opened, &guest("misbehave")).await?;
    let set = async |value: &str| -> Outcome {
        let message = Message::new("bad.event-fails".parse()?, Payload::text(value));
        let reply = host.client().request(message, Duration::from_secs(20));
        assert!(reply.await?.ok());
        Ok(())
    };
    set("one").await?;
    send(&opened, "bad.replay", "x").await?;
    let kept = letter_of(&opened, "bad.replay").await?;
    let error = kept.letter.error.clone();
    assert!(error.starts_with("1 one [fail] 1 {"), "{error}");
    set("two").await?;
    assert!(host.stop(Duration::from_secs(5)).await);

    let journal = trial::journal(&kept).ok_or("there is no journal")?;
    let kinds: Vec<&str> = journal
        .steps
        .iter()
        .map(|step| match step {
            Step::Read { .. } => "read",
            Step::Listed { .. } => "listed",
            Step::Wrote { .. } => "wrote",
            Step::Published { .. } => "published",
            Step::Asked { .. } => "asked",
            Step::Fetched { .. } => "fetched",
        })
        .collect();
    assert_eq!(
        kinds,
        ["read", "listed", "read", "wrote", "asked", "published"]
    );

    let run = async |plugin: &Arc<Plugin>, run: Run| {
        let store = opened.store.clone();
        let trials = trial::trial(plugin, Form::Native, &kept, store, run).await;
        trials.map_err(|(_, error)| error)
    };
    let parts = |trial: &Trial| {
        let now = Journal {
            steps: trial.steps.clone(),
            ..Journal::default()
        };
        journal.parts_from(&now).map(|parting| parting.step)
    };
    let first = load(&std::fs::read(guest("misbehave"))?).await?;
    for _ in 0..3 {
        let again = run(&first, Run::Again).await?;
        assert_eq!(again[0].ended, Ended::Failed(Reason::Failed, error.clone()));
        assert_eq!(again[0].steps, journal.steps);
        assert_eq!(parts(&again[0]), None);
        assert_eq!(again[0].log.len(), 1);
    }

    // The other version sees the same and does something else with it.
    let words = (
        "first version of the replayed",
        "other version of the replayed",
    );
    let other = load(&version_of("misbehave", &[words])).await?;
    let again = run(&other, Run::Again).await?;
    let Ended::Done(Some(reply)) = &again[0].ended else {
        return Err(format!("{again:?}").into());
    };
    assert_eq!(std::str::from_utf8(&reply.content)?, error);
    assert_eq!(parts(&again[0]), Some(6));
    let published = &again[0].effects.publishes;
    assert_eq!(published[0].message.topic.as_str(), "out.other");

    // As if it came now, it finds the state of now, and nobody to ask.
    let now = run(&first, Run::Now).await?;
    assert!(matches!(now[0].ended, Ended::Retry(_)), "{now:?}");
    assert_eq!(parts(&now[0]), Some(1));
    assert_ne!(now[0].steps.first(), journal.steps.first());
    let state = opened.store.state_get("misbehave", "replays").await?;
    assert_eq!(state.value, None, "nothing was stored");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_with_line_tables_says_in_which_line() -> Outcome {
    let folder = tempfile::tempdir()?;
    let opened = open("memory", folder.path()).await?;
    let host = host(&opened, &misbehave_with_lines()).await?;
    send(&opened, "bad.trap", "abort").await?;
    let kept = letter_of(&opened, "bad.trap").await?;
    let report = report(&kept)?;
    let mut frames = report.trace.iter();
    let own = frames.find(|frame| frame.function.ends_with("trap"));
    let own = own.ok_or_else(|| format!("not among {report:?}"))?;
    let source = own.source.as_deref().ok_or("it has no source")?;
    let (_, place) = source
        .split_once("src/hog.rs:")
        .ok_or_else(|| source.to_owned())?;
    let line: usize = place.split(':').next().ok_or("no line")?.parse()?;
    let text = include_str!("../../../plugins/misbehave/src/hog.rs");
    let text = text.lines().nth(line - 1).ok_or("no such line")?;
    assert!(text.contains("abort()"), "{source}: {text}");
    assert!(host.stop(Duration::from_secs(5)).await);
    Ok(())
}
