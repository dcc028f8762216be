//! What runs around handlers and in which order, seen through a plugin in the testing host.

use std::time::Duration;

use sandbar_guest::testing::Host;
use sandbar_guest::{
    Context, Error, Json, Kind, Next, Request, Response, Result, Status, after, before, command,
    event, info, middleware, periodic, query,
};

/// Writes the name of what runs, so that the log is the order.
fn trace(name: &str) {
    info!("{name}");
}

#[before(command)]
fn before_commands(request: &Request, ctx: &Context) -> Result<()> {
    trace("before_commands");
    match request.header("stop") {
        Some(text) if ctx.attempt() == 1 => Err(Error::rejected(text)),
        _ => Ok(()),
    }
}

#[before(all)]
fn before_all() {
    trace("before_all");
}

#[before(event)]
fn before_events(ctx: &Context) -> Result<(), std::num::ParseIntError> {
    trace("before_events");
    ctx.header("number").unwrap_or("0").parse::<u8>().map(drop)
}

#[after(command)]
fn after_commands(ctx: &Context, response: &mut Response) -> Result<()> {
    trace("after_commands");
    response.set_header("topic", ctx.topic());
    if response.content() == b"spoilt" {
        response.set_content("replaced");
        response.set_status(Status::Error);
    }
    match ctx.header("late") {
        Some(text) => Err(Error::failed(text)),
        None => Ok(()),
    }
}

#[after(query)]
fn after_queries(response: &Response) {
    trace("after_queries");
    assert_eq!(response.current_status(), Status::Success);
}

#[middleware]
fn outer(request: Request, ctx: &Context, next: Next<'_>) -> Result<Response> {
    trace("outer in");
    assert_eq!(request.topic(), ctx.topic());
    let response = next.run(request);
    trace("outer out");
    response
}

#[middleware]
fn inner(next: Next<'_>, request: Request) -> Result<Response> {
    trace("inner in");
    let response = next.run(request)?;
    trace("inner out");
    Ok(response.header("inner", "yes"))
}

/// Answers by itself when it is told to.
#[middleware]
fn shortcut(request: Request, next: Next<'_>) -> Response {
    match request.header("shortcut") {
        Some(text) => Response::text(text),
        None => next
            .run(request)
            .unwrap_or_else(|error| Response::text(error.text())),
    }
}

fn ready(_: &Request, ctx: &Context) -> Result<bool> {
    trace("ready");
    Ok(ctx.state().get("ready")?.is_some())
}

fn polite(request: &Request, _: &Context) -> Result<bool> {
    trace("polite");
    match request.header("rude") {
        Some(text) => Err(Error::rejected(text)),
        None => Ok(true),
    }
}

#[command("do", middleware(inner, shortcut))]
fn act(content: String) -> String {
    trace("act");
    content
}

#[command(
    "checked",
    check(polite),
    check(ready, delay_ms = 250, max_attempts = 3)
)]
fn checked(ctx: &Context) -> Result<()> {
    trace("checked");
    Ok(ctx.state().set("done", "")?)
}

#[command("default", check(ready))]
fn default_check() {}

#[query("ask")]
fn ask() -> Json<u8> {
    trace("ask");
    Json(1)
}

#[event("told")]
fn told() {
    trace("told");
}

/// Counts.
#[periodic("*/5 * * * *", middleware(inner))]
fn tick(ctx: &Context) -> Result<()> {
    trace(ctx.topic());
    if ctx.attempt() == 2 {
        return Err(Error::retry("again"));
    }
    ctx.state().increment("ticks", 1)?;
    Ok(())
}

sandbar_guest::plugin! {
    handlers: act, checked, default_check, ask, told, tick,;
    before: before_all, before_commands, before_events;
    after: after_commands, after_queries;
    middleware: outer;
}

fn host() -> Host {
    Host::new(PLUGIN).grant_state()
}

fn order(host: &Host) -> Vec<&str> {
    host.logs()
        .iter()
        .map(|line| line.message.as_str())
        .collect()
}

#[test]
fn layers_run_from_the_outside_in_and_out_again() {
    let mut host = host();
    let outcome = host.send("do", "x");
    let expected = [
        "outer in",
        "inner in",
        "before_all",
        "before_commands",
        "act",
        "after_commands",
        "inner out",
        "outer out",
    ];
    assert_eq!(order(&host), expected);
    let reply = outcome.reply().unwrap();
    assert_eq!(
        (reply.text(), reply.header("topic"), reply.header("inner")),
        ("x".to_owned(), Some("do"), Some("yes"))
    );
}

#[test]
fn hooks_run_for_their_kind() {
    for (topic, expected) in [
        (
            "ask",
            [
                "outer in",
                "before_all",
                "ask",
                "after_queries",
                "outer out",
            ]
            .as_slice(),
        ),
        (
            "told",
            &[
                "outer in",
                "before_all",
                "before_events",
                "told",
                "outer out",
            ],
        ),
    ] {
        let mut host = host();
        assert!(host.send(topic, ()).is_ok());
        assert_eq!(order(&host), expected);
    }
}

#[test]
fn an_error_of_a_hook_ends_the_call() {
    let mut host = host();
    let outcome = host.message("checked", "x").header("stop", "no").send();
    assert_eq!(outcome.error(), Some(&Error::rejected("no")));
    assert_eq!(
        order(&host),
        ["outer in", "before_all", "before_commands", "outer out"]
    );
    let outcome = host.message("told", ()).header("number", "x").send();
    assert!(outcome.error().unwrap().is_failed());
    let mut host = host.stored("ready", "");
    let outcome = host
        .message("checked", "x")
        .header("late", "too late")
        .send();
    assert_eq!(outcome.error(), Some(&Error::failed("too late")));
    assert!(!host.state().contains_key("done"));
}

#[test]
fn an_after_hook_can_change_the_reply() {
    let outcome = host().send("do", "spoilt");
    assert_eq!(
        (outcome.status(), outcome.text()),
        (Status::Error, "replaced".to_owned())
    );
    let outcome = host().stored("ready", "").send("default", ());
    // An empty success gets the header of the hook all the same.
    assert_eq!(outcome.reply().unwrap().header("topic"), Some("default"));
}

#[test]
fn middleware_can_answer_by_itself() {
    let mut host = host();
    let outcome = host.message("do", "x").header("shortcut", "short").send();
    assert_eq!(outcome.text(), "short");
    assert_eq!(
        order(&host),
        ["outer in", "inner in", "inner out", "outer out"]
    );
    let outcome = host.message("do", "x").header("stop", "no").send();
    assert_eq!(
        (outcome.status(), outcome.text()),
        (Status::Success, "no".to_owned())
    );
}

#[test]
fn a_check_puts_the_message_off_and_rejects_it_in_the_end() {
    let mut host = host();
    let later = Error::retry_after("check `ready` is not satisfied", Duration::from_millis(250));
    for attempt in [1, 2] {
        let outcome = host.message("checked", ()).attempt(attempt).send();
        assert_eq!(outcome.error(), Some(&later));
    }
    for attempt in [3, 4] {
        let outcome = host.message("checked", ()).attempt(attempt).send();
        let text = "check `ready` was not satisfied in 3 attempts";
        assert_eq!(outcome.error(), Some(&Error::rejected(text)));
    }
    let outcome = host.message("checked", ()).header("rude", "never").send();
    assert_eq!(outcome.error(), Some(&Error::rejected("never")));
    assert!(!order(&host).contains(&"checked"));

    let outcome = host.send("default", ());
    assert_eq!(
        outcome.error().unwrap().after(),
        Some(Duration::from_millis(100))
    );
    assert!(
        host.message("default", ())
            .attempt(4)
            .send()
            .error()
            .unwrap()
            .is_retry()
    );
    assert!(
        host.message("default", ())
            .attempt(5)
            .send()
            .error()
            .unwrap()
            .is_rejected()
    );

    let mut host = host.stored("ready", "");
    assert!(host.send("checked", ()).is_ok());
}

#[test]
fn a_periodic_handler_has_a_schedule_and_no_topic() {
    let route = PLUGIN.routes()[5];
    assert_eq!(
        (route.kind(), route.topic()),
        (Kind::Periodic, "*/5 * * * *")
    );
    let mut host = host();
    assert!(host.periodic("tick").send().is_ok());
    assert_eq!(host.state()["ticks"], b"1");
    let names = [
        "outer in",
        "inner in",
        "before_all",
        "periodic.plugin",
        "inner out",
        "outer out",
    ];
    assert_eq!(order(&host), names);
    assert!(
        host.periodic("tick")
            .attempt(2)
            .send()
            .error()
            .unwrap()
            .is_retry()
    );
    assert_eq!(
        host.periodic("tock").send().error().unwrap().text(),
        "no periodic handler `tock`"
    );
    for topic in ["periodic.plugin", "*/5 * * * *"] {
        assert_eq!(host.send(topic, ()).handler(), "", "{topic}");
    }
}
