//! A call that runs long on a thread of the runtime makes way for what waits behind it.
//!
//! Most calls end within microseconds, so they run where their message is, without a fiber or a thread of their own. The
//! few that don't are noticed by the clock of the guests: then the messages behind them go to another task ([`scope`]
//! says how), and the runtime gets another thread in the place of this one. Nothing here knows guests or messages.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

/// What moves the work that waits behind a call elsewhere. Must not block.
pub(crate) type MakeWay = Arc<dyn Fn() + Send + Sync>;

tokio::task_local! {
    static MAKE_WAY: MakeWay;
}

/// How long the runtime may take to put another thread in the place of this one; if it takes longer, the next tick asks
/// again.
const HANDOVER: Duration = Duration::from_millis(1);

/// Runs a future; calls inside it that run long make way by this.
pub(crate) async fn scope<F: Future>(make_way: MakeWay, future: F) -> F::Output {
    MAKE_WAY.scope(make_way, future).await
}

/// The call that runs on this thread runs long.
pub(crate) fn ask() {
    // Without a scope nothing waits behind it.
    let () = MAKE_WAY.try_with(|make_way| make_way()).unwrap_or_default();
    let threads = Handle::try_current().map(|handle| handle.runtime_flavor());
    // A runtime of one thread has no other to offer; its guests are still ended when their time is over.
    if matches!(threads, Ok(RuntimeFlavor::MultiThread)) {
        tokio::task::block_in_place(|| std::thread::park_timeout(HANDOVER));
    }
}
