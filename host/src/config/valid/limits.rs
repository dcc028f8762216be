//! How much and how often: limits, retries and pauses, which a plugin has of its own or from `[defaults]`.
//!
//! What is left out comes from the level above; rules are checked where something was written.

use super::super::file::{BreakerSection, LimitsSection, RetrySection};
use super::super::written::Keys;
use super::super::{Breaker, Size, Time};
use super::Checker;
use crate::plugin::{Limits, MOST_TABLE_ELEMENTS};
use crate::retry::RetryPolicy;
use crate::throttle::BreakerPolicy;

impl Checker<'_> {
    pub(super) fn limits(
        &mut self,
        table: &Keys<'_>,
        written: LimitsSection,
        default: &Limits,
    ) -> Limits {
        let zero_size = |size: Option<Size>| size.is_some_and(|size| size.0 == 0);
        let zero_time = |time: Option<Time>| time.is_some_and(|time| time.0.is_zero());
        self.zero(
            table,
            &[
                ("time", zero_time(written.time)),
                ("load_time", zero_time(written.load_time)),
                ("memory", zero_size(written.memory)),
                ("hostcall_fuel", zero_size(written.hostcall_fuel)),
                ("concurrency", written.concurrency == Some(0)),
                ("rate", written.rate == Some(0)),
                ("http_connect_time", zero_time(written.http_connect_time)),
                ("file", zero_size(written.file)),
                ("compile_time", zero_time(written.compile_time)),
                ("compile_memory", zero_size(written.compile_memory)),
            ],
        );
        let bytes = |size: Option<Size>, default: usize| {
            size.map_or(default, |size| {
                usize::try_from(size.0).unwrap_or(usize::MAX)
            })
        };
        let number = |number: Option<u32>, default: usize| {
            number.map_or(default, |number| {
                usize::try_from(number).unwrap_or(usize::MAX)
            })
        };
        let limits = Limits {
            isolation: default.isolation,
            breaker: default.breaker,
            weight: default.weight,
            rate: written.rate.or(default.rate),
            time: written.time.map_or(default.time, |time| time.0),
            load_time: written.load_time.map_or(default.load_time, |time| time.0),
            memory: bytes(written.memory, default.memory),
            table_elements: number(written.table_elements, default.table_elements),
            resources: number(written.resources, default.resources),
            hostcall_fuel: bytes(written.hostcall_fuel, default.hostcall_fuel),
            concurrency: number(written.concurrency, default.concurrency),
            content: bytes(written.content, default.content),
            headers: number(written.headers, default.headers),
            header_bytes: bytes(written.header_bytes, default.header_bytes),
            publishes: number(written.publishes, default.publishes),
            publish_bytes: bytes(written.publish_bytes, default.publish_bytes),
            log_lines: written.log_lines.unwrap_or(default.log_lines),
            log_bytes: bytes(written.log_bytes, default.log_bytes),
            state_value: bytes(written.state_value, default.state_value),
            state_writes: number(written.state_writes, default.state_writes),
            http_requests: number(written.http_requests, default.http_requests),
            http_bytes: bytes(written.http_bytes, default.http_bytes),
            http_connect_time: written
                .http_connect_time
                .map_or(default.http_connect_time, |time| time.0),
            state_total: written
                .state_total
                .map_or(default.state_total, |size| size.0),
            file: written.file.map_or(default.file, |size| size.0),
            compile_time: written
                .compile_time
                .map_or(default.compile_time, |time| time.0),
            compile_memory: written
                .compile_memory
                .map_or(default.compile_memory, |size| size.0),
        };
        let shown = |bytes: usize| Size(u64::try_from(bytes).unwrap_or(u64::MAX)).to_string();
        // What is allowed must get from the guest to the host, too.
        let (memory, fuel) = (limits.memory, limits.hostcall_fuel);
        for (small, size, large, most) in [
            ("content", limits.content, "memory", memory),
            ("state_value", limits.state_value, "memory", memory),
            ("content", limits.content, "hostcall_fuel", fuel),
            ("header_bytes", limits.header_bytes, "hostcall_fuel", fuel),
            ("state_value", limits.state_value, "hostcall_fuel", fuel),
        ] {
            if size > most && most > 0 && self.says(table, &[small, large]) {
                self.order(table, [(small, shown(size)), (large, shown(most))]);
            }
        }
        let value = u64::try_from(limits.state_value).unwrap_or(u64::MAX);
        if value > limits.state_total && self.says(table, &["state_value", "state_total"]) {
            let total = Size(limits.state_total).to_string();
            let value = ("state_value", shown(limits.state_value));
            self.order(table, [value, ("state_total", total)]);
        }
        if limits.table_elements > MOST_TABLE_ELEMENTS && self.says(table, &["table_elements"]) {
            let elements = limits.table_elements;
            let message = format!(
                "`table_elements` is {elements}; the engine has room for {MOST_TABLE_ELEMENTS}"
            );
            self.problem(table, "table_elements", message);
        }
        limits
    }

    pub(super) fn retry(
        &mut self,
        table: &Keys<'_>,
        written: RetrySection,
        default: &RetryPolicy,
    ) -> RetryPolicy {
        self.zero(table, &[("max_attempts", written.max_attempts == Some(0))]);
        if let Some(value) = written.multiplier
            && !(1.0..=1000.0).contains(&value)
        {
            let message = format!("`multiplier` is {value}; it must be 1 to 1000");
            self.problem(table, "multiplier", message);
        }
        let retry = RetryPolicy {
            max_attempts: written.max_attempts.unwrap_or(default.max_attempts),
            initial: written.initial.map_or(default.initial, |time| time.0),
            multiplier: written.multiplier.unwrap_or(default.multiplier),
            max: written.max.map_or(default.max, |time| time.0),
        };
        if retry.initial > retry.max && self.says(table, &["initial", "max"]) {
            let shown = |time| Time(time).to_string();
            self.order(
                table,
                [("initial", shown(retry.initial)), ("max", shown(retry.max))],
            );
        }
        retry
    }

    pub(super) fn breaker(
        &mut self,
        table: &Keys<'_>,
        written: &BreakerSection,
        default: Breaker,
    ) -> Breaker {
        let zero = |time: Option<Time>| time.is_some_and(|time| time.0.is_zero());
        self.zero(
            table,
            &[
                ("at_least", written.at_least == Some(0)),
                ("window", zero(written.window)),
                ("pause", zero(written.pause)),
            ],
        );
        if let Some(share) = written.failures
            && !(share > 0.0 && share <= 1.0)
        {
            let message = format!("`failures` is {share}; it must be above 0 and at most 1");
            self.problem(table, "failures", message);
        }
        let Breaker { enabled, policy } = default;
        Breaker {
            enabled: written.enabled.unwrap_or(enabled),
            policy: BreakerPolicy {
                failures: written.failures.unwrap_or(policy.failures),
                at_least: written.at_least.unwrap_or(policy.at_least),
                window: written.window.map_or(policy.window, |time| time.0),
                pause: written.pause.map_or(policy.pause, |time| time.0),
            },
        }
    }

    /// Whether one of these keys is written here. What is inherited was refused where it stands.
    fn says(&self, table: &Keys<'_>, keys: &[&str]) -> bool {
        keys.iter()
            .any(|key| self.written.is_written(&[table, &[key]].concat()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::Source;
    use crate::config::tests::load_with;
    use crate::throttle::BreakerPolicy;

    #[test]
    fn what_a_plugin_leaves_out_is_as_in_the_defaults() {
        let text = "\
[defaults.limits]
rate = 50
[defaults.breaker]
enabled = false
failures = 0.9
window = \"1m\"
[plugins.a.limits]
rate = 5
[plugins.a.breaker]
enabled = true
at_least = 7
[plugins.b]
";
        let environment = [("SANDBAR_PLUGINS__A__BREAKER__PAUSE", "1s")];
        let config = load_with(text, &environment).unwrap();
        assert_eq!(
            (config.limits.rate, config.limits.breaker),
            (Some(50), None)
        );
        let of = |name: &str| {
            let limits = &config.plugins[name].limits;
            (limits.rate, limits.breaker)
        };
        let breaker = BreakerPolicy {
            failures: 0.9,
            at_least: 7,
            window: Duration::from_secs(60),
            pause: Duration::from_secs(1),
        };
        assert_eq!(of("a"), (Some(5), Some(breaker)));
        assert_eq!(of("b"), (Some(50), None));
        // One that is off is shown as it was written.
        for table in [&["defaults", "breaker"][..], &["plugins", "b", "breaker"]] {
            let keys = [table, &["failures"]].concat();
            let shown = config.shown();
            let shown = shown.iter().find(|it| it.keys == keys).unwrap();
            assert_eq!(
                (shown.value.clone(), shown.source),
                (Some(0.9.into()), Source::File)
            );
        }
    }
}
