//! Counts what it handles in the state, and behaves as one word in it says. The tests of canaries make versions that
//! misbehave by writing other words of the same length over that one; it is not an example of how to write handlers.

use std::hint::black_box;
use std::time::Duration;

use sandbar_guest::{Context, Error, Result, command, query};

/// Long enough to stand in the component in one piece.
static BEHAVIOUR: &str = "version one, behaves well, and says so in words that are too many to be folded into an instruction";

/// Counters, so that messages that are handled at once seldom want the same one.
const SUMS: u64 = 16;

fn words() -> (&'static str, &'static str) {
    let mut words = black_box(BEHAVIOUR).split(", ");
    let (version, behaves) = (words.next(), words.next());
    let behaves = behaves.and_then(|behaves| behaves.strip_prefix("behaves "));
    (version.unwrap_or_default(), behaves.unwrap_or_default())
}

fn spin(turns: u64) {
    for turn in 0..turns {
        black_box(turn);
    }
}

#[expect(clippy::panic, reason = "this is what it is for")]
fn behave(content: &str) -> Result<&'static str> {
    let (version, behaves) = words();
    match behaves {
        "fail" => return Err(Error::failed("it cannot do that")),
        "odds" if content.ends_with(['1', '3', '5', '7', '9']) => {
            return Err(Error::failed("it cannot do odd ones"));
        }
        "deny" => return Err(Error::rejected("nothing is right")),
        "trap" => panic!("it cannot go on"),
        "slow" => spin(200_000_000),
        "hang" => spin(u64::MAX),
        _ => {}
    }
    Ok(version)
}

/// Counts a number, and tells it and the version to `out.tally`.
#[command("tally.add")]
fn add(content: String, ctx: &Context) -> Result<&'static str> {
    let version = behave(&content)?;
    let number: u64 = content
        .parse()
        .map_err(|_| Error::rejected("it is no number"))?;
    ctx.state()
        .increment(&format!("sum.{}", number % SUMS), 1)?;
    ctx.publish("out.tally", format!("{content} {version}"))?;
    Ok(version)
}

/// Says how many numbers were counted; what is asked makes no difference.
#[query("tally.sum")]
fn sum(ctx: &Context) -> Result<String> {
    let mut sum = 0;
    for key in 0..SUMS {
        sum += ctx.state().increment(&format!("sum.{key}"), 0)?;
    }
    Ok(sum.to_string())
}

/// Draws lots, and says what it drew and when.
#[command("tally.draw")]
fn draw(ctx: &Context) -> Result<String> {
    let drawn = format!("{} {:?}", ctx.uuid(), ctx.now());
    ctx.state().set("drawn", &drawn)?;
    Ok(drawn)
}

/// Asks `tally.sum` in its own words.
#[command("tally.ask")]
fn ask(ctx: &Context) -> Result<Vec<u8>> {
    let (version, _) = words();
    let reply = ctx.request("tally.sum", version, Duration::from_secs(10))?;
    Ok(reply.content().to_vec())
}

sandbar_guest::plugin!(add, sum, draw, ask);
