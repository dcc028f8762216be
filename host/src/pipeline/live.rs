//! Which version of its handlers a pipeline uses: the one pointer that a reload switches.
//!
//! It is read once for each message, without a lock. How a version is made and when it is switched is decided elsewhere.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use arc_swap::{ArcSwap, Guard};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::beside::{Beside, Measured};
use super::shadow::Shadow;
use crate::backend::Delivery;
use crate::call::Access;
use crate::dispatch::{Dispatcher, Kind, Route};
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
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    pub(crate) version: Arc<Version>,
    /// For messages that this version has no handler for and that waited when it came; the newest first.
    pub(crate) before: Vec<Arc<Version>>,
    /// Tried on a share of the messages; nothing is counted without it.
    pub(crate) beside: Option<Arc<Beside>>,
    /// Gets copies of what this version has handled.
    pub(crate) shadow: Option<Arc<Shadow>>,
}

/// Who handles a message.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) version: &'a Version,
    pub(super) routes: Vec<&'a Route>,
    /// While another version is tried: who counts it, and whether it is that version.
    side: Option<(&'a Beside, bool)>,
    /// Who gets a copy.
    pub(super) shadow: Option<&'a Shadow>,
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

    pub(super) fn route(&self, delivery: &Delivery, message: &Message) -> Vec<&Route> {
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

    /// Whether what still ran went back.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
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
            beside: None,
            shadow: None,
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

    /// Who handles a message: the version that is tried if it is one of its share, else the newest version that has a
    /// handler for it.
    pub(super) fn route(&self, delivery: &Delivery, message: &Message) -> Found<'_> {
        let Serving {
            version,
            before,
            beside,
            shadow,
        } = &*self.0;
        let beside = beside.as_deref();
        let tried = beside.and_then(|beside| Some((beside, beside.route(delivery, message)?)));
        if let Some((beside, route)) = tried {
            return Found {
                version: &beside.version,
                routes: vec![route],
                side: Some((beside, true)),
                shadow: None,
            };
        }
        let routes = version.route(delivery, message);
        if !routes.is_empty() {
            let comparable = |routes: &[&Route]| routes.iter().all(|it| it.kind != Kind::Periodic);
            let is = (beside.is_some() || shadow.is_some()) && comparable(&routes);
            return Found {
                version,
                side: beside.filter(|_| is).map(|beside| (beside, false)),
                shadow: shadow.as_deref().filter(|_| is),
                routes,
            };
        }
        let only = |version, routes| Found {
            version,
            routes,
            side: None,
            shadow: None,
        };
        for older in before {
            let routes = older.route(delivery, message);
            if !routes.is_empty() {
                return only(older, routes);
            }
        }
        only(version, routes)
    }
}

impl Found<'_> {
    /// A call of it begins.
    pub(super) fn measure(&self) -> Option<Measured<'_>> {
        self.side.map(|(beside, canary)| beside.measure(canary))
    }
}
