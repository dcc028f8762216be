//! A version is tried on a share of the messages: who handles what, what is counted, and when it is promoted or goes back.
//!
//! The host runs in this process with its deployments, or as a process where it is killed. How one version takes the place
//! of another is tested in `reload.rs`, what the counts mean in `host/src/rollout/`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Backend, Outgoing, open};
use sandbar::config::{Config, FileChoice, Options};
use sandbar::control::{Host, HostOptions};
use sandbar::deploy::{Answer, CanaryStatus, Deployments, Origin, PluginStatus, Question, plan};
use sandbar::periodic::{Clock, WallClock};
use sandbar::registry::{Record, Registry, Verdict};
use sandbar::rollout::Policy;
use sandbar::store::Store;
use sandbar_tests::guests::version_of;
use sandbar_tests::traffic::{message, take, text};
use tokio::time::Instant;

#[path = "rollout/ended.rs"]
mod ended;
#[path = "rollout/judged.rs"]
mod judged;
#[path = "rollout/killed.rs"]
mod killed;
#[path = "rollout/refused.rs"]
mod refused;
#[path = "rollout/shadow.rs"]
mod shadow;
#[path = "rollout/share.rs"]
mod share;

/// Longer than anything may take on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(90);
/// What makes a second version of the first.
const TWO: (&str, &str) = ("version one", "version two");
/// What the plugins may do.
const GRANTS: &str = "state = true\npublish = [\"out.>\"]\nrequest = [\"tally.sum\"]\n";

struct Fixture {
    host: Host,
    deployments: Deployments,
    backend: Arc<dyn Backend>,
    store: Arc<dyn Store>,
    plugin: &'static str,
    folder: tempfile::TempDir,
}

/// What was told: the number, and by which version.
type Told = (u32, String);

impl Fixture {
    /// A host with the first version of `tally`, and these lines in its configuration.
    async fn new(lines: &str) -> Self {
        Self::with("tally", lines, Arc::new(WallClock)).await
    }

    async fn with(plugin: &'static str, lines: &str, clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("plugins")).unwrap();
        std::fs::write(
            at(&format!("plugins/{plugin}.wasm")),
            version_of(plugin, &[]),
        )
        .unwrap();
        let config = format!(
            "plugin_dir = {:?}\nwatch = false\n[plugins.{plugin}]\n{GRANTS}{lines}",
            at("plugins")
        );
        std::fs::write(at("sandbar.toml"), config).unwrap();
        let options = Options {
            file: FileChoice::Named(at("sandbar.toml")),
            ..Options::default()
        };
        let (config, served) = Config::load_served(options.clone(), &[]).unwrap();
        let registry = Registry::open(&at("data"), 10).unwrap();
        let planned = plan(&config, served, Some(&registry)).unwrap();
        let opened = open("embedded", &at("broker")).await.unwrap();
        let (backend, store) = (opened.backend, opened.store);
        let host_options = HostOptions {
            plugins: planned.plugins,
            ..HostOptions::default()
        };
        let host = Host::start_with_clock(backend.clone(), store.clone(), host_options, clock);
        let host = host.await.unwrap();
        let (origin, files) = (options, Vec::new());
        let origin = Origin {
            options: origin,
            files,
        };
        let components = planned.components;
        let deployments =
            Deployments::start(host.clone(), Some(registry), config, origin, components);
        let fixture = Self {
            deployments: deployments.await,
            host,
            backend,
            store,
            plugin,
            folder,
        };
        // A queue of its own from the beginning, so that nothing is told to nobody.
        assert!(fixture.more().await.is_empty());
        fixture
    }

    /// Writes another version.
    fn version(&self, words: &[(&str, &str)]) -> PathBuf {
        let bytes = version_of(self.plugin, words);
        let digest = sandbar::guest::digest(&bytes).replace(':', "-");
        let file = self.folder.path().join(format!("{digest}.wasm"));
        std::fs::write(&file, bytes).unwrap();
        file
    }

    async fn deploy(&self, file: PathBuf, canary: Option<Policy>) -> Answer {
        let digest = sandbar::guest::digest(&std::fs::read(&file).unwrap());
        let question = Question::Deploy {
            name: self.plugin.to_owned(),
            file,
            digest,
            who: "ada".to_owned(),
            canary,
        };
        self.deployments.ask(question).await
    }

    /// Has a version tried.
    async fn tries(&self, words: &[(&str, &str)], policy: Policy) {
        let answer = self.deploy(self.version(words), Some(policy)).await;
        assert!(matches!(answer, Answer::Tried { .. }), "{answer:?}");
    }

    async fn rolls_back(&self) -> Answer {
        let question = Question::Rollback {
            name: self.plugin.to_owned(),
            to: None,
            who: "bob".to_owned(),
        };
        self.deployments.ask(question).await
    }

    async fn status(&self) -> PluginStatus {
        let name = self.plugin.to_owned();
        match self.deployments.ask(Question::Show { name }).await {
            Answer::Plugin(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    async fn canary(&self) -> Option<CanaryStatus> {
        self.status().await.canary.map(|canary| *canary)
    }

    /// The versions, the newest first.
    async fn history(&self) -> Vec<Record> {
        let name = self.plugin.to_owned();
        match self.deployments.ask(Question::History { name }).await {
            Answer::History(versions) => versions,
            other => panic!("{other:?}"),
        }
    }

    /// What became of the newest version.
    async fn verdict(&self) -> Verdict {
        self.history().await.remove(0).verdict
    }

    /// Sends numbers, each with the key that is said.
    async fn send(&self, numbers: std::ops::Range<u32>, key: impl Fn(u32) -> Option<String>) {
        let outgoing = numbers.map(|number| {
            let mut outgoing = Outgoing::new(message("tally.add", &number.to_string()));
            outgoing.key = key(number).map(Into::into);
            outgoing
        });
        for receipt in self.backend.publish(outgoing.collect()).await {
            receipt.unwrap();
        }
    }

    /// What was told since the last time.
    async fn more(&self) -> Vec<Told> {
        let messages = take(&*self.backend, "out.tally").await;
        let told = messages.iter().map(|message| {
            let said = text(message);
            let (number, version) = said.split_once(' ').unwrap();
            (number.parse().unwrap(), version.to_owned())
        });
        told.collect()
    }

    /// Everything that is told, which is so many times; none of them twice.
    async fn told(&self, count: usize) -> Vec<Told> {
        let mut told = Vec::new();
        let began = Instant::now();
        while told.len() < count {
            told.extend(self.more().await);
            assert!(began.elapsed() < PATIENCE, "{} of {count}", told.len());
        }
        let mut numbers: Vec<u32> = told.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(
            (numbers.len(), told.len()),
            (count, count),
            "each is told once"
        );
        told
    }

    /// Sends messages until the version is not tried any more. Returns how many.
    async fn until_it_ends(&self, at_once: u32) -> u32 {
        let (mut sent, began) = (0, Instant::now());
        while let Some(canary) = self.canary().await {
            self.send(sent..sent + at_once, |_| None).await;
            sent += at_once;
            // Not faster than they are handled.
            while self.waiting().await > 50 && self.canary().await.is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(began.elapsed() < PATIENCE, "it goes on: {canary:?}");
        }
        self.decided().await;
        sent
    }

    /// Waits until the version is not tried any more, and that is remembered.
    async fn decided(&self) {
        let began = Instant::now();
        while self.canary().await.is_some() || self.verdict().await == Verdict::Tried {
            assert!(began.elapsed() < PATIENCE, "{:?}", self.canary().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many messages wait or are handled.
    async fn waiting(&self) -> u64 {
        let queues = self.backend.overview().await.unwrap().queues;
        let name = format!("sandbar.{}", self.plugin);
        let own = queues.iter().find(|it| it.spec.name.as_str() == name);
        own.map_or(0, |own| own.depth())
    }

    /// How many numbers were counted, as the state says.
    async fn sum(&self) -> u32 {
        let mut sum = 0;
        for key in 0..16 {
            let read = self.store.state_get("tally", &format!("sum.{key}")).await;
            if let Some(value) = read.unwrap().value {
                let value: serde_json::Value = serde_json::from_slice(&value).unwrap();
                sum += value.as_u64().unwrap() as u32;
            }
        }
        sum
    }

    async fn letters(&self) -> usize {
        self.store.dead_letters(100_000).await.unwrap().len()
    }
}

/// On this share, and never promoted by itself.
fn by_hand(share: &str) -> Policy {
    Policy {
        lasts_ms: None,
        ..Policy::new(share.parse().unwrap())
    }
}
