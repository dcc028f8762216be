//! The numbers of a host at one moment, read from what its parts count anyway.
//!
//! Their names are in [`crate::telemetry`]. What the broker doesn't tell is left out.

use std::time::Duration;

use super::{Phase, Serving, Shared};
use crate::backend::Overview;
use crate::clock;
use crate::handler::Port;
use crate::pipeline::{BOUNDS, Beside, Ends, Shadow};
use crate::rollout::Side;
use crate::telemetry::{Numbers, metric};

/// Queues beyond these are left out.
const MOST_QUEUES: usize = 2_000;

impl Shared {
    /// Everything that can be said.
    pub(super) async fn numbers(&self) -> Numbers {
        let mut numbers = Numbers::default();
        let readiness = self.readiness().await;
        numbers.level(&metric::BUILD, &[env!("CARGO_PKG_VERSION")], 1);
        numbers.flag(&metric::READY, &[], readiness.is_ready());
        let warnings = readiness.warnings.len() as u64;
        numbers.level(&metric::WARNINGS, &[], warnings);
        process(&mut numbers, self.started_ms);
        match self.phase() {
            Phase::Serving(serving) => serving.count(&mut numbers),
            Phase::Stopping(ports) => {
                for port in ports {
                    subscription(&mut numbers, &port);
                }
            }
            Phase::Starting => {}
        }
        self.ask(&mut numbers).await;
        numbers
    }

    /// What the broker says of its queues and dead letters.
    async fn ask(&self, numbers: &mut Numbers) {
        let Some(broker) = self.broker() else { return };
        let up = self.asked.health(&broker).await.is_ok();
        numbers.flag(&metric::BROKER_UP, &[], up);
        if let Ok(overview) = &*self.asked.overview(&broker).await {
            queues(numbers, overview, clock::now_ms());
        }
        if let Ok(letters) = &*self.asked.letters(&broker).await {
            for (reason, count) in &letters.reasons {
                numbers.level(&metric::LETTERS, &[reason.as_str()], *count);
            }
        }
    }
}

impl Serving {
    fn count(&self, numbers: &mut Numbers) {
        let refusals = self.refusals.all();
        for port in self.host.ports() {
            subscription(numbers, &port);
        }
        for plugin in self.host.plugins() {
            let refused = refusals.contains_key(&*plugin.name);
            numbers.flag(&metric::REFUSED_VERSION, &[&plugin.name], refused);
            let counts = plugin.counts();
            for (limit, count) in counts.all().filter(|(_, count)| *count > 0) {
                numbers.count(&metric::LIMIT_HITS, &[&plugin.name, limit], count);
            }
            for (grant, count) in counts.refusals() {
                numbers.count(&metric::REFUSALS, &[&plugin.name, grant], count);
            }
            let (started, now) = counts.instances();
            numbers.count(&metric::INSTANCES_STARTED, &[&plugin.name], started);
            numbers.level(&metric::INSTANCES, &[&plugin.name], now);
        }
        let unserved = |name: &&String| self.host.plugin(name).is_none();
        for name in refusals.keys().filter(unserved) {
            numbers.flag(&metric::REFUSED_VERSION, &[name], true);
        }
        let loaded = self.host.loaded();
        for (from, count) in [
            ("compiled", loaded.compiled),
            ("cache", loaded.cached),
            ("shared", loaded.shared),
            ("refused", loaded.refused),
        ] {
            numbers.count(&metric::LOADED, &[from], count);
        }
    }
}

/// What a subscription has counted.
fn subscription(numbers: &mut Numbers, port: &Port) {
    let pipeline = port.pipeline();
    let serving = pipeline.serving();
    let plugin = &*serving.version.access.plugin;
    ends(numbers, plugin, &pipeline.tally().read(), port.failures());
    let in_flight = pipeline.in_flight() as u64;
    numbers.level(&metric::IN_FLIGHT, &[plugin], in_flight);
    numbers.flag(&metric::PAUSED, &[plugin], port.paused());
    let (closed, often) = pipeline.breaker();
    numbers.flag(&metric::BREAKER_OPEN, &[plugin], closed);
    numbers.count(&metric::BREAKER_OPENED, &[plugin], often as u64);
    numbers.flag(&metric::TROUBLE, &[plugin], port.trouble().is_some());
    if let Some(beside) = &serving.beside {
        canary(numbers, plugin, beside);
    }
    if let Some(shadow) = &serving.shadow {
        compared(numbers, plugin, shadow);
    }
}

fn ends(numbers: &mut Numbers, plugin: &str, ends: &Ends, failures: u64) {
    let all = |counts: &[(_, u64)]| counts.iter().map(|(_, count)| count).sum();
    for (outcome, count) in [
        ("done", ends.done),
        ("rejected", ends.rejected),
        ("split", ends.split),
        ("retried", all(&ends.retried)),
        ("dead-letter", all(&ends.dead)),
    ] {
        numbers.count(&metric::MESSAGES, &[plugin, outcome], count);
    }
    for (reason, count) in &ends.retried {
        numbers.count(&metric::RETRIES, &[plugin, reason.as_str()], *count);
    }
    for (reason, count) in &ends.dead {
        numbers.count(&metric::DEAD_LETTERS, &[plugin, reason.as_str()], *count);
    }
    for (why, count) in ends.unsettled {
        numbers.count(&metric::UNSETTLED, &[plugin, why], count);
    }
    let bounds = BOUNDS.map(|us| Duration::from_micros(us).as_secs_f64());
    let bounds = bounds.into_iter().chain([f64::INFINITY]);
    let times = bounds.zip(ends.times).collect();
    numbers.times(&metric::CALL_SECONDS, &[plugin], times, ends.seconds);
    numbers.count(&metric::STALLS, &[plugin], ends.stalls);
    numbers.count(&metric::RESTARTS, &[plugin], failures);
}

fn canary(numbers: &mut Numbers, plugin: &str, beside: &Beside) {
    let (live, canary) = beside.counted();
    let mut side = |version: &str, side: &Side| {
        for (outcome, count) in [
            ("done", side.done),
            ("rejected", side.rejected),
            ("failed", side.failed),
            ("crashed", side.crashed),
        ] {
            numbers.count(&metric::CANARY, &[plugin, version, outcome], count);
        }
    };
    side("live", &live);
    side("canary", &canary);
}

fn compared(numbers: &mut Numbers, plugin: &str, shadow: &Shadow) {
    let compared = shadow.compared();
    for (outcome, count) in [
        ("same", compared.same),
        ("different", compared.different),
        ("skipped", compared.skipped),
        ("incomparable", compared.incomparable),
    ] {
        numbers.count(&metric::SHADOW, &[plugin, outcome], count);
    }
}

/// Queues with names that somebody chose; those of one client for its replies come and go.
fn queues(numbers: &mut Numbers, overview: &Overview, now_ms: i64) {
    let lasting = overview.queues.iter().filter(|it| !it.spec.ephemeral);
    for status in lasting.take(MOST_QUEUES) {
        let queue = status.spec.name.as_str();
        for (state, count) in [
            ("ready", status.ready),
            ("in-flight", status.in_flight),
            ("delayed", status.delayed),
            ("retrying", status.retrying),
            ("parked", status.parked),
        ] {
            numbers.level(&metric::QUEUE, &[queue, state], count);
        }
        let age_ms = status.oldest_ms.map_or(0, |at| now_ms.saturating_sub(at));
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
        numbers.seconds(&metric::QUEUE_OLDEST, &[queue], age.as_secs_f64());
    }
    numbers.level(&metric::KEPT, &[], overview.kept);
}

/// What the system says of this process, where it does.
fn process(numbers: &mut Numbers, started_ms: i64) {
    let started = Duration::from_millis(u64::try_from(started_ms).unwrap_or(0));
    numbers.seconds(&metric::STARTED, &[], started.as_secs_f64());
    // /proc is memory, and read at once.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    if let Some(kilobytes) = kilobytes {
        numbers.level(&metric::MEMORY, &[], kilobytes.saturating_mul(1024));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        numbers.level(&metric::OPEN_FILES, &[], open.count() as u64);
    }
}
