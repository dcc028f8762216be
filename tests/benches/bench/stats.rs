//! What many measurements say: best and median of runs, the distribution of single times, and how they are printed.

use std::time::Duration;

/// The same figure measured several times.
#[derive(Debug, Default, Clone)]
pub(crate) struct Runs(pub(crate) Vec<f64>);

impl Runs {
    pub(crate) fn of<T>(runs: &[T], figure: impl Fn(&T) -> f64) -> Self {
        Self(runs.iter().map(figure).collect())
    }

    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// This and the limit in the round in which they compare as they do in the middle one: of a machine that is now fast
    /// and now slow, the medians of two may be of different hours.
    pub(crate) fn beside(&self, limit: &Self) -> (f64, f64) {
        let mut rounds: Vec<(f64, f64)> = self.0.iter().copied().zip(limit.0.clone()).collect();
        rounds.sort_by(|one, other| (one.0 / one.1).total_cmp(&(other.0 / other.1)));
        let middle = rounds.get(rounds.len() / 2);
        middle.copied().unwrap_or((f64::NAN, f64::NAN))
    }

    pub(crate) fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn most(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    /// The median and the best of times.
    pub(crate) fn times(&self) -> [String; 2] {
        [time(self.median()), time(self.least())]
    }

    /// The median and the best of rates.
    pub(crate) fn rates(&self) -> [String; 2] {
        [rate(self.median()), rate(self.most())]
    }
}

/// Single times, each counted.
#[derive(Debug, Default, Clone)]
pub(crate) struct Spread(Vec<u64>);

impl Spread {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0
            .push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// All times of several distributions.
    pub(crate) fn all<'a>(spreads: impl IntoIterator<Item = &'a Self>) -> Self {
        Self(spreads.into_iter().flat_map(|it| it.0.clone()).collect())
    }

    /// The time that half of them do not exceed, in nanoseconds.
    pub(crate) fn median(&self) -> f64 {
        let [median] = self.at([50.0]);
        median
    }

    /// The time that all but one of a hundred do not exceed, in nanoseconds.
    pub(crate) fn p99(&self) -> f64 {
        let [p99] = self.at([99.0]);
        p99
    }

    /// The headings of [`Spread::cells`].
    pub(crate) const HEADINGS: [&str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

    pub(crate) fn cells(&self) -> [String; 5] {
        self.at([50.0, 90.0, 99.0, 99.9, 100.0]).map(time)
    }

    /// The times that so many of a hundred do not exceed.
    fn at<const N: usize>(&self, percents: [f64; N]) -> [f64; N] {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1) as f64;
        percents.map(|percent| {
            let position = (percent / 100.0 * last).round() as usize;
            sorted.get(position).map_or(f64::NAN, |nanos| *nanos as f64)
        })
    }
}

/// Nanoseconds, in the unit that suits them.
pub(crate) fn time(nanos: f64) -> String {
    match nanos {
        n if n.is_nan() => "–".to_owned(),
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e5 => format!("{:.2} µs", n / 1e3),
        n if n < 1e6 => format!("{:.0} µs", n / 1e3),
        n if n < 1e8 => format!("{:.2} ms", n / 1e6),
        n if n < 1e9 => format!("{:.0} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

/// So many a second.
pub(crate) fn rate(per_second: f64) -> String {
    format!("{}/s", thousands(per_second))
}

/// A ratio.
pub(crate) fn times(ratio: f64) -> String {
    format!("{ratio:.2}×")
}

/// A whole number in groups of three digits.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 && text != "-" {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes, in the unit that suits them.
pub(crate) fn bytes(count: f64) -> String {
    match count {
        n if n < 1024.0 => format!("{n:.0} B"),
        n if n < 1024.0 * 1024.0 => format!("{:.0} KiB", n / 1024.0),
        n => format!("{:.1} MiB", n / 1024.0 / 1024.0),
    }
}
