//! What people write in one line: topics, patterns, schedules, sizes, durations, names.

use super::*;

use sandbar::backend::QueueName;
use sandbar::periodic::Schedule;
use sandbar::topic::{Pattern, TopicName};
use sandbar::value::{Size, Time};

const TOPICS: [&str; 8] = [
    "order.created",
    "a",
    "user.*",
    "user.>",
    "a.*.b.#",
    ">",
    "*.*",
    "tenant.eu-west_1.Order.created",
];

#[test]
fn topics_and_patterns_are_refused_or_mean_something() {
    let two = (changed_text(&TOPICS), changed_text(&TOPICS));
    check("topics", 2000, &two, |(one, other)| {
        if let Ok(name) = one.parse::<TopicName>() {
            prop_assert_eq!(name.as_str(), &one);
            prop_assert!((1..=255).contains(&one.len()));
            // A name is a pattern, and fits itself.
            let pattern: Pattern = one.parse().map_err(fail)?;
            prop_assert!(pattern.matches(&name));
            prop_assert_eq!(pattern.exact(), Some(name));
        }
        let (Ok(one), Ok(other)) = (one.parse::<Pattern>(), other.parse::<Pattern>()) else {
            return Ok(());
        };
        let again: Pattern = one.as_str().parse().map_err(fail)?;
        prop_assert_eq!(&again, &one);
        prop_assert!(one.covers(&one) && one.overlaps(&one));
        prop_assert_eq!(one.overlaps(&other), other.overlaps(&one));
        if one.covers(&other) {
            prop_assert!(one.overlaps(&other), "{one} covers {other}");
        }
        if let Some(name) = other.exact() {
            prop_assert_eq!(one.matches(&name), one.covers(&other));
        }
        Ok(())
    });
}

#[test]
fn names_of_queues_are_refused_or_stay_what_they_are() {
    let names = changed_text(&["sandbar.orders", "q", "a-b_c.9", "sandbar.native"]);
    check("names of queues", 1000, &names, |text| {
        if let Ok(name) = text.parse::<QueueName>() {
            prop_assert_eq!(name.as_str(), &text);
        }
        Ok(())
    });
}

#[test]
fn schedules_are_refused_or_come_due() {
    let schedules = changed_text(&[
        "*/5 * * * *",
        "0 3 * * *",
        "0 0 29 2 *",
        "30 8 * * MON-FRI",
        "15,45 1-2 1 JAN,JUL *",
        "0 0 13 * FRI",
        "0 0 L * *",
        "0 0 * * 5#2",
        "0 0 15W * *",
        "59 23 31 12 7",
    ]);
    let moments = prop_oneof![
        any::<i64>(),
        0..4_102_444_800_000_i64,
        Just(i64::MAX),
        Just(i64::MIN),
        Just(-1),
    ];
    check("schedules", 2000, &(schedules, moments), |(text, after)| {
        let Ok(schedule) = text.parse::<Schedule>() else {
            return Ok(());
        };
        let first = schedule.next(0);
        prop_assert!(first.is_some(), "{text:?} never comes due");
        if let Some(next) = schedule.next(after) {
            prop_assert!(next > after, "{text:?} after {after}: {next}");
        }
        Ok(())
    });
}

#[test]
fn sizes_are_refused_or_written_back() {
    let sizes = changed_text(&[
        "64KiB",
        "1.5GB",
        "0",
        "18446744073709551615",
        "10 MiB",
        "1e3kb",
    ]);
    check("sizes", 2000, &sizes, |text| {
        if let Ok(size) = text.parse::<Size>() {
            let again: Size = size.to_string().parse().map_err(fail)?;
            prop_assert_eq!(again.0, size.0, "{} is written {}", text, size);
        }
        Ok(())
    });
}

#[test]
fn durations_are_refused_or_written_back() {
    let times = changed_text(&[
        "300ms",
        "5s",
        "1m 30s",
        "2d",
        "1year 2months 3h",
        "18446744073709551615s",
    ]);
    check("durations", 2000, &times, |text| {
        if let Ok(time) = text.parse::<Time>() {
            let again: Time = time.to_string().parse().map_err(fail)?;
            prop_assert_eq!(again.0, time.0, "{} is written {}", text, time);
        }
        Ok(())
    });
}

fn fail(error: impl std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}
