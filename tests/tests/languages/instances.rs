//! Instances of large components: as many as a host may need, and nothing of one message in the next.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sandbar::backend::MemoryBackend;
use sandbar::call::{Access, Call};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::dispatch::Outcome;
use sandbar::guest::{Engine, Instance, inspect};
use sandbar::message::{Message, Status};
use sandbar::plugin::{Grants, Isolation, Limits};
use sandbar_tests::languages::{Language, PLUGINS};
use sandbar_tests::traffic::message;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(60);

/// More than a pool for small components has room for: of Python, each has 38 core instances.
const MANY: usize = 600;

/// Holds many instances, and prints what they cost in passing: nothing of it is asserted.
async fn many(language: Language) {
    let Some(component) = language.guest("echo") else {
        return;
    };
    let _turn = crate::TURN.lock().await;
    let bytes = std::fs::read(component).unwrap();
    let began = Instant::now();
    let guest = Engine::new().unwrap().load(&bytes).unwrap();
    let compiled = began.elapsed();
    let (plugin, config): (Arc<str>, _) = ("echo".into(), Arc::default());
    let limits = Limits::default();
    let began = Instant::now();
    let mut instances = Vec::new();
    for number in 0..MANY {
        match guest.instantiate(&plugin, &config, &limits).await {
            Ok(instance) => instances.push(instance),
            Err(error) => panic!("after {number} instances: {error}"),
        }
    }
    let fresh = began.elapsed() / u32::try_from(MANY).unwrap();
    let access = Arc::new(Access {
        plugin,
        grants: Grants::default(),
        limits,
        hits: Arc::default(),
        store: Arc::new(MemoryBackend::new()),
        client: None,
        http: None,
    });
    let asked = Arc::new(message("echo", &"x".repeat(1024)));
    // The first call of an instance touches what it shares with the others so far.
    let (first, used) = calls(instances, &access, &asked).await;
    let (warm, _) = calls(used, &access, &asked).await;
    println!(
        "{}: {} bytes, compiled in {compiled:.1?}; of {MANY} instances at once each took {fresh:.1?} to make, \
         {first:.1?} for its first call and {warm:.1?} for its second, 1 KiB in and out",
        language.name(),
        bytes.len()
    );
}

/// One call of each; how long it took in the mean.
async fn calls(
    instances: Vec<Instance>,
    access: &Arc<Access>,
    asked: &Arc<Message>,
) -> (Duration, Vec<Instance>) {
    let (began, count) = (Instant::now(), u32::try_from(instances.len()).unwrap());
    let mut used = Vec::new();
    for instance in instances {
        let call = Call::new(access.clone(), asked.clone(), 1, 0, 0);
        let (_, outcome, left) = instance.handle(call).await;
        match outcome {
            Outcome::Done(Some(reply)) => assert_eq!(reply.content, asked.payload.content),
            other => panic!("{other:?}"),
        }
        used.push(left.expect("it may be used again"));
    }
    (began.elapsed() / count, used)
}

async fn fresh(language: Language) {
    let Some(mut spec) = crate::spec(language, "misbehave") else {
        return;
    };
    let _turn = crate::TURN.lock().await;
    spec.limits.isolation = Isolation::Message;
    let options = HostOptions {
        plugins: vec![ServedPlugin::new(spec)],
        ..HostOptions::default()
    };
    let backend = Arc::new(MemoryBackend::new());
    let host = Host::start(backend.clone(), backend, options)
        .await
        .unwrap();
    let secret = "secret".repeat(1000);
    for _ in 0..10 {
        let keep = || {
            host.client()
                .request(message("bad.keep", &secret), PATIENCE)
        };
        for reply in join_all((0..10).map(|_| keep())).await {
            let payload = &reply.unwrap().payload;
            assert!(payload.status == Status::Success, "{payload:?}");
            assert_eq!(payload.content.len(), 0, "what another message left");
        }
    }
    assert!(host.stop(PATIENCE).await);
}

fn read(language: Language) {
    for name in PLUGINS {
        let Some(component) = language.guest(name) else {
            return;
        };
        let found = inspect(&std::fs::read(component).unwrap()).unwrap();
        assert_eq!(
            found.world.as_deref(),
            Some("sandbar:messaging/plugin@0.1.0"),
            "{name}"
        );
        let wasi: Vec<_> = found
            .imports
            .iter()
            .filter(|name| name.starts_with("wasi:"))
            .collect();
        assert!(wasi.is_empty(), "{name} imports {wasi:?}");
        assert_eq!(
            found.core_instances, found.core_modules,
            "{name}: each module has one instance"
        );
    }
}

#[test]
fn components_of_python_import_no_wasi() {
    read(Language::Python);
}

#[test]
fn components_of_typescript_import_no_wasi() {
    read(Language::TypeScript);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_holds_many_instances_of_python() {
    many(Language::Python).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_holds_many_instances_of_typescript() {
    many(Language::TypeScript).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_python_sees_nothing_of_another() {
    fresh(Language::Python).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_typescript_sees_nothing_of_another() {
    fresh(Language::TypeScript).await;
}
