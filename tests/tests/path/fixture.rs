//! A host with the plugin `misbehave` and native actions that do the same, and ways to look at what it did.

use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::Backend;
use sandbar::call::PublishOptions;
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::dispatch::{Dispatcher, Kind, Request, ResponseError};
use sandbar::message::{Message, Payload, Status};
use sandbar::plugin::PluginSpec;
use sandbar::retry::RetryPolicy;
use sandbar::store::Store;
use sandbar_tests::guests::guest;
use sandbar_tests::servers;
use sandbar_tests::traffic;
pub(crate) use sandbar_tests::traffic::{eventually, topic};

pub(crate) struct Fixture {
    pub(crate) host: Host,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) _folder: tempfile::TempDir,
}

/// A host on a backend with the plugin `misbehave` (topics `bad.*`) and native actions that do the same (`native.*`).
pub(crate) async fn fixture(kind: &str) -> Option<Fixture> {
    let folder = tempfile::tempdir().unwrap();
    let opened = servers::open(kind, folder.path()).await?;
    let mut plugin = ServedPlugin::new(PluginSpec::from_file(&guest("misbehave")));
    plugin.spec.limits.time = Duration::from_millis(400);
    plugin.spec.limits.content = 100_000;
    plugin.spec.grants.state = true;
    plugin.spec.grants.publish = vec!["out.>".parse().unwrap()];
    plugin.spec.grants.request = vec!["native.*".parse().unwrap()];
    plugin.retry = RetryPolicy {
        max_attempts: 3,
        initial: Duration::from_millis(5),
        ..RetryPolicy::default()
    };
    let options = HostOptions {
        plugins: vec![plugin],
        native: Some(native_actions()),
        ..HostOptions::default()
    };
    let host = Host::start(opened.backend.clone(), opened.store.clone(), options)
        .await
        .unwrap();
    Some(Fixture {
        host,
        backend: opened.backend,
        store: opened.store,
        _folder: folder,
    })
}

fn native_actions() -> Dispatcher {
    let mut dispatcher = Dispatcher::default();
    let text = |request: &Request| String::from_utf8_lossy(&request.content()).into_owned();
    let mut add =
        |topic: &str, action: fn(Request, String) -> Result<Option<Payload>, ResponseError>| {
            let pattern = topic.parse().unwrap();
            let action = move |request: Request| {
                let content = text(&request);
                async move { action(request, content) }
            };
            dispatcher.action(Kind::Command, pattern, action).unwrap();
        };
    add("native.reject", |_, text| {
        Err(ResponseError::Rejected(text))
    });
    add("native.fail", |_, text| Err(ResponseError::Failed(text)));
    add("native.status", |_, text| {
        let status = Status::from_code(text.parse().unwrap());
        Ok(Some(Payload::text(text).with_status(status)))
    });
    add("native.headers", |request, _| {
        let mut payload = Payload::new(request.content());
        payload.headers.insert("m", "1").unwrap();
        payload.headers.insert("trace", "").unwrap();
        Ok(Some(payload))
    });
    add("native.retry", |request, _| match request.attempt() {
        3.. => Ok(Some(Payload::text(request.attempt().to_string()))),
        _ => Err(ResponseError::Retry(
            "not yet".to_owned(),
            Some(Duration::from_millis(1)),
        )),
    });
    add("native.retry-forever", |_, _| {
        Err(ResponseError::Retry(
            "never".to_owned(),
            Some(Duration::from_millis(1)),
        ))
    });
    add("native.publish-then-fail", |request, text| {
        request.publish(
            topic("out.x"),
            Payload::text(text.clone()),
            PublishOptions::default(),
        )?;
        request.state_set("x", Some(text.into()))?;
        Err(ResponseError::Failed("after publishing".to_owned()))
    });
    add("native.trap", |_, text| panic!("trapped: {text}"));
    add("native.none", |_, _| Ok(None));
    dispatcher
}

pub(crate) fn message(to: &str, content: &str) -> Message {
    let mut message = traffic::message(to, content);
    message.payload.headers.insert("trace", "abc").unwrap();
    message
}

/// Everything that waits in a topic.
pub(crate) async fn take(fixture: &Fixture, name: &str) -> Vec<Arc<Message>> {
    traffic::take(&*fixture.backend, name).await
}

pub(crate) async fn publish(fixture: &Fixture, message: Message) {
    traffic::publish(&*fixture.backend, message).await;
}
