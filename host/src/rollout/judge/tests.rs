//! What is judged from counts: cases, and versions that draw lots.

use super::*;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

fn policy() -> Policy {
    Policy::new("10%".parse().unwrap())
}

/// Messages, of which so many failed, with this time each.
fn side(messages: u64, failed: u64, us: u64) -> Side {
    let mut side = Side {
        done: messages - failed,
        failed,
        ..Side::default()
    };
    (0..messages).for_each(|_| side.times.add(us));
    side
}

const LONG: Duration = Duration::from_secs(601);
const SHORT: Duration = Duration::from_secs(1);

fn says(judgement: &Judgement) -> (&str, &str) {
    match judgement {
        Judgement::Wait(text) => ("wait", text),
        Judgement::Promote(text) => ("promote", text),
        Judgement::RollBack(text) => ("roll back", text),
    }
}

#[track_caller]
fn check(live: &Side, canary: &Side, passed: Duration, verdict: &str, why: &str) {
    let judgement = judge(&policy(), live, canary, passed);
    let (found, text) = says(&judgement);
    assert!(found == verdict && text.contains(why), "{judgement:?}");
}

#[test]
fn cases() {
    let good = side(1_000, 3, 500);
    check(
        &good,
        &side(99, 0, 500),
        LONG,
        "wait",
        "1 more message of the canary",
    );
    check(
        &side(40, 0, 500),
        &side(99, 0, 500),
        LONG,
        "wait",
        "and 60 more messages of the live",
    );
    check(&good, &side(100, 0, 500), SHORT, "wait", "promoted in 10m");
    check(
        &good,
        &side(100, 0, 500),
        LONG,
        "promote",
        "0 of 100 messages failed (p99 0.51 ms)",
    );
    check(&good, &side(100, 1, 500), LONG, "promote", "");
    check(
        &good,
        &side(100, 20, 500),
        SHORT,
        "roll back",
        "20 of 100 messages failed, and 3 of 1000",
    );
    // What is clear needs no hundred messages.
    check(
        &good,
        &side(5, 5, 500),
        SHORT,
        "roll back",
        "5 of 5 messages failed",
    );
    check(&good, &side(20, 2, 500), SHORT, "wait", "80 more messages");
    // Both fail.
    check(
        &side(1_000, 1_000, 500),
        &side(100, 100, 500),
        LONG,
        "promote",
        "",
    );
    // Slower, but for a part of a millisecond.
    check(&good, &side(100, 0, 1_200), LONG, "promote", "");
    check(
        &good,
        &side(100, 0, 5_000),
        SHORT,
        "roll back",
        "p99 of 5.1",
    );
    check(
        &side(1_000, 0, 100_000),
        &side(100, 0, 120_000),
        LONG,
        "promote",
        "",
    );
    check(
        &side(1_000, 0, 100_000),
        &side(100, 0, 200_000),
        SHORT,
        "roll back",
        "p99 of 213 ms, and 106 ms",
    );
    let none = Side::default();
    check(
        &none,
        &none,
        LONG,
        "wait",
        "100 more messages of the canary and 100 more",
    );
}

#[test]
fn a_crash_is_enough_unless_the_live_version_crashes_as_well() {
    let crashed = |messages, crashed| Side {
        crashed,
        ..side(messages, 0, 500)
    };
    check(
        &crashed(9, 0),
        &crashed(0, 1),
        SHORT,
        "roll back",
        "1 of 1 messages crashed",
    );
    check(
        &Side::default(),
        &crashed(0, 1),
        SHORT,
        "roll back",
        "crashed",
    );
    check(&crashed(990, 10), &crashed(99, 1), LONG, "promote", "");
    let mut policy = policy();
    policy.max_crashes = 2;
    let judged = |count| judge(&policy, &crashed(900, 0), &crashed(200, count), SHORT);
    assert_eq!(says(&judged(2)).0, "wait");
    assert_eq!(says(&judged(3)).0, "roll back");
    policy.lasts_ms = None;
    let judgement = judge(&policy, &crashed(900, 0), &crashed(200, 0), LONG);
    assert!(
        says(&judgement).1.contains("promoted by hand"),
        "{judgement:?}"
    );
}

#[test]
fn what_both_reject_is_the_fault_of_the_messages() {
    let rejecting = |messages, rejected| Side {
        rejected,
        ..side(messages, 0, 500)
    };
    check(
        &rejecting(500, 500),
        &rejecting(50, 50),
        LONG,
        "promote",
        "",
    );
    check(
        &rejecting(900, 0),
        &rejecting(90, 30),
        SHORT,
        "roll back",
        "30 of 120 messages rejected",
    );
}

/// One life of a version: after each message it is judged. Returns whether it was rolled back, and after how many messages.
fn life(random: &mut StdRng, live_fails: f64, canary_fails: f64, slow: u64) -> (bool, u64) {
    let (mut live, mut canary) = (Side::default(), Side::default());
    for messages in 0..20_000 {
        let is_canary = random.random_bool(0.1);
        let (side, fails) = match is_canary {
            true => (&mut canary, canary_fails),
            false => (&mut live, live_fails),
        };
        match random.random_bool(fails) {
            true => side.failed += 1,
            false => side.done += 1,
        }
        // A long tail, as times have one.
        let us = 500 + 1_000_000 / random.random_range(200..100_000_u64);
        side.times.add(match is_canary {
            true => us * slow,
            false => us,
        });
        if messages % 10 == 0
            && let Judgement::RollBack(_) = judge(&policy(), &live, &canary, SHORT)
        {
            return (true, messages);
        }
    }
    (false, 20_000)
}

#[test]
fn an_equal_version_is_hardly_ever_rolled_back_and_a_worse_one_always() {
    let mut random = StdRng::seed_from_u64(1);
    let mut rolled_back = |live: f64, canary: f64, slow: u64| {
        let lives = (0..100).map(|_| life(&mut random, live, canary, slow));
        lives.filter(|(rolled_back, _)| *rolled_back).count()
    };
    for fails in [0.0, 0.001, 0.01, 0.2] {
        let count = rolled_back(fails, fails, 1);
        assert!(count <= 5, "{count} of 100 with {fails}");
    }
    assert_eq!(rolled_back(0.01, 0.1, 1), 100, "it fails more");
    assert_eq!(rolled_back(0.01, 0.01, 3), 100, "it is slower");
}

/// Whatever was counted: more failures of the canary never speak for it.
#[test]
fn what_is_worse_is_never_judged_better() {
    let rank = |judgement: &Judgement| match judgement {
        Judgement::Promote(_) => 2,
        Judgement::Wait(_) => 1,
        Judgement::RollBack(_) => 0,
    };
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..5_000 {
        let mut up_to = |most: u64| random.next_u64() % most;
        let (messages, of_live) = (up_to(400) + 1, up_to(4_000) + 1);
        let live = side(of_live, up_to(of_live), 500);
        let failed = up_to(messages);
        let better = judge(&policy(), &live, &side(messages, failed, 500), LONG);
        let worse = judge(&policy(), &live, &side(messages, failed + 1, 500), LONG);
        assert!(
            rank(&worse) <= rank(&better),
            "{failed} of {messages}: {better:?}, {worse:?}"
        );
    }
}
