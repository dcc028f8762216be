//! What handlers take and return, seen through a plugin in the testing host.

use std::collections::BTreeMap;

use sandbar_guest::testing::Host;
use sandbar_guest::{
    Bytes, Context, Error, Json, Kind, Request, Response, Result, Status, command, event, query,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Order {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    count: u32,
}

/// Adds up
/// an order.
///
/// This paragraph is not part of the description.
#[command("order.sum")]
fn sum(Json(order): Json<Order>) -> Json<u32> {
    Json(order.items.iter().map(|item| item.count).sum())
}

#[query("bytes")]
fn bytes(content: Bytes) -> Vec<u8> {
    content.into_iter().rev().collect()
}

#[query("text")]
fn text(content: String) -> String {
    content.to_uppercase()
}

#[query("whole")]
fn request(request: Request) -> Response {
    let kind = request.content_type().unwrap_or("none").to_owned();
    Response::new(kind).header("topic", request.topic())
}

#[query("maybe")]
fn maybe(content: Option<String>) -> Option<&'static str> {
    content.map(|_| "something")
}

#[command("swapped")]
fn context(ctx: &Context, content: String) -> String {
    format!("{content} on {}", ctx.topic())
}

#[event("done.>")]
fn nothing() {}

#[event("done.*")]
fn nothing_either(ctx: &Context) -> Result<()> {
    match ctx.header("fail") {
        Some(text) => Err(Error::failed(text)),
        None => Ok(()),
    }
}

#[command("parse")]
fn parse(content: String) -> Result<Json<i32>> {
    Ok(Json(content.parse()?))
}

#[command("own")]
fn own_error(content: String) -> Result<String, std::num::ParseIntError> {
    content.parse::<i32>()?;
    Ok(content)
}

#[query("map")]
fn not_json() -> Json<BTreeMap<Vec<u8>, u8>> {
    Json(BTreeMap::from([(vec![1], 1)]))
}

#[query("status")]
fn status() -> Response {
    Response::text("gone").status(Status::Error)
}

sandbar_guest::plugin!(
    sum,
    bytes,
    text,
    request,
    maybe,
    context,
    nothing,
    nothing_either,
    parse,
    own_error,
    not_json,
    status,
);

fn host() -> Host {
    Host::new(PLUGIN)
}

#[test]
fn routes_come_from_the_attributes() {
    let route = PLUGIN.routes()[0];
    assert_eq!(route.topic(), "order.sum");
    assert_eq!(route.kind(), Kind::Command);
    assert_eq!(route.name(), "sum");
    assert_eq!(route.description(), "Adds up an order.");
    assert_eq!(PLUGIN.routes()[1].description(), "");
    assert_eq!(PLUGIN.routes().len(), 12);
}

#[test]
fn a_handler_is_still_a_function() {
    assert_eq!(text("x".to_owned()), "X");
}

#[test]
fn contents_and_replies() {
    for (topic, content, kind, reply) in [
        (
            "order.sum",
            r#"{"items":[{"count":1},{"count":2}]}"#,
            "application/json",
            "3",
        ),
        ("bytes", "abc", "application/octet-stream", "cba"),
        ("text", "abc", "text/plain; charset=utf-8", "ABC"),
        ("whole", "abc", "x/y", "x/y"),
        ("maybe", "abc", "text/plain; charset=utf-8", "something"),
        (
            "swapped",
            "abc",
            "text/plain; charset=utf-8",
            "abc on swapped",
        ),
        ("parse", "-1", "application/json", "-1"),
    ] {
        let outcome = host().send(topic, Response::new(content).content_type("x/y"));
        let found = outcome.reply().unwrap();
        assert_eq!(
            (outcome.text().as_str(), found.header("Content-Type")),
            (reply, Some(kind)),
            "{topic}"
        );
        assert_eq!(found.status(), Status::Success, "{topic}");
    }
    assert_eq!(host().send("maybe", ()).reply(), None);
}

#[test]
fn a_wrong_content_is_rejected_with_the_path() {
    for (content, text) in [
        (
            json!({"items": [{"count": 1}, {"count": "x"}]}).to_string(),
            "items[1].count: invalid type: string \"x\", expected u32",
        ),
        (json!({}).to_string(), "missing field `items`"),
        ("{} {}".to_owned(), "missing field `items`"),
        (r#"{"items":[]} x"#.to_owned(), "trailing characters"),
        (String::new(), "EOF while parsing"),
    ] {
        let outcome = host().send("order.sum", Response::new(content));
        let error = outcome.error().unwrap();
        assert!(
            error.is_rejected() && error.text().starts_with(text),
            "{error}"
        );
        assert_eq!(outcome.status(), Status::Error);
    }
    let outcome = host().send("text", vec![0xff]);
    assert!(outcome.error().unwrap().is_rejected());
}

#[test]
fn question_marks_fail() {
    for topic in ["parse", "own"] {
        let outcome = host().send(topic, "x");
        assert_eq!(
            outcome.error(),
            Some(&Error::failed("invalid digit found in string"))
        );
        assert_eq!(outcome.status(), Status::SystemError);
    }
    assert!(host().send("map", ()).error().unwrap().is_failed());
}

#[test]
fn a_status_is_the_handlers_choice() {
    let outcome = host().send("status", ());
    assert!(outcome.is_ok());
    assert_eq!(outcome.status(), Status::Error);
}

#[test]
fn an_event_reaches_every_handler_and_each_ends_by_itself() {
    let mut host = host();
    let outcomes = host.message("done.a", ()).header("fail", "no").send_each();
    let ends: Vec<_> = outcomes
        .iter()
        .map(|it| (it.handler(), it.is_ok()))
        .collect();
    assert_eq!(ends, [("nothing", true), ("nothing_either", false)]);
    assert_eq!(host.message("done.a.b", ()).send_each().len(), 1);
    assert_eq!(
        host.message("done.a", ())
            .header("fail", "no")
            .send()
            .handler(),
        "nothing_either"
    );
}

#[test]
fn nobody_there() {
    let outcome = host().send("unknown", Json(Value::Null));
    assert_eq!(outcome.status(), Status::SystemError);
    assert_eq!(
        outcome.error().unwrap().text(),
        "no handler for topic `unknown`"
    );
}
