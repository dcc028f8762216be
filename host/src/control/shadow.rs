//! Another version of a plugin in the shadow of the live one: begun and ended.
//!
//! What it is compared by is decided in [`crate::rollout`].

use std::sync::Arc;

use super::{Host, NATIVE, ServedPlugin, StartError};
use crate::guest::Binary;
use crate::pipeline::{Shadow, Wish};

impl Host {
    /// Has another version handle copies of the messages of a plugin from now on, instead of the one before.
    pub(crate) async fn shadow_version(
        &self,
        served: ServedPlugin,
        binary: Binary,
        wish: Wish,
    ) -> Result<Arc<Shadow>, StartError> {
        let _changing = self.shared.changing.lock().await;
        let name = served.spec.name.clone();
        let live = self.member(&name).filter(|_| name != NATIVE);
        let live = live.ok_or_else(|| {
            StartError::Untried(format!(
                "nothing is served as `{name}` that it could be compared with"
            ))
        })?;
        let plugin = self
            .shared
            .loader
            .load_read(served.spec.clone(), binary)
            .await?;
        let version = Arc::new(self.shared.version(&plugin, &served)?);
        let shadow = Arc::new(Shadow::new(version, wish));
        live.port.set_shadow(Some(shadow.clone())).await;
        Ok(shadow)
    }

    /// The version gets no copies any more. Returns what was compared, if there was one.
    pub(crate) async fn end_shadow(&self, name: &str) -> Option<Arc<Shadow>> {
        let _changing = self.shared.changing.lock().await;
        let shadow = self.shadow(name)?;
        self.port(name)?.set_shadow(None).await;
        Some(shadow)
    }

    /// The version in the shadow of a plugin.
    #[must_use]
    pub fn shadow(&self, name: &str) -> Option<Arc<Shadow>> {
        self.port(name)?.pipeline().serving().shadow.clone()
    }
}
