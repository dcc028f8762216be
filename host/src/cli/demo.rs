//! `sandbar demo`: the whole thing on real input, in a folder that is gone afterwards.
//!
//! The steps and their checks are in `demo/show.rs`; this prepares what they need and prints what comes of it.

use anyhow::Context as _;
use clap::Args;
use sandbar::backend::BrokerOptions;
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::plugin::PluginSpec;

use super::signals::Signals;
use super::terminal::{self, Style, note, paint};
use super::{Ended, broker};

mod show;
mod summary;

use show::Show;

/// See it work on real data; leaves nothing behind.
///
/// Starts a host with two plugins on the embedded broker in a temporary folder, publishes a week of earthquakes to
/// them, asks for replies, checks that the numbers add up, and prints a summary.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Publish only the first events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// How many replies to ask for
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    requests: u64,
    /// Print the summary as a JSON object
    #[arg(long)]
    json: bool,
}

/// Earthquakes of a week, one GeoJSON feature per line, from the USGS.
const EVENTS: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../plugins/quakes/data/quakes.jsonl"
));
const ECHO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/echo.wasm"));
const QUAKES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/quakes.wasm"));

impl Demo {
    pub(super) async fn run(self) -> anyhow::Result<Ended> {
        sandbar::guest::compile_beside_messages();
        let mut signals = Signals::new()?;
        let folder = tempfile::Builder::new().prefix("sandbar-demo-").tempdir()?;
        let mut broker =
            broker::own(&BrokerOptions::default(), &folder.path().join("data")).await?;
        let show = async {
            let plugins = plugins(folder.path())?;
            let options = HostOptions {
                plugins,
                ..HostOptions::default()
            };
            let host = Host::start(broker.backend(), broker.store(), options).await?;
            let events = EVENTS.lines().filter(|line| !line.is_empty());
            let limit = self
                .limit
                .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
            let events: Vec<&'static str> = events.take(limit).collect();
            let show = Show {
                host: &host,
                opened: broker.opened(),
                events,
                requests: self.requests,
            };
            let summary = show.run().await;
            host.stop(std::time::Duration::from_secs(5)).await;
            summary
        };
        let summary = tokio::select! {
            summary = show => Some(summary),
            () = signals.next() => None,
        };
        broker.close().await;
        folder
            .close()
            .context("the temporary folder of the demo cannot be removed")?;
        let Some(summary) = summary else {
            return Ok(Ended::Interrupted);
        };
        let summary = summary?;
        if self.json {
            terminal::json(&summary)?;
        } else {
            terminal::data(summary.to_string().as_bytes())?;
        }
        let wrong = summary.wrong();
        if wrong.is_empty() {
            return Ok(Ended::Done);
        }
        for wrong in wrong {
            note(format!("{} {wrong}", paint("wrong:", Style::Bad)));
        }
        Ok(Ended::Failed)
    }
}

/// Both plugins, with just the grants that they need.
fn plugins(folder: &std::path::Path) -> anyhow::Result<Vec<ServedPlugin>> {
    let mut plugins = Vec::new();
    for (name, bytes) in [("echo", ECHO), ("quakes", QUAKES)] {
        let file = folder.join(format!("{name}.wasm"));
        std::fs::write(&file, bytes).with_context(|| format!("{}", file.display()))?;
        let mut plugin = ServedPlugin::new(PluginSpec::from_file(&file));
        if name == "quakes" {
            plugin.spec.grants.publish = vec![show::ALERT.parse()?];
            plugin.spec.grants.state = true;
        }
        plugins.push(plugin);
    }
    Ok(plugins)
}
