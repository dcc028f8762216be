//! Where compiled components are kept, how much of them there is, and whether that works.

use sandbar::config::{Config, Size};
use sandbar::guest::look_at_cache;

use super::super::terminal::count;
use super::{Check, Finding};

pub(super) async fn check(config: &Config) -> Finding {
    let Some(options) = config.cache() else {
        return match config.cache.enabled {
            false => Finding::ok(Check::Cache, "off; every start compiles its plugins"),
            true => Finding::warn(
                Check::Cache,
                "there is no place for compiled components; every start compiles its plugins",
                "set `cache.dir`, or HOME",
            ),
        };
    };
    let place = options.dir.display().to_string();
    let looked = options.clone();
    let state = match tokio::task::spawn_blocking(move || look_at_cache(&looked)).await {
        Ok(state) => state,
        Err(error) => return Finding::error(Check::Cache, &error),
    };
    if let Some(trouble) = &state.trouble {
        let text = format!("compiled components cannot be kept in {place}: {trouble}");
        let mut finding = Finding::error(Check::Cache, &text);
        finding.level = super::Level::Warn;
        let remedy = "have the folder belong to the user that the host runs as, or name another one with `cache.dir`";
        finding.remedy.get_or_insert_with(|| remedy.to_owned());
        return finding;
    }
    let text = format!(
        "{} compiled components, {} KiB of {}, in {place}",
        count(state.entries),
        count(state.bytes.div_ceil(1024)),
        Size(options.size)
    );
    if state.refused > 0 {
        return Finding::warn(
            Check::Cache,
            format!(
                "{text}; {} more are damaged or were not written there by this user, and are not used",
                count(state.refused)
            ),
            "nothing has to be done: they are compiled again when they are needed; if nobody copied the folder there, look at its disk",
        );
    }
    Finding::ok(Check::Cache, text)
}
