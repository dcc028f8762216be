//! Clocks, distributions and tables of the benchmarks.
//!
//! Compares within one run, alternating what is compared, because machines differ and drift.

use std::fmt;
use std::time::{Duration, Instant};

/// What the figures were measured on.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or(": unknown");
    let profile = if cfg!(debug_assertions) {
        "UNOPTIMISED"
    } else {
        "release"
    };
    format!(
        "{cores} cores,{}, {profile}",
        model.trim_start_matches(['\t', ' ', ':']).trim()
    )
}

/// The time, for what is measured from outside.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Processor time of all threads of this process so far.
pub(crate) fn cpu() -> Duration {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
    {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        total += stat
            .split(' ')
            .next()
            .and_then(|ns| ns.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Duration::from_nanos(total)
}

/// Best and median of several rounds of `a` and `b`, which alternate.
pub(crate) fn alternate(
    rounds: usize,
    mut a: impl FnMut() -> f64,
    mut b: impl FnMut() -> f64,
) -> (Runs, Runs) {
    let (mut first, mut second) = (Runs::default(), Runs::default());
    for _ in 0..rounds {
        first.0.push(a());
        second.0.push(b());
    }
    (first, second)
}

/// The same figure measured several times.
#[derive(Debug, Default, Clone)]
pub(crate) struct Runs(pub(crate) Vec<f64>);

impl Runs {
    pub(crate) fn median(&self) -> f64 {
        percentile(&self.0, 50.0)
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }
}

pub(crate) fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let position = (percent / 100.0 * last as f64).round() as usize;
    sorted.get(position).copied().unwrap_or(f64::NAN)
}

/// Rows of names and figures.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    rows: Vec<(String, String)>,
}

impl Table {
    pub(crate) fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, name: impl Into<String>, figure: impl Into<String>) {
        self.rows.push((name.into(), figure.into()));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n", self.title)?;
        let width = self
            .rows
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0);
        writeln!(
            f,
            "| {:width$} | figure |\n|{}|---|",
            "what",
            "-".repeat(width + 2)
        )?;
        for (name, figure) in &self.rows {
            writeln!(f, "| {name:width$} | {figure} |")?;
        }
        Ok(())
    }
}
