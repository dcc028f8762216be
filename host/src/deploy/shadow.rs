//! Versions in the shadow of the live ones: begun, asked after and ended by operators.
//!
//! Nothing of it is remembered: a host that is started again has none.

use std::path::Path;

use super::said::ShadowStatus;
use super::{Answer, Shared};
use crate::pipeline::{Shadow, Wish};

impl Shared {
    /// Has a version get copies of the messages of a plugin.
    pub(super) async fn shadow(
        &self,
        name: &str,
        file: &Path,
        wish: Wish,
    ) -> Result<Answer, String> {
        let state = self.state.lock().await;
        if self.host.plugin(name).is_none() {
            return Err(self.unknown(name));
        }
        let served = state.config.served_as(name, file);
        let served = served.map_err(|error| error.to_string())?;
        let binary = self.read_apart(&served).await?;
        if **binary.digest() != *wish.digest {
            return Err(format!(
                "{} has changed since it was named; name it again when it is finished",
                file.display()
            ));
        }
        let digest = wish.digest.clone();
        let shadow = self.host.shadow_version(served, binary, wish).await;
        let shadow = shadow.map_err(|error| error.to_string())?;
        tracing::info!(plugin = %name, %digest, "a version gets copies of the messages and is compared");
        Ok(Answer::Shadow(Box::new(status(name, &shadow, false))))
    }

    /// What came of the copies so far.
    pub(super) fn compared(&self, name: &str) -> Result<Answer, String> {
        let status = self.shadow_status(name).ok_or_else(|| self.none(name))?;
        Ok(Answer::Shadow(Box::new(status)))
    }

    /// The same, and it gets no more.
    pub(super) async fn unshadow(&self, name: &str) -> Result<Answer, String> {
        let shadow = self.host.end_shadow(name).await;
        let shadow = shadow.ok_or_else(|| self.none(name))?;
        Ok(Answer::Shadow(Box::new(status(name, &shadow, true))))
    }

    pub(super) fn shadow_status(&self, name: &str) -> Option<ShadowStatus> {
        let shadow = self.host.shadow(name)?;
        Some(status(name, &shadow, shadow.has_ended()))
    }

    fn none(&self, name: &str) -> String {
        match self.host.plugin(name) {
            None => self.unknown(name),
            Some(_) => format!(
                "no version is in the shadow of `{name}`; `sandbar plugins shadow {name} FILE` compares one, until another version is live"
            ),
        }
    }
}

fn status(name: &str, shadow: &Shadow, ended: bool) -> ShadowStatus {
    let wish = shadow.wish();
    ShadowStatus {
        name: name.to_owned(),
        digest: wish.digest.clone(),
        since_ms: wish.since_ms,
        who: wish.who.clone(),
        share: wish.share,
        ended,
        compared: shadow.compared(),
    }
}
