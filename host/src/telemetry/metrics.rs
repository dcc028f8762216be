//! The closed list of metrics: every name that a host ever says, with its labels and what it means.
//!
//! Nothing else can be written, and labels have the names of plugins and queues and words of fixed lists, never anything of
//! a message. Where the numbers come from is not known here; they are written as OpenMetrics has it.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// It only grows while the host runs; `_total` follows its name.
    Counter,
    /// It is as it is.
    Gauge,
    /// Counts of times: `_bucket`, `_sum` and `_count` follow its name.
    Histogram,
}

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, as it is in the list.
    pub name: &'static str,
    /// What it is.
    pub sort: Sort,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident $sort:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        /// The metrics by name.
        #[expect(missing_docs, reason = "each says in its help what it is")]
        pub mod metric {
            use super::{Metric, Sort};

            $(pub static $constant: Metric = Metric {
                name: $name,
                sort: Sort::$sort,
                labels: &[$($label),*],
                help: $help,
            };)*
        }

        /// All of them, in the order in which they are written.
        pub static METRICS: &[&Metric] = &[$(&metric::$constant),*];
    };
}

metrics! {
    BUILD Gauge "sandbar_build" ["version"] "1, with the version of the host";
    READY Gauge "sandbar_ready" [] "1 if /readyz answers 200";
    WARNINGS Gauge "sandbar_warnings" [] "Warnings that /readyz lists";
    BROKER_UP Gauge "sandbar_broker_up" [] "1 if the broker answers and takes messages";
    MESSAGES Counter "sandbar_messages" ["plugin", "outcome"] "Attempts that ended, by what became of the message: done, rejected (who asked was told), split (one message for each handler), retried, dead-letter";
    RETRIES Counter "sandbar_retries" ["plugin", "reason"] "Attempts after which the message is tried again, by why";
    DEAD_LETTERS Counter "sandbar_dead_letters" ["plugin", "reason"] "Messages that became dead letters, by why";
    UNSETTLED Counter "sandbar_unsettled" ["plugin", "error"] "Attempts that ended and were not committed, so that their message comes again: conflict (state changed meanwhile), stale (the lease was over), refused, unavailable, closed";
    CALL_SECONDS Histogram "sandbar_call_duration_seconds" ["plugin"] "How long calls took, with the wait for their turn; of those that follow each other closely one of sixteen is timed and counts for all";
    IN_FLIGHT Gauge "sandbar_messages_in_flight" ["plugin"] "Messages that this host has received and not settled yet";
    PAUSED Gauge "sandbar_plugin_paused" ["plugin"] "1 if an operator paused it";
    BREAKER_OPEN Gauge "sandbar_plugin_breaker_open" ["plugin"] "1 while it is paused because it keeps failing";
    BREAKER_OPENED Counter "sandbar_plugin_breaker_opened" ["plugin"] "How often it was paused because it kept failing";
    LIMIT_HITS Counter "sandbar_plugin_limit_hits" ["plugin", "limit"] "Calls that hit a limit, each once for each limit, and loads that did; limits that were never hit are left out";
    REFUSALS Counter "sandbar_plugin_refusals" ["plugin", "grant"] "What was refused to its calls because it is not granted: publish, request, state, http";
    INSTANCES_STARTED Counter "sandbar_plugin_instances_started" ["plugin"] "Instances that were started for its calls";
    INSTANCES Gauge "sandbar_plugin_instances" ["plugin"] "Instances that are there now, idle or handling a message";
    REFUSED_VERSION Gauge "sandbar_plugin_refused" ["plugin"] "1 if what its file or the configuration describes cannot be served as it is";
    TROUBLE Gauge "sandbar_subscription_trouble" ["plugin"] "1 while nothing can be received for it";
    STALLS Counter "sandbar_subscription_stalls" ["plugin"] "How often nothing could be received any more";
    RESTARTS Counter "sandbar_subscription_restarts" ["plugin"] "How often its subscription broke off and was made anew";
    CANARY Counter "sandbar_canary_calls" ["plugin", "version", "outcome"] "Calls since a version is tried on a share of the messages, of that (canary) and of the live one: done, rejected, failed, crashed";
    SHADOW Counter "sandbar_shadow_messages" ["plugin", "outcome"] "Copies that a version in the shadow got: same, different, skipped (no time), incomparable";
    QUEUE Gauge "sandbar_queue_messages" ["queue", "state"] "Messages in a queue: ready, in-flight, delayed, retrying, parked (behind one of their key)";
    QUEUE_OLDEST Gauge "sandbar_queue_oldest_seconds" ["queue"] "Age of the oldest message in a queue, 0 if there is none";
    KEPT Gauge "sandbar_topics_kept_messages" [] "Messages that wait in topics to which no queue is bound";
    LETTERS Gauge "sandbar_dead_letters_waiting" ["reason"] "Dead letters that wait for an operator";
    LOADED Counter "sandbar_components_loaded" ["from"] "Components that were loaded: compiled, cache, shared (another plugin had it), refused (an entry of the cache that was not believed)";
    MEMORY Gauge "process_resident_memory_bytes" [] "Memory of the process";
    OPEN_FILES Gauge "process_open_fds" [] "Files and sockets that it has open";
    STARTED Gauge "process_start_time_seconds" [] "When the host was started, seconds since 1970-01-01 UTC";
}

/// The numbers of one moment. Those of one metric stay in the order in which they came.
#[derive(Debug, Default)]
pub struct Numbers(BTreeMap<&'static str, Vec<(Labels, Number)>>);

type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
enum Number {
    Count(u64),
    Level(f64),
    /// Counts up to each bound, with the sum.
    Times(Vec<(f64, u64)>, f64),
}

impl Numbers {
    /// A counter, with the values of its labels in their order.
    pub fn count(&mut self, metric: &'static Metric, labels: &[&str], count: u64) {
        self.put(metric, labels, Number::Count(count));
    }

    /// A gauge.
    pub fn level(&mut self, metric: &'static Metric, labels: &[&str], level: u64) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "beyond 53 bits nobody counts singly"
        )]
        self.put(metric, labels, Number::Level(level as f64));
    }

    /// A gauge that is 1 or 0.
    pub fn flag(&mut self, metric: &'static Metric, labels: &[&str], is: bool) {
        self.level(metric, labels, u64::from(is));
    }

    /// A gauge in seconds.
    pub fn seconds(&mut self, metric: &'static Metric, labels: &[&str], seconds: f64) {
        self.put(metric, labels, Number::Level(seconds));
    }

    /// A histogram: how many there are up to each bound that are above the one before, and their sum.
    pub fn times(
        &mut self,
        metric: &'static Metric,
        labels: &[&str],
        counts: Vec<(f64, u64)>,
        sum: f64,
    ) {
        self.put(metric, labels, Number::Times(counts, sum));
    }

    fn put(&mut self, metric: &'static Metric, labels: &[&str], number: Number) {
        let values = labels.iter().map(|value| (*value).to_owned());
        let labels = metric.labels.iter().copied().zip(values).collect();
        self.0
            .entry(metric.name)
            .or_default()
            .push((labels, number));
    }

    /// As OpenMetrics has it.
    ///
    /// # Errors
    /// When there is no memory for the text.
    pub fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut written = String::new();
        text::encode(&mut written, &registry)?;
        Ok(written)
    }
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in METRICS {
            let sort = match metric.sort {
                Sort::Counter => MetricType::Counter,
                Sort::Gauge => MetricType::Gauge,
                Sort::Histogram => MetricType::Histogram,
            };
            let mut written = encoder.encode_descriptor(metric.name, metric.help, None, sort)?;
            for (labels, number) in self.0.get(metric.name).into_iter().flatten() {
                let mut one = written.encode_family(labels)?;
                match number {
                    Number::Count(count) => {
                        one.encode_counter::<NoLabelSet, u64, f64>(count, None)?;
                    }
                    Number::Level(level) => one.encode_gauge(level)?,
                    Number::Times(counts, sum) => {
                        let count = counts.iter().map(|(_, count)| count).sum();
                        one.encode_histogram::<NoLabelSet>(*sum, count, counts, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_differ_and_say_what_they_are() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            let legal = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(metric.name.chars().all(legal), "{}", metric.name);
            assert!(
                !metric.name.ends_with("_total"),
                "{}: that is added",
                metric.name
            );
            assert!(!metric.help.ends_with('.'), "{}: it is added", metric.name);
        }
    }

    #[test]
    fn numbers_are_written_with_their_labels_and_nothing_breaks_a_line() {
        let mut numbers = Numbers::default();
        numbers.count(&metric::MESSAGES, &["orders", "done"], 3);
        numbers.level(&metric::QUEUE, &["a\"b\\c\nd", "ready"], 5);
        numbers.flag(&metric::READY, &[], true);
        let times = vec![(0.001, 2), (0.01, 1), (f64::INFINITY, 1)];
        numbers.times(&metric::CALL_SECONDS, &["orders"], times, 0.5);
        let text = numbers.text().unwrap();
        for line in [
            "sandbar_messages_total{plugin=\"orders\",outcome=\"done\"} 3",
            "sandbar_queue_messages{queue=\"a\\\"b\\\\c\\nd\",state=\"ready\"} 5.0",
            "sandbar_ready 1.0",
            "sandbar_call_duration_seconds_bucket{le=\"0.01\",plugin=\"orders\"} 3",
            "sandbar_call_duration_seconds_bucket{le=\"+Inf\",plugin=\"orders\"} 4",
            "sandbar_call_duration_seconds_count{plugin=\"orders\"} 4",
            "# TYPE sandbar_retries counter",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
