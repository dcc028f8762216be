//! Whether a cron expression makes sense, found out while it has a place in the source.
//!
//! The host reads schedules with the same library, and again at load, because not every plugin is written with this SDK.

use chrono::DateTime;
use croner::parser::{CronParser, Seconds, Year};

/// What is wrong with a schedule, if anything.
pub(crate) fn complaint(text: &str) -> Option<String> {
    const FIELDS: &str =
        "a schedule has five fields: minute, hour, day of month, month, day of week";
    if text.split_whitespace().count() != 5 {
        return Some(format!("schedule `{text}` is malformed; {FIELDS}"));
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    let cron = match parser.parse(text) {
        Ok(cron) => cron,
        Err(error) => return Some(format!("schedule `{text}` is malformed: {error}")),
    };
    let never = cron
        .find_next_occurrence(&DateTime::UNIX_EPOCH, false)
        .is_err();
    never.then(|| format!("schedule `{text}` never comes due; there is no such day"))
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn schedules() {
        for good in [
            "* * * * *",
            "*/5 * * * *",
            "0 3 * * MON-FRI",
            "0 0 29 2 *",
            "15,45 8-17 1 JAN,JUL *",
        ] {
            assert_eq!(complaint(good), None, "{good}");
        }
        for (wrong, part) in [
            ("", "five fields"),
            ("* * * *", "five fields"),
            ("0 * * * * *", "five fields"),
            ("@daily", "five fields"),
            ("60 * * * *", "out of bounds"),
            ("* * * * mo", "illegal"),
            ("*/0 * * * *", "zero"),
            ("0 0 30 2 *", "never comes due"),
        ] {
            let text = complaint(wrong).unwrap_or_default();
            assert!(text.contains(part), "{wrong:?}: {text}");
        }
    }
}
