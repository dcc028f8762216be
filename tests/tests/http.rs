//! Requests of plugins over HTTP: to whom they go, how much of them, and what becomes of them when something breaks.
//!
//! A real guest, a real server on this machine. How patterns are read is tested in `host/src/http/` and in
//! `hostile_input/addresses.rs`.

use std::path::PathBuf;
use std::time::Duration;

use sandbar::backend::{Opened, open};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::message::{Message, Payload, Status};
use sandbar::plugin::PluginSpec;
use sandbar::retry::RetryPolicy;
use sandbar::store::{KeptLetter, LetterFilter, Reason};
use sandbar_tests::contract::{Failure, Outcome};
use sandbar_tests::guests::guest;
use sandbar_tests::servers::web::Web;
use sandbar_tests::traffic::{SOON, eventually};
use serde_json::{Value, json};

#[path = "http/effects.rs"]
mod effects;

/// A host with the plugin that sends requests, and a neighbour.
struct There {
    host: Host,
    opened: Opened,
    _folder: tempfile::TempDir,
}

/// The plugin with grants for these addresses.
fn spec(http: Option<&[&str]>) -> PluginSpec {
    let mut spec = PluginSpec::from_file(&guest("fetch"));
    let patterns = |http: &[&str]| {
        http.iter()
            .map(|it| it.parse().expect("a pattern"))
            .collect()
    };
    spec.grants.http = http.map(patterns);
    spec.grants.state = true;
    spec.grants.publish = vec!["out.>".parse().expect("a pattern")];
    spec
}

impl There {
    async fn granted(http: &[&str]) -> Result<Self, Failure> {
        Self::with(spec(Some(http)), None).await
    }

    async fn with(spec: PluginSpec, http_ca: Option<PathBuf>) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let opened = open("embedded", folder.path()).await?;
        let mut fetch = ServedPlugin::new(spec);
        fetch.retry = RetryPolicy {
            max_attempts: 2,
            initial: Duration::from_millis(1),
            ..RetryPolicy::default()
        };
        let echo = ServedPlugin::new(PluginSpec::from_file(&guest("echo")));
        let options = HostOptions {
            plugins: vec![echo, fetch],
            http_ca,
            ..HostOptions::default()
        };
        let host = Host::start(opened.backend.clone(), opened.store.clone(), options).await?;
        Ok(Self {
            host,
            opened,
            _folder: folder,
        })
    }

    async fn ask(&self, topic: &str, content: &str) -> Result<Payload, Failure> {
        let message = Message::new(topic.parse()?, Payload::text(content));
        let reply = self.host.client().request(message, SOON).await?;
        Ok(reply.payload.clone())
    }

    /// What a request that succeeds says.
    async fn got(&self, topic: &str, content: &str) -> Result<Value, Failure> {
        let reply = self.ask(topic, content).await?;
        let said = String::from_utf8_lossy(&reply.content).into_owned();
        assert_eq!(reply.status, Status::Success, "{said}");
        Ok(serde_json::from_str(&said)?)
    }

    /// The dead letter of a message that fails.
    async fn fails(&self, topic: &str, content: &str) -> Result<KeptLetter, Failure> {
        let reply = self.ask(topic, content).await?;
        assert_ne!(reply.status, Status::Success, "{reply:?}");
        let (store, newest) = (&self.opened.store, LetterFilter::default());
        let page = store.letters(&newest, None, 1).await?;
        let summary = page.letters.first().ok_or("it is no dead letter")?;
        let kept = self.opened.store.letter(summary.id).await?;
        kept.ok_or_else(|| "it is gone".into())
    }

    /// The neighbour replies.
    async fn is_served(&self) -> Outcome {
        let reply = self.ask("echo", "are you there?").await?;
        assert_eq!(&reply.content[..], b"are you there?");
        Ok(())
    }
}

/// Failed for this reason, with an error that says so.
fn ended(kept: &KeptLetter, reason: Reason, error: &str) {
    let letter = &kept.letter;
    assert_eq!(letter.reason, reason, "{letter:?}");
    assert!(letter.error.contains(error), "{}", letter.error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_granted_is_sent() -> Outcome {
    let web = Web::start().await;
    let there = There::granted(&[&web.url("/*")]).await?;
    let got = there.got("fetch.get", &web.url("/ok?a=b")).await?;
    assert_eq!(
        (&got["status"], &got["body"]),
        (&json!(200), &json!("hello"))
    );
    let wanted =
        json!({ "url": web.url("/echo"), "body": "ä".repeat(5000), "headers": [["x-a", "b"]] });
    let got = there.got("fetch.post", &wanted.to_string()).await?;
    assert_eq!(
        (&got["status"], &got["bytes"]),
        (&json!(200), &json!(10_000))
    );
    let asked = web.asked();
    let lines: Vec<&str> = asked.iter().map(|asked| asked.line.as_str()).collect();
    assert_eq!(lines, ["GET /ok?a=b", "POST /echo"]);
    let host = format!("127.0.0.1:{}", web.port());
    assert_eq!(asked[0].header("host"), Some(host.as_str()));
    assert_eq!(asked[1].header("x-a"), Some("b"));
    assert_eq!(asked[1].body, "ä".repeat(5000).as_bytes());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_granted_is_refused() -> Outcome {
    let web = Web::start().await;
    let port = web.port();
    for (granted, url) in [
        (vec![], web.url("/ok")),
        (vec!["https://api.example.com/*".to_owned()], web.url("/ok")),
        (vec![web.url("/v1/*")], web.url("/ok")),
        (vec![web.url("/v1/*")], web.url("/v1/../ok")),
        (vec![web.url("/v1/*")], web.url("/v1/%2e%2e/ok")),
        (vec![web.url("/*")], format!("http://localhost:{port}/ok")),
        (vec![web.url("/*")], format!("https://127.0.0.1:{port}/ok")),
    ] {
        let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
        let there = There::granted(&granted).await?;
        let kept = there.fails("fetch.get", &url).await?;
        ended(&kept, Reason::Forbidden, "HttpRequestDenied");
        ended(&kept, Reason::Forbidden, "under [plugins.fetch]");
        let report = kept.history.report.ok_or("a report")?;
        let line = report.refused.first().ok_or("a refusal")?;
        // What it offers grants it.
        let offered = line.split('"').nth(1).ok_or("a line")?;
        let there = There::granted(&[offered]).await?;
        let asked = web.asked().len();
        there.ask("fetch.get", &url).await?;
        assert_eq!(
            web.asked().len() - asked,
            usize::from(!url.starts_with("https")),
            "{offered}"
        );
    }
    Ok(())
}

/// A user before the host, a port that is none, a name in other letters: nobody is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_malformed_is_refused() -> Outcome {
    let web = Web::start().await;
    let there = There::granted(&[&web.url("/*")]).await?;
    let port = web.port();
    for url in [
        format!("http://me@127.0.0.1:{port}/ok"),
        format!("http://127.1:{port}/ok"),
        format!("http://127.0.0.1:0{port}/ok"),
        format!("http://127.0.0.1.:{port}/ok"),
        "ftp://127.0.0.1/ok".to_owned(),
    ] {
        let kept = there.fails("fetch.get", &url).await?;
        ended(&kept, Reason::Failed, "");
    }
    assert!(web.asked().is_empty());
    Ok(())
}

/// A component that can send is not loaded where nothing is said about it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_default_it_is_not_even_loaded() -> Outcome {
    let refused = There::with(spec(None), None)
        .await
        .err()
        .ok_or("it is loaded")?;
    let error = refused.to_string();
    assert!(
        error.contains("it imports wasi:http/outgoing-handler@0.2"),
        "{error}"
    );
    assert!(
        error.contains("add `http = [\"https://HOST/*\"]` under [plugins.fetch]"),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_an_answer() -> Outcome {
    let web = Web::start().await;
    let there = There::granted(&[&web.url("/*")]).await?;
    let got = there.got("fetch.get", &web.url("/redirect")).await?;
    assert_eq!(
        (&got["status"], &got["location"]),
        (&json!(302), &json!("/ok"))
    );
    assert_eq!(web.asked().len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_trusted_by_its_certificate() -> Outcome {
    let web = Web::start_tls().await;
    let spec = || spec(Some(&[&web.url("/*")]));
    let there = There::with(spec(), Some(Web::certificate())).await?;
    let got = there.got("fetch.get", &web.url("/ok")).await?;
    assert_eq!(got["body"], "hello");
    let there = There::with(spec(), None).await?;
    let kept = there.fails("fetch.get", &web.url("/ok")).await?;
    ended(&kept, Reason::Failed, "TlsCertificateError");
    assert_eq!(web.asked().len(), 1);
    Ok(())
}

/// The handler waits for a server, and nobody else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_server_holds_up_nobody_else() -> Outcome {
    let web = Web::start().await;
    let mut spec = spec(Some(&[&web.url("/*")]));
    spec.limits.time = SOON;
    let there = There::with(spec, None).await?;
    let held = web.url("/held");
    let (got, ()) = tokio::try_join!(there.got("fetch.get", &held), async {
        eventually("it is asked", async || web.asked().len() == 1).await;
        for _ in 0..20 {
            there.is_served().await?;
        }
        web.release(1);
        Ok(())
    })?;
    assert_eq!(got["body"], "at last");
    Ok(())
}

/// The time of a call is also that of what it waits for, wherever the server stops to answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_ends_with_the_time_of_its_call() -> Outcome {
    let web = Web::start().await;
    let mut spec = spec(Some(&[&web.url("/*")]));
    spec.limits.time = Duration::from_millis(300);
    let there = There::with(spec, None).await?;
    for path in ["/silent", "/drip"] {
        let kept = there.fails("fetch.get", &web.url(path)).await?;
        ended(&kept, Reason::Timeout, "took longer than 300ms");
        there.is_served().await?;
    }
    eventually("no connection is left", async || web.open() == 0).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_limits_is_refused() -> Outcome {
    let web = Web::start().await;
    let mut spec = spec(Some(&[&web.url("/*")]));
    spec.limits.http_requests = 3;
    spec.limits.http_bytes = 64 << 10;
    let there = There::with(spec, None).await?;
    let (big, echo) = (
        web.url("/big/100000"),
        format!("100000 {}", web.url("/echo")),
    );
    let many = format!("4 {}", web.url("/ok"));
    let headers = web.url("/headers/1000");
    for (topic, content, code, limit) in [
        (
            "fetch.get",
            &big,
            "HTTP response body size exceeds limit",
            "raise `limits.http_bytes`",
        ),
        (
            "fetch.upload",
            &echo,
            "HttpRequestBodySize",
            "raise `limits.http_bytes`",
        ),
        (
            "fetch.many",
            &many,
            "request 4: ErrorCode::ConnectionLimitReached",
            "raise `limits.http_requests`",
        ),
    ] {
        let kept = there.fails(topic, content).await?;
        ended(&kept, Reason::Limit, code);
        ended(&kept, Reason::Limit, limit);
        there.is_served().await?;
    }
    let hits = there.host.limits_hit("fetch").into_iter();
    let hits: Vec<_> = hits.filter(|(_, count)| *count > 0).collect();
    assert_eq!(hits, [("http_requests", 1), ("http_bytes", 2)]);
    let kept = there.fails("fetch.get", &headers).await?;
    ended(&kept, Reason::Failed, "HttpResponseHeaderSectionSize");
    let kept = there.fails("fetch.get", &web.url("/broken")).await?;
    ended(&kept, Reason::Failed, "HTTP protocol error");
    eventually("no connection is left", async || web.open() == 0).await;
    Ok(())
}

/// Somebody listens and says nothing, not even for TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_not_made_in_time_is_a_limit() -> Outcome {
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let url = format!("https://{}/", silent.local_addr()?);
    let mut spec = spec(Some(&[&format!("{url}*")]));
    spec.limits.http_connect_time = Duration::from_millis(200);
    let there = There::with(spec, None).await?;
    let kept = there.fails("fetch.get", &url).await?;
    ended(&kept, Reason::Limit, "raise `limits.http_connect_time`");
    let hits = there.host.limits_hit("fetch").into_iter();
    let hits: Vec<_> = hits.filter(|(_, count)| *count > 0).collect();
    assert_eq!(hits, [("http_connect_time", 1)]);
    there.is_served().await
}

/// What a message does not wait for is broken off with it, although its instance stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_call_outlives_it() -> Outcome {
    let web = Web::start().await;
    let mut spec = spec(Some(&[&web.url("/*")]));
    spec.limits.concurrency = 1;
    let there = There::with(spec, None).await?;
    there.ask("fetch.leave", &web.url("/held")).await?;
    eventually("no connection is left", async || web.open() == 0).await;
    let left = there.ask("fetch.left", "").await?;
    let left = String::from_utf8_lossy(&left.content).into_owned();
    assert_eq!(left, "ErrorCode::ConnectionReadTimeout");
    Ok(())
}

/// The name of this machine is one that leads inside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_inside_is_refused() -> Outcome {
    let web = Web::start().await;
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let (name, port) = (name.trim().to_ascii_lowercase(), web.port());
    let found = tokio::net::lookup_host((name.as_str(), port)).await;
    let loopback = found.is_ok_and(|mut found| found.all(|it| it.ip().is_loopback()));
    if name == "localhost" || !loopback {
        println!("skipped: {name} does not lead to this machine alone");
        return Ok(());
    }
    let url = format!("http://{name}:{port}/ok");
    let pattern = format!("http://{name}:{port}/*");
    let there = There::granted(&[&pattern]).await?;
    let kept = there.fails("fetch.get", &url).await?;
    ended(&kept, Reason::Forbidden, "DestinationIpProhibited");
    let line = format!("add `http = [\"private+{pattern}\"]` under [plugins.fetch]");
    ended(&kept, Reason::Forbidden, &line);
    let plugins = there.host.plugins();
    let plugin = plugins.iter().find(|it| &*it.name == "fetch").unwrap();
    let refused = plugin.counts().refusals().find(|(of, _)| *of == "http");
    assert!(refused.is_some_and(|(_, count)| count > 0), "{refused:?}");
    assert!(web.asked().is_empty());
    let there = There::granted(&[&format!("private+{pattern}")]).await?;
    assert_eq!(there.got("fetch.get", &url).await?["status"], 200);
    // What this machine calls itself is this machine.
    let local = format!("http://localhost:{port}");
    let there = There::granted(&[&format!("{local}/*")]).await?;
    assert_eq!(
        there.got("fetch.get", &format!("{local}/ok")).await?["status"],
        200
    );
    Ok(())
}

/// What the page shows is what is tested here.
#[test]
fn the_page_about_http_quotes_the_plugin() {
    const PAGE: &str = include_str!("../../docs/http.md");
    const PLUGIN: &str = include_str!("../../plugins/fetch/src/lib.rs");
    let quoted = PAGE.split("```rust\n").nth(1).expect("an example");
    let quoted = quoted.split("```").next().expect("its end");
    assert!(PLUGIN.contains(quoted), "{quoted}");
}
