//! Handlers and ports: how much runs at once, how they start and stop, and how they are made from a configuration.
//!
//! What becomes of their messages is in `path.rs`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Opened, open};
use sandbar::client::Client;
use sandbar::config::Config;
use sandbar::dispatch::{Dispatcher, Kind, Request, Response, ResponseError};
use sandbar::handler::{Handler, HandlerError, Port};
use sandbar::message::Payload;
use sandbar_tests::guests::guest;
use sandbar_tests::traffic::{Questions, SOON, message, publish, take, text, topic, wait_for};
use tokio::sync::Semaphore;

/// How long we look for a message that must not come.
const NEVER: Duration = Duration::from_millis(100);

async fn broker() -> Opened {
    open("memory", Path::new("")).await.unwrap()
}

/// Asks `ask.me`, so that whoever answers sees how many ask at once.
async fn ask(request: Request) -> Result<Response, ResponseError> {
    let question = Payload::new(request.content());
    let reply = request.request(topic("ask.me"), question, SOON).await?;
    Ok(Response::new(reply.payload.content.clone()))
}

fn asking() -> Dispatcher {
    let mut dispatcher = Dispatcher::default();
    dispatcher
        .action(Kind::Command, "native.ask".parse().unwrap(), ask)
        .unwrap();
    dispatcher
}

/// A configuration with the plugin `misbehave`.
fn configured(folder: &Path, limits: &str) -> Config {
    let file = folder.join("sandbar.toml");
    let plugin = guest("misbehave");
    let text = format!(
        "group = \"shop\"\n[plugins.misbehave]\nfile = {plugin:?}\nrequest = [\"ask.me\"]\n[plugins.misbehave.limits]\ntime = \"20s\"\n{limits}"
    );
    std::fs::write(&file, text).unwrap();
    Config::from_file(file).unwrap()
}

/// Sends three times as many messages as may be handled at once, and sees how many are.
async fn at_once(broker: &Opened, to: &str, content: &str, concurrency: usize) {
    let questions = Questions::to(&broker.backend, "ask.me").await;
    for number in 0..3 * concurrency {
        let content = format!("{content}{number}");
        publish(&*broker.backend, message(to, &content)).await;
    }
    for round in 0..3 {
        let asked = questions.exactly(concurrency).await;
        let more = questions.up_to(1, NEVER).await;
        assert!(
            more.is_empty(),
            "round {round}: more than {concurrency} run"
        );
        questions.answer(&asked).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_native_actions_run_at_once() {
    let broker = broker().await;
    let handler = Handler::new(&broker, asking());
    assert_eq!(handler.concurrency(), 5);
    let port = Port::serve(handler).await.unwrap();
    at_once(&broker, "native.ask", "", 5).await;
    assert!(port.stop(SOON).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_native_actions_run_at_once_as_the_handler_says() {
    let broker = broker().await;
    let handler = Handler::new(&broker, asking()).with_concurrency(2);
    let port = Port::serve(handler).await.unwrap();
    at_once(&broker, "native.ask", "", 2).await;
    assert!(port.stop(SOON).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_calls_of_a_plugin_run_at_once() {
    let (broker, folder) = (broker().await, tempfile::tempdir().unwrap());
    let config = configured(folder.path(), "");
    let port = Port::from_config(&config, &broker, "misbehave").await;
    let port = port.unwrap();
    at_once(&broker, "bad.request", "ask.me ", 5).await;
    assert!(port.stop(SOON).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dispatcher_handler_and_port_come_from_the_configuration() {
    let (broker, folder) = (broker().await, tempfile::tempdir().unwrap());
    let config = configured(folder.path(), "concurrency = 2");
    let dispatcher = Dispatcher::from_config(&config, "misbehave").await.unwrap();
    assert!(dispatcher.get_action(&topic("bad.status")).is_ok());

    let handler = Handler::from_config(&config, &broker, "misbehave").await;
    let handler = handler.unwrap();
    assert_eq!(handler.concurrency(), 2);
    assert_eq!(
        handler.dispatcher().routes().len(),
        dispatcher.routes().len()
    );
    drop(handler);

    let port = Port::from_config(&config, &broker, "misbehave").await;
    let port = port.unwrap();
    // In the configured group.
    let queue = "shop.misbehave".parse().unwrap();
    assert!(broker.backend.get_queue(&queue).await.is_ok());
    at_once(&broker, "bad.request", "ask.me ", 2).await;
    let client = Client::connect(broker.backend.clone()).await.unwrap();
    let reply = client.request(message("bad.status", "200"), SOON).await;
    assert_eq!(text(&reply.unwrap()), "200");
    assert!(port.stop(SOON).await);

    let error = Dispatcher::from_config(&config, "misbehav").await;
    let error = error.map(drop).unwrap_err();
    assert!(matches!(error, HandlerError::Unknown { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "no plugin is named `misbehav`; the configuration serves `misbehave`"
    );
}

/// A gate that lets so many through as it was told to, however early it was told.
fn gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

/// Goes through once, as soon as one may.
async fn pass(gate: &Semaphore) {
    gate.acquire().await.unwrap().forget();
}

/// A command that says that it has begun, and ends when it is told to.
fn gated(began: &Arc<Semaphore>, end: &Arc<Semaphore>) -> Dispatcher {
    let (began, end) = (began.clone(), end.clone());
    let mut dispatcher = Dispatcher::default();
    let action = move |request: Request| {
        let (began, end) = (began.clone(), end.clone());
        async move {
            began.add_permits(1);
            pass(&end).await;
            let attempt = Payload::text(request.attempt().to_string());
            request.publish(topic("out.done"), attempt, Default::default())?;
            Ok(())
        }
    };
    dispatcher
        .action(Kind::Command, "gated".parse().unwrap(), action)
        .unwrap();
    dispatcher
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_lets_end_what_runs() {
    let broker = broker().await;
    let (began, end) = (gate(), gate());
    let port = Port::serve(Handler::new(&broker, gated(&began, &end)));
    let port = port.await.unwrap();
    publish(&*broker.backend, message("gated", "")).await;
    pass(&began).await;
    let stopping = tokio::spawn(port.stop(SOON));
    end.add_permits(1);
    assert!(stopping.await.unwrap(), "everything had ended");
    assert_eq!(take(&*broker.backend, "out.done").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_is_bounded_and_what_it_cuts_off_comes_again_without_an_attempt() {
    let broker = broker().await;
    let (began, end) = (gate(), gate());
    for _ in 0..2 {
        // It can be started again as often as one likes.
        let port = Port::serve(Handler::new(&broker, gated(&began, &end)));
        let port = port.await.unwrap();
        publish(&*broker.backend, message("gated", "")).await;
        pass(&began).await;
        assert!(!port.stop(Duration::from_millis(20)).await, "it never ends");
    }
    let port = Port::serve(Handler::new(&broker, gated(&began, &end)));
    let port = port.await.unwrap();
    for _ in 0..2 {
        pass(&began).await;
        end.add_permits(1);
    }
    let done = wait_for(&*broker.backend, "out.done", 2).await;
    assert_eq!(
        (text(&done[0]), text(&done[1])),
        ("1".to_owned(), "1".to_owned())
    );
    assert!(broker.store.dead_letters(9).await.unwrap().is_empty());
    assert!(port.stop(SOON).await);
}
