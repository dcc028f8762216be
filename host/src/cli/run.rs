//! `sandbar run`: serves plugins until it is told to stop.
//!
//! Which plugins with which grants is decided in the configuration, and everything that runs is assembled by
//! [`sandbar::control`]. This says what is going on.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sandbar::admin::Admin;
use sandbar::config::{self, Config, Time};
use sandbar::control::{Host, HostOptions, ServedPlugin, StartError};
use sandbar::deploy::{self, Deployments, Origin};
use sandbar::registry::Registry;
use tokio::time::Instant;

use super::inspect::Served;
use super::options;
use super::signals::Signals;
use super::terminal::{self, Progress, Style, note, paint};
use super::{Ended, Usage, broker};

/// Serve plugins.
///
/// Without a configuration it serves the .wasm files that are named and those in the folder of plugins, on the
/// embedded broker, with data in ./sandbar-data and no grants. Ctrl-C finishes what is being handled and stops; a
/// second one stops at once.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Plugins to serve
    #[arg(value_name = "FILE.wasm")]
    pub(super) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) host: options::HostOptions,
}

impl Run {
    pub(super) async fn run(
        self,
        config: Config,
        plugins: Vec<ServedPlugin>,
        options: config::Options,
    ) -> anyhow::Result<Ended> {
        let began = Instant::now();
        if plugins.is_empty() && !config.data.value.join("plugins").is_dir() {
            return Err(nothing(&config).into());
        }
        sandbar::guest::compile_beside_messages();
        let mut signals = Signals::new()?;
        let admin = match config.admin()? {
            Some(options) => Some(Admin::start(options).await?),
            None => None,
        };
        let mut kind = config.broker.clone();
        kind.embedded.letters = Some(config.dead_letters);
        #[cfg(feature = "postgres")]
        {
            kind.postgres.letters = Some(config.dead_letters);
        }
        #[cfg(feature = "rabbitmq")]
        {
            kind.rabbitmq.letters = Some(config.dead_letters);
        }
        let mut broker = broker::own(&kind, &config.data.value).await?;
        if let Some(admin) = &admin {
            admin.opened(broker.backend(), broker.store());
        }
        let registry = registry(&config);
        let plan = match deploy::plan(&config, plugins, registry.as_ref()) {
            Ok(plan) if !plan.plugins.is_empty() || !plan.removed.is_empty() => plan,
            planned => {
                broker.close().await;
                return Err(planned.map_or_else(anyhow::Error::from, |_| nothing(&config).into()));
            }
        };
        for name in &plan.removed {
            note(format!(
                "{name} was removed and is not served; `sandbar plugins deploy` or a new file brings it back"
            ));
        }
        for name in &plan.paused {
            note(format!(
                "{name} is paused; `sandbar plugins resume {name}` has its messages handled"
            ));
        }
        let host_options = HostOptions {
            group: Some(config.group.value.clone()),
            plugins: plan.plugins,
            instead: plan.instead,
            before: plan.before,
            beside: plan.beside,
            paused: plan.paused,
            components: plan.components.clone(),
            cache: config.cache(),
            http_ca: config.http_ca.clone(),
            stack: Some(config.stack),
            drain: Some(config.grace.value),
            ..HostOptions::default()
        };
        let starting = Host::start(broker.backend(), broker.store(), host_options);
        let host = tokio::select! {
            host = with_progress(starting) => host,
            () = signals.next() => {
                broker.close().await;
                return Ok(Ended::Interrupted);
            }
        };
        let host = match host {
            Ok(host) => host,
            Err(error) => {
                broker.close().await;
                return Err(error.into());
            }
        };
        let origin = Origin {
            options,
            files: self.files,
        };
        let reachable = registry.is_some() || !broker.shared();
        let (data, grace) = (config.data.value.clone(), config.grace.value);
        let deployments =
            Deployments::start(host.clone(), registry, config, origin, plan.components);
        let deployments = deployments.await;
        if let Some(admin) = &admin {
            admin.serves(host.clone(), deployments.refusals());
        }
        // Who finds the socket finds the queues of the plugins too.
        broker.share(&data, reachable.then(|| deployments.steward()))?;
        for plugin in host.plugins() {
            note(Served::new(&plugin).short());
        }
        if let Some(admin) = &admin {
            note(format!(
                "http://{} answers /livez, /readyz and /metrics",
                admin.address()
            ));
        }
        note(format!(
            "{} in {}; data in {}; Ctrl-C stops",
            paint("ready", Style::Good),
            terminal::time(began.elapsed()),
            data.display()
        ));
        signals.next().await;
        if let Some(admin) = &admin {
            admin.stops();
        }
        drop(deployments);
        note(format!(
            "stopping; what is being handled has {}",
            Time(grace)
        ));
        let stopping = async {
            let ended = host.stop(grace).await;
            broker.close().await;
            ended
        };
        tokio::select! {
            ended = stopping => {
                note(if ended {
                    "stopped; nothing was left in flight"
                } else {
                    "stopped; what was still being handled comes again when a host is started, with no attempt counted"
                });
                Ok(Ended::Done)
            }
            () = signals.next() => {
                note("stopped at once; what was being handled comes again when a host is started");
                Ok(Ended::Interrupted)
            }
        }
    }
}

fn nothing(config: &Config) -> Usage {
    let missing = match &config.plugin_dir.value {
        Some(dir) => format!("there is no .wasm file in {}", dir.display()),
        None => "there is no plugin to serve".to_owned(),
    };
    Usage(format!(
        "{missing}; name a .wasm file, put one into ./plugins, or list it in sandbar.toml"
    ))
}

/// Where versions are kept. A host does its work without it as well.
fn registry(config: &Config) -> Option<Registry> {
    Registry::open(&config.data.value, config.versions.value)
        .inspect_err(|error| {
            tracing::warn!(
                "no versions of plugins are kept, and `sandbar plugins` finds no host: {error}"
            );
        })
        .ok()
}

/// Says that it is compiling when that takes longer than anybody wants to wait without a word.
async fn with_progress(
    starting: impl Future<Output = Result<Host, StartError>>,
) -> Result<Host, StartError> {
    tokio::pin!(starting);
    match tokio::time::timeout(Duration::from_secs(1), &mut starting).await {
        Ok(host) => host,
        Err(_) => {
            note("compiling the plugins…");
            let _progress = Progress::waiting("compiling");
            starting.await
        }
    }
}
