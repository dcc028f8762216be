//! Which version of its handlers a pipeline uses: the one pointer that a reload switches.
//!
//! It is read once for each message, without a lock. How a version is made and when it is switched is decided elsewhere.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use arc_swap::{ArcSwap, Guard};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backend::Delivery;
use crate::call::Access;
use crate::dispatch::{Dispatcher, Route};
use crate::message::Message;
use crate::retry::RetryPolicy;
use crate::wire::Form;

/// Handlers with what they may do: everything of a pipeline that a reload replaces.
#[derive(Debug)]
pub struct Version {
    /// How the messages in the queue are written.
    pub form: Form,
    /// Who handles what.
    pub dispatcher: Dispatcher,
    /// What the handlers may do.
    pub access: Arc<Access>,
    /// When failures are tried again.
    pub retry: RetryPolicy,
    /// Cancelled when what runs in it has had its time.
    cut: CancellationToken,
    gone: CancellationToken,
    _gone: DropGuard,
}

/// The pointer.
#[derive(Debug)]
pub(super) struct Live(ArcSwap<Serving>);

/// What a pipeline uses at one moment.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) version: Arc<Version>,
    /// For messages that this version has no handler for and that waited when it came; the newest first.
    pub(crate) before: Vec<Arc<Version>>,
}

/// What one task saw last, counted by that task alone: cores don't write to the same memory for each message.
#[derive(Debug)]
pub(super) struct View(Arc<Serving>);

impl Version {
    /// A version that nothing is handled by yet.
    #[must_use]
    pub fn new(
        form: Form,
        dispatcher: Dispatcher,
        access: Arc<Access>,
        retry: RetryPolicy,
    ) -> Self {
        let gone = CancellationToken::new();
        Self {
            form,
            dispatcher,
            access,
            retry,
            cut: CancellationToken::new(),
            gone: gone.clone(),
            _gone: gone.drop_guard(),
        }
    }

    /// Copies for one route were written by this host itself.
    pub(super) fn form(&self, delivery: &Delivery) -> Form {
        if delivery.route.is_some() {
            Form::Native
        } else {
            self.form
        }
    }

    fn route(&self, delivery: &Delivery, message: &Message) -> Vec<&Route> {
        match delivery.route {
            Some(number) => self.dispatcher.numbered(number).into_iter().collect(),
            None => self.dispatcher.route(&message.topic),
        }
    }

    /// Whether it has a route that none of the others has.
    pub(crate) fn has_more_than(&self, others: &[Arc<Self>]) -> bool {
        let known = |number: u32| {
            let mut others = others.iter();
            others.any(|other| other.dispatcher.numbered(number).is_some())
        };
        let mut routes = self.dispatcher.routes().iter();
        routes.any(|route| !known(route.number))
    }

    /// There is a newer version: what waits for its turn goes back, and so does what comes if this one is `over`. What runs
    /// goes on until it is [cut](Self::cut) off.
    pub(crate) fn supersede(&self, over: bool) {
        for route in self.dispatcher.routes() {
            route.action.supersede(over);
        }
    }

    /// Cancelled when nothing uses this version any more.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// What still runs goes back; what is cancelled then ends it.
    pub(crate) fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// The end of a call, unless the time of this version is over before that.
    pub(super) async fn unless_cut<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let (mut call, mut cut) = (pin!(call), pin!(self.cut.cancelled()));
        // Whoever ends at once is asked nothing else.
        poll_fn(|cx| match call.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending => cut.as_mut().poll(cx).map(|()| None),
        })
        .await
    }
}

impl Live {
    pub(super) fn new(version: Version) -> Self {
        Self(ArcSwap::from_pointee(Serving {
            version: Arc::new(version),
            before: Vec::new(),
        }))
    }

    pub(super) fn now(&self) -> Arc<Serving> {
        self.0.load_full()
    }

    pub(super) fn switch(&self, serving: Serving) {
        self.0.store(Arc::new(serving));
    }

    /// What is to be used now: the same view if nothing was switched since.
    pub(super) fn view(&self, last: Option<Arc<View>>) -> Arc<View> {
        let now = self.0.load();
        match last {
            Some(last) if Arc::ptr_eq(&last.0, &now) => last,
            _ => Arc::new(View(Guard::into_inner(now))),
        }
    }
}

impl View {
    pub(super) fn version(&self) -> &Version {
        &self.0.version
    }

    /// Who handles a message: the newest version that has a handler for it.
    pub(super) fn route(&self, delivery: &Delivery, message: &Message) -> (&Version, Vec<&Route>) {
        let Serving { version, before } = &*self.0;
        let found = version.route(delivery, message);
        if !found.is_empty() {
            return (version, found);
        }
        for older in before {
            let found = older.route(delivery, message);
            if !found.is_empty() {
                return (older, found);
            }
        }
        (version, found)
    }
}
