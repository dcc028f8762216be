//! A request is out when it is sent: what happens when its message is handled again, and where nothing is sent.

use super::*;

use std::collections::BTreeMap;
use std::sync::Arc;

use sandbar::guest::Engine;
use sandbar::plugin::{Loader, Plugin, Secrets};
use sandbar::store::{BodyEnd, Fetched, Step};
use sandbar::trial::{Ended, Run, Trial, journal, trial};
use sandbar::wire::Form;
use sandbar_tests::process::Folder;
use sandbar_tests::traffic::{take, text};

const SECRET: &str = "hunter2-Zq7";

/// With a secret that it puts into what it sends.
fn secretive(web: &Web) -> PluginSpec {
    let mut spec = spec(Some(&[&web.url("/*")]));
    let secrets = BTreeMap::from([("API_KEY".to_owned(), SECRET.to_owned())]);
    spec.grants.secrets = Secrets::new(secrets);
    spec
}

impl There {
    /// Has a plugin handle the letter once more.
    async fn tries(
        &self,
        plugin: &Arc<Plugin>,
        kept: &KeptLetter,
        run: Run,
    ) -> Result<Trial, Failure> {
        let store = self.opened.store.clone();
        let trials = trial(plugin, Form::Native, kept, store, run).await;
        let mut trials = trials.map_err(|(_, error)| error)?;
        Ok(trials.remove(0))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_is_run_again_sends_nothing() -> Outcome {
    let web = Web::start().await;
    let there = There::with(secretive(&web), None).await?;
    let wanted = json!({
        "url": web.url(&format!("/status/500?key={SECRET}")),
        "headers": [["authorization", "Bearer abc"], ["x-key", SECRET]],
        "body": format!("the key is {SECRET}"),
    });
    let kept = there.fails("fetch.post", &wanted.to_string()).await?;
    ended(&kept, Reason::Failed, "got 500");
    let sent = web.asked();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].header("x-key"), Some(SECRET));

    // Everything is kept of it but what nobody is to see.
    let found = journal(&kept).ok_or("a journal")?;
    let [
        Step::Fetched {
            method,
            headers,
            content,
            answer,
            ..
        },
    ] = found.steps.as_slice()
    else {
        return Err(format!("{:?}", found.steps).into());
    };
    assert_eq!(
        (method.as_str(), &content.0[..]),
        ("POST", &b"the key is [secret API_KEY]"[..])
    );
    let header = |name: &str| {
        let found = headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(header("authorization"), Some("[hidden]"));
    assert_eq!(header("x-key"), Some("[secret API_KEY]"));
    assert!(
        matches!(
            answer,
            Fetched::Response {
                status: 500,
                end: BodyEnd::Whole,
                ..
            }
        ),
        "{answer:?}"
    );
    let text = format!("{found:?}{}", serde_json::to_string(found)?);
    assert!(!text.contains(SECRET) && !text.contains("Bearer"), "{text}");

    let plugin = Loader::new(Engine::new()?).load(secretive(&web)).await?;
    let again = there.tries(&plugin, &kept, Run::Again).await?;
    assert_eq!(
        again.ended,
        Ended::Failed(Reason::Failed, "got 500".to_owned())
    );
    assert_eq!(again.steps, found.steps, "the same, to the letter");

    // As if it came now there is no answer to give.
    let now = there.tries(&plugin, &kept, Run::Now).await?;
    let Ended::Failed(_, error) = &now.ended else {
        return Err(format!("{:?}", now.ended).into());
    };
    assert!(
        error.contains("requests are not sent while a message is tried"),
        "{error}"
    );
    assert_eq!(web.asked(), sent, "nobody is asked again");
    Ok(())
}

/// A response that is larger than the journal breaks off where that does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_in_the_journal_is_not_made_up() -> Outcome {
    let web = Web::start().await;
    let spec = spec(Some(&[&web.url("/*")]));
    let there = There::with(spec.clone(), None).await?;
    // It reads all of the body, and fails then.
    let kept = there.fails("fetch.echo", &web.url("/big/100000")).await?;
    ended(&kept, Reason::Failed, "that is too much");
    let sent = web.asked().len();
    let plugin = Loader::new(Engine::new()?).load(spec).await?;
    let again = there.tries(&plugin, &kept, Run::Again).await?;
    let Ended::Failed(_, error) = &again.ended else {
        return Err(format!("{:?}", again.ended).into());
    };
    assert!(
        error.contains("the rest of the response is not in the journal"),
        "{error}"
    );
    assert_eq!(web.asked().len(), sent);
    Ok(())
}

/// Killed while it waits for the server: the message is handled again and asks again, with the same key; what it causes is
/// there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_repeats_the_request_and_nothing_else() -> Outcome {
    let web = Web::start().await;
    let folder = Folder::new();
    folder.guest("fetch", "plugins/fetch.wasm");
    let config = format!(
        "[plugins.fetch]\nstate = true\npublish = [\"out.>\"]\nhttp = [\"{}\"]\n[plugins.fetch.limits]\ntime = \"1m\"\n",
        web.url("/*")
    );
    folder.write("sandbar.toml", config);
    let host = folder.host::<&str>([]);
    let sent = folder.run(["send", "fetch.told", &web.url("/held")]);
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    eventually("it is asked", async || web.asked().len() == 1).await;
    host.signal("KILL");
    assert_eq!(host.ended().code, None, "ended by the signal");
    let host = folder.host::<&str>([]);
    eventually("it is asked again", async || web.asked().len() == 2).await;
    web.release(2);
    let done = || {
        folder
            .run(["queues", "show", "sandbar.fetch", "--json"])
            .stdout
    };
    let empty = |shown: &str| {
        let shown: Value = serde_json::from_str(shown).unwrap_or_default();
        ["ready", "in_flight", "delayed", "retrying"]
            .iter()
            .all(|it| shown[*it] == 0)
    };
    eventually("it is done", async || empty(&done())).await;
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
    let asked = web.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[0].header("idempotency-key").is_some());
    assert_eq!(
        asked[0].header("idempotency-key"),
        asked[1].header("idempotency-key")
    );
    let opened = open("embedded", &folder.path().join("sandbar-data")).await?;
    let told = take(&*opened.backend, "out.told").await;
    let told: Vec<String> = told.iter().map(|message| text(message)).collect();
    assert_eq!(told, ["version one at last"]);
    let count = opened.store.state_get("fetch", "told").await?;
    assert_eq!(count.value.as_deref(), Some(&b"1"[..]));
    Ok(())
}
