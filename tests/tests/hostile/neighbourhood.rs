//! A host with a plugin that behaves and one that does not.

use std::path::Path;
use std::time::Duration;

use sandbar::backend::{Opened, open};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::message::{Message, Payload, Status};
use sandbar::plugin::PluginSpec;
use sandbar::retry::RetryPolicy;
use sandbar::store::{KeptLetter, LetterFilter};
use sandbar_tests::contract::{Failure, Outcome};
use sandbar_tests::guests::guest;
use sandbar_tests::raw::{Raw, TOPIC};
use sandbar_tests::servers::web::Web;
use sandbar_tests::traffic::SOON;

pub(crate) const MEMORY: usize = 8 << 20;

pub(crate) struct Neighbourhood {
    pub(crate) host: Host,
    pub(crate) opened: Opened,
    _folder: tempfile::TempDir,
}

/// The plugin under a name, with limits that a test reaches soon.
pub(crate) fn spec(file: &Path) -> PluginSpec {
    let mut spec = PluginSpec::from_file(file);
    spec.limits.time = Duration::from_millis(500);
    spec.limits.load_time = Duration::from_millis(1500);
    spec.limits.memory = MEMORY;
    spec.limits.content = 64 << 10;
    spec.grants.state = true;
    spec.grants.publish = vec!["out.>".parse().expect("a pattern")];
    spec
}

impl Neighbourhood {
    /// With the plugin `misbehave`.
    pub(crate) async fn misbehaving() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        Self::with(spec(&guest("misbehave")), folder).await
    }

    /// With the plugin `fetch`, which may send to this server.
    pub(crate) async fn fetching(web: &Web) -> Result<Self, Failure> {
        let mut spec = spec(&guest("fetch"));
        spec.grants.http = Some(vec![web.url("/*").parse()?]);
        spec.limits.http_bytes = 256 << 10;
        Self::with(spec, tempfile::tempdir()?).await
    }

    /// With this component.
    pub(crate) async fn raw(raw: &Raw) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("raw.wasm");
        std::fs::write(&file, raw.component())?;
        let mut spec = spec(&file);
        // One instance at a time: which one handles what is known.
        spec.limits.concurrency = 1;
        Self::with(spec, folder).await
    }

    /// With this plugin, whose messages are tried once.
    pub(crate) async fn once(spec: PluginSpec, folder: tempfile::TempDir) -> Result<Self, Failure> {
        Self::tried(spec, folder, 1).await
    }

    async fn with(spec: PluginSpec, folder: tempfile::TempDir) -> Result<Self, Failure> {
        Self::tried(spec, folder, 2).await
    }

    async fn tried(
        spec: PluginSpec,
        folder: tempfile::TempDir,
        max_attempts: u32,
    ) -> Result<Self, Failure> {
        let opened = open("memory", folder.path()).await?;
        let mut hostile = ServedPlugin::new(spec);
        hostile.retry = RetryPolicy {
            max_attempts,
            initial: Duration::from_millis(1),
            ..RetryPolicy::default()
        };
        let echo = ServedPlugin::new(PluginSpec::from_file(&guest("echo")));
        let options = HostOptions {
            plugins: vec![echo, hostile],
            ..HostOptions::default()
        };
        let host = Host::start(opened.backend.clone(), opened.store.clone(), options).await?;
        Ok(Self {
            host,
            opened,
            _folder: folder,
        })
    }

    pub(crate) async fn ask(&self, topic: &str, content: &str) -> Result<Message, Failure> {
        let message = Message::new(topic.parse()?, Payload::text(content));
        let reply = self.host.client().request(message, SOON).await?;
        Ok(Message::clone(&reply))
    }

    /// The neighbour replies.
    pub(crate) async fn is_served(&self) -> Outcome {
        let reply = self.ask("echo", "are you there?").await?;
        assert_eq!(&reply.payload.content[..], b"are you there?");
        Ok(())
    }

    /// Sends a message that cannot end well, while the neighbour is served; returns its dead letter.
    pub(crate) async fn spoils(&self, topic: &str, content: &str) -> Result<KeptLetter, Failure> {
        let message = Message::new(topic.parse()?, Payload::text(content));
        let identifier = message.identifier;
        let (reply, ()) = tokio::try_join!(
            async { Ok::<_, Failure>(self.host.client().request(message, SOON).await?) },
            async {
                for _ in 0..20 {
                    self.is_served().await?;
                }
                Ok(())
            }
        )?;
        assert_ne!(reply.payload.status, Status::Success, "{topic}: {reply:?}");
        self.is_served().await?;
        let filter = LetterFilter {
            identifier: Some(identifier),
            ..LetterFilter::default()
        };
        let store = &self.opened.store;
        let page = store.letters(&filter, None, 1).await?;
        let summary = page.letters.first().ok_or("it is no dead letter")?;
        let kept = store.letter(summary.id).await?;
        kept.ok_or_else(|| "it is gone".into())
    }

    /// The same of a raw component.
    pub(crate) async fn raw_spoils(raw: &Raw) -> Result<KeptLetter, Failure> {
        let there = Self::raw(raw).await?;
        there.spoils(TOPIC, "x").await
    }
}
