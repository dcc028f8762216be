//! Native actions that are declared as the handlers of the plugin `enroute` are: the same topics, the same layers, the
//! same trace.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandbar::call::PublishOptions;
use sandbar::context;
use sandbar::dispatch::enroute::{self, Check, Enroute, Next};
use sandbar::dispatch::{Answer, Dispatcher, Kind, Request, Response, ResponseError};
use sandbar::message::Payload;
use sandbar_tests::traffic::topic;
use serde_json::json;

/// What has run in the call that is going on; the tests make one call at a time.
#[derive(Debug, Clone, Default)]
struct Trace(Arc<Mutex<Vec<&'static str>>>);

impl Trace {
    fn add(&self, name: &'static str) {
        self.0.lock().unwrap().push(name);
    }

    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap()).join(", ")
    }
}

fn publish(request: &Request, to: &str, content: impl Into<Payload>) -> Result<(), ResponseError> {
    Ok(request.publish(topic(to), content.into(), PublishOptions::default())?)
}

async fn stored(request: &Request, name: &str) -> Result<bool, ResponseError> {
    Ok(request.state_get(name).await?.is_some())
}

/// The same actions as the plugin has handlers.
pub(crate) fn actions() -> Dispatcher {
    let trace = Trace::default();
    /// A function that gets the trace as well.
    macro_rules! traced {
        ($function:ident($($argument:ident),*)) => {{
            let trace = trace.clone();
            move |$($argument),*| $function(trace.clone(), $($argument),*)
        }};
    }
    let ready = || Check::new("ready", traced!(ready(request)));
    Enroute::new()
        .middleware(traced!(outer(request, next)))
        .before(None, traced!(before_all(request)))
        .before(Kind::Command, traced!(before_commands(request)))
        .before(Kind::Event, traced!(before_events(request)))
        .after(Kind::Command, traced!(after_commands(request, response)))
        .after(Kind::Query, traced!(after_queries(request, response)))
        .action(
            enroute::command("en.do", traced!(act(request)))
                .middleware(traced!(inner(request, next)))
                .middleware(shortcut),
        )
        .action(
            enroute::command("en.checked", traced!(checked(request)))
                .check(Check::new("polite", traced!(polite(request))))
                .check(ready().max_attempts(3).delay(Duration::from_millis(5))),
        )
        .action(
            enroute::command("en.patient", |request| async move {
                Ok(Response::text(request.attempt().to_string()))
            })
            .check(ready().max_attempts(1000).delay(Duration::from_millis(20))),
        )
        .action(enroute::command("en.set", set))
        .action(enroute::query("en.ask", traced!(ask(request))))
        .action(enroute::query("en.context", |_| async { deep().await }))
        .action(enroute::event("en.told", traced!(first(request))))
        .action(enroute::event("en.told", traced!(second(request))))
        .action(enroute::periodic("0 0 1 1 *", traced!(tick(request))))
        .dispatcher()
        .unwrap()
}

async fn outer(trace: Trace, request: Request, next: Next) -> Answer {
    trace.take();
    trace.add("outer in");
    let answer = next.run(request.clone()).await;
    trace.add("outer out");
    let trace = trace.take();
    match answer {
        Ok(response) if request.raw().should_reply() => Ok(response.header("trace", &trace)),
        Ok(response) => {
            publish(&request, "out.trace", Payload::text(trace))?;
            Ok(response)
        }
        Err(ResponseError::Rejected(text)) => {
            Err(ResponseError::rejected(format!("{text} [{trace}]")))
        }
        Err(ResponseError::Failed(text)) => Err(ResponseError::failed(format!("{text} [{trace}]"))),
        Err(error) => Err(error),
    }
}

async fn inner(trace: Trace, request: Request, next: Next) -> Answer {
    trace.add("inner in");
    let response = next.run(request).await?;
    trace.add("inner out");
    Ok(response.header("inner", "yes"))
}

async fn shortcut(request: Request, next: Next) -> Answer {
    match request.headers().get("shortcut") {
        Some(text) => Ok(Response::text(text)),
        None => next.run(request).await,
    }
}

async fn before_all(trace: Trace, _: Request) -> Result<(), ResponseError> {
    trace.add("before all");
    Ok(())
}

async fn before_commands(trace: Trace, request: Request) -> Result<(), ResponseError> {
    trace.add("before commands");
    match request.headers().get("stop") {
        Some(text) => Err(ResponseError::rejected(text)),
        None => Ok(()),
    }
}

async fn before_events(trace: Trace, _: Request) -> Result<(), ResponseError> {
    trace.add("before events");
    Ok(())
}

async fn after_commands(trace: Trace, request: Request, response: Response) -> Answer {
    trace.add("after commands");
    match request.headers().get("late") {
        Some(text) => Err(ResponseError::failed(text)),
        None => Ok(response.header("after", "commands")),
    }
}

async fn after_queries(trace: Trace, _: Request, response: Response) -> Answer {
    trace.add("after queries");
    Ok(response)
}

async fn polite(trace: Trace, request: Request) -> Result<bool, ResponseError> {
    trace.add("polite");
    match request.headers().get("rude") {
        Some(text) => Err(ResponseError::rejected(text)),
        None => Ok(true),
    }
}

async fn ready(trace: Trace, request: Request) -> Result<bool, ResponseError> {
    trace.add("ready");
    stored(&request, "ready").await
}

async fn act(trace: Trace, request: Request) -> Answer {
    trace.add("act");
    Ok(Response::new(request.content()))
}

async fn checked(trace: Trace, _: Request) -> Result<(), ResponseError> {
    trace.add("checked");
    Ok(())
}

async fn set(request: Request) -> Result<(), ResponseError> {
    let content = String::from_utf8_lossy(&request.content()).into_owned();
    match content.split_once('=') {
        Some((name, value)) => request.state_set(name, Some(value.to_owned().into()))?,
        None => request.state_set(&content, None)?,
    }
    Ok(())
}

async fn ask(trace: Trace, _: Request) -> Answer {
    trace.add("ask");
    Response::json(&1)
}

/// Says what is known without being told.
async fn deep() -> Answer {
    tokio::task::yield_now().await;
    let headers = context::headers();
    let note = headers.as_ref().and_then(|headers| headers.get("note"));
    Response::json(&json!({
        "note": note,
        "user": context::user(),
        "reply": context::reply_topic().is_some(),
    }))
}

async fn first(trace: Trace, request: Request) -> Result<(), ResponseError> {
    trace.add("first");
    publish(&request, "out.first", Payload::new(request.content()))
}

async fn second(trace: Trace, request: Request) -> Result<(), ResponseError> {
    trace.add("second");
    publish(&request, "out.second", Payload::new(request.content()))?;
    match stored(&request, "fail").await? {
        true => Err(ResponseError::retry("`fail` is stored")),
        false => Ok(()),
    }
}

async fn tick(trace: Trace, request: Request) -> Result<(), ResponseError> {
    trace.add("tick");
    let due = request.headers().get("due").unwrap_or_default();
    publish(&request, "out.tick", Payload::text(due))?;
    match stored(&request, "fail").await? && request.attempt() == 1 {
        true => Err(ResponseError::retry("`fail` is stored")),
        false => Ok(()),
    }
}
