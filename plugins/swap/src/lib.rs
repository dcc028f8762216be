//! Says which version of itself it is. The tests of live reload make other versions of the built component by writing other
//! words of the same length over these; it is not an example of how to write handlers.

use std::hint::black_box;

use sandbar_guest::{Context, Error, Result, command, event, periodic};

/// Long enough to stand in the component in one piece.
static VERSION: &str =
    "version one, which says so in words that are too many to be folded into an instruction";

fn version() -> &'static str {
    let (version, _) = black_box(VERSION).split_once(',').unwrap_or_default();
    version
}

fn tell(topic: &str, content: &str, ctx: &Context) -> Result<()> {
    Ok(ctx.publish(topic, format!("{content} {}", version()))?)
}

/// Replies with the version.
#[command("swap.ask")]
fn ask() -> &'static str {
    version()
}

/// Publishes its content and the version to `out.told`.
#[event("swap.told")]
fn told(content: String, ctx: &Context) -> Result<()> {
    tell("out.told", &content, ctx)
}

/// The one handler, which waits.
#[event("swap.going")]
fn first(content: String, ctx: &Context) -> Result<()> {
    match ctx.state().get("go")? {
        Some(_) => tell("out.first", &content, ctx),
        None => Err(Error::retry("the key `go` is not set")),
    }
}

/// The other handler, which acts
#[event("swap.going")]
fn second(content: String, ctx: &Context) -> Result<()> {
    tell("out.second", &content, ctx)
}

/// Sets the key `go`.
#[command("swap.go")]
fn go(ctx: &Context) -> Result<()> {
    Ok(ctx.state().set("go", "now")?)
}

/// Works until its time is over.
#[command("swap.spin")]
fn spin() {
    let mut turns = 0_u64;
    while black_box(true) {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Tells the version once a year.
#[periodic("0 0 1 1 *")]
fn tick(ctx: &Context) -> Result<()> {
    tell("out.tick", "tick", ctx)
}

sandbar_guest::plugin!(ask, told, first, second, go, spin, tick);
