//! The one place where the SDK meets its host: the imports of the component, or the testing host when the plugin is
//! compiled natively. No policy: whatever can be decided above this line is.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod wasm;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::*;
#[cfg(target_arch = "wasm32")]
pub(crate) use wasm::*;
