//! The host, its broker, and what waits in both.

use sandbar::backend::{Backend, BackendError, LocalBackend, OpenDataError, Overview};
use sandbar::clock;
use sandbar::config::Config;
use sandbar::store::{LetterCounts, LetterFilter, Store};

use super::super::broker as found;
use super::super::moment::age;
use super::super::terminal::count;
use super::{Check, Finding};

/// Looks at all of it. What cannot be reached is not looked into.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let data = config.data.value.display();
    let (host, runs) = match LocalBackend::connect(&config.data.value).await {
        Ok(local) => {
            let text = format!("process {} serves {data}", local.owner());
            local.close().await;
            (Finding::ok(Check::Host, text), true)
        }
        Err(BackendError::Unavailable(_)) => {
            let text = format!("none runs with data in {data}");
            (Finding::ok(Check::Host, text), false)
        }
        Err(error) => return vec![Finding::error(Check::Host, &error)],
    };
    let mut findings = vec![host];
    if !found::has_data(config) {
        let text = format!("there is no data in {data} yet; it is made with the first message");
        findings.push(Finding::ok(Check::Broker, text));
        return findings;
    }
    match found::find(config).await {
        Ok(mut broker) => {
            findings.push(health(&*broker.backend()).await);
            findings.push(
                match broker.store().count_letters(&LetterFilter::default()).await {
                    Ok(counts) => letters(&counts),
                    Err(error) => Finding::error(Check::DeadLetters, &error),
                },
            );
            match broker.backend().overview().await {
                Ok(overview) => findings.extend(queues(&overview, runs)),
                Err(error) => findings.push(Finding::error(Check::Queues, &error)),
            }
            findings.extend(newest(&*broker.store()).await);
            broker.close().await;
        }
        Err(OpenDataError::Nobody { kind, .. }) => {
            let text = format!("{}: it begins and ends with its host", kind.as_str());
            findings.push(Finding::ok(Check::Broker, text));
        }
        Err(error) => findings.push(Finding::error(Check::Broker, &error)),
    }
    findings
}

async fn health(backend: &dyn Backend) -> Finding {
    match backend.health().await {
        Ok(health) => Finding::ok(
            Check::Broker,
            format!("{}: {}", backend.kind(), health.detail),
        ),
        Err(error) => {
            let mut finding = Finding::error(Check::Broker, &error);
            let waits = "put that right; what was not confirmed is refused meanwhile, and the host goes on by itself";
            finding.remedy.get_or_insert_with(|| waits.to_owned());
            finding
        }
    }
}

fn letters(counts: &LetterCounts) -> Finding {
    if counts.total() == 0 {
        return Finding::ok(Check::DeadLetters, "none wait");
    }
    let reason = |(reason, number): &(_, u64)| format!("{} {reason}", count(*number));
    let reasons: Vec<String> = counts.reasons.iter().map(reason).collect();
    Finding::warn(
        Check::DeadLetters,
        format!("{} wait: {}", count(counts.total()), reasons.join(", ")),
        "`sandbar dead-letters list` shows them; replay them when the cause is gone, or purge them",
    )
}

fn queues(overview: &Overview, host: bool) -> Vec<Finding> {
    let depth: u64 = overview.queues.iter().map(|status| status.depth()).sum();
    let oldest = overview.queues.iter().filter_map(|status| status.oldest_ms);
    let oldest = oldest.min().map_or_else(String::new, |oldest| {
        format!(
            ", the oldest published {} ago",
            age(oldest, clock::now_ms())
        )
    });
    let beyond = overview.beyond.iter().map(|beyond| format!("; {beyond}"));
    let text = format!(
        "{} queues, {} messages{oldest}{}",
        count(overview.queues.len()),
        count(depth),
        beyond.collect::<String>()
    );
    let mut findings = vec![Finding::ok(Check::Queues, text)];
    let deserted = overview.queues.iter().filter(|status| {
        host && status.ready > 0 && status.receivers == 0 && status.in_flight == 0
    });
    for status in deserted {
        let name = &status.spec.name;
        findings.push(Finding::warn(
            Check::Queues,
            format!(
                "{} messages wait in {name} and nobody receives them",
                count(status.ready)
            ),
            format!("serve what it belongs to, or remove them with `sandbar queues purge {name}`"),
        ));
    }
    if overview.kept > 0 {
        findings.push(Finding::warn(
            Check::Queues,
            format!(
                "{} messages wait in topics to which no queue is bound",
                count(overview.kept)
            ),
            "serve a plugin that handles them; otherwise they are forgotten after a week",
        ));
    }
    findings
}

/// Nothing that is kept can have happened later than now.
async fn newest(store: &dyn Store) -> Option<Finding> {
    const SLACK_MS: i64 = 60_000;
    let page = store
        .letters(&LetterFilter::default(), None, 1)
        .await
        .ok()?;
    let newest = page.letters.first()?.at_ms;
    let now = clock::now_ms();
    (newest > now.saturating_add(SLACK_MS)).then(|| {
        Finding::warn(
            Check::Clock,
            format!(
                "it went back: a dead letter is {} from the future",
                age(now, newest)
            ),
            "set it with NTP; until then ages and retention of what is kept are wrong",
        )
    })
}
