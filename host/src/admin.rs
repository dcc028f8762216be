//! What the tools of operators ask a host over HTTP. Nothing can be changed here.
//!
//! | endpoint | answers |
//! |---|---|
//! | `GET /livez` | 200 as long as the process serves requests; it asks nobody else |
//! | `GET /readyz` | 200 if the host can do its work, 503 if not, with the reasons as JSON (`admin/ready.rs`) |
//! | `GET /metrics` | the numbers of [`crate::telemetry::METRICS`] as OpenMetrics has them (`admin/numbers.rs`) |
//!
//! Who may ask is decided in `admin/guard.rs`; how many at once and for how long in `admin/server.rs`. The broker is asked with
//! a time limit and at most once a second (`admin/asked.rs`), so that nobody slows it down from here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::body::Body;
use hyper::{Request, StatusCode};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::backend::{Backend, Opened};
use crate::clock;
use crate::control::Host;
use crate::deploy::Refusals;
use crate::handler::Port;
use crate::store::Store;
use crate::throttle::{Room, Throttle};

mod answer;
mod asked;
mod guard;
mod numbers;
mod ready;
mod server;

pub use guard::Token;

use answer::Answer;
use asked::Asked;
use guard::Guard;

/// How a host is asked.
#[derive(Debug, Clone)]
pub struct AdminOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What everybody who asks has to know.
    pub token: Option<Token>,
    /// Names by which it may be asked, beside its address.
    pub hosts: Vec<String>,
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
#[error(
    "nothing can listen at {listen}: {error}; stop what listens there, or name another address with --admin or `listen` under [admin]"
)]
pub struct AdminError {
    listen: SocketAddr,
    error: std::io::Error,
}

/// Answers until it is dropped.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: AbortOnDropHandle<()>,
}

/// A host that is asked, with what belongs to it.
#[derive(Debug)]
struct Serving {
    host: Host,
    refusals: Refusals,
}

/// How far the host is.
#[derive(Debug, Clone)]
enum Phase {
    Starting,
    Serving(Arc<Serving>),
    /// What it received for, which is still counted.
    Stopping(Vec<Arc<Port>>),
}

#[derive(Debug)]
struct Shared {
    guard: Guard,
    rate: Mutex<Throttle>,
    began: Instant,
    started_ms: i64,
    phase: Mutex<Phase>,
    broker: Mutex<Option<Opened>>,
    asked: Asked,
}

/// Requests of everybody in a second.
const RATE: u32 = 100;

impl Admin {
    /// Listens, and answers that the host is starting.
    ///
    /// # Errors
    /// When nothing can listen there.
    pub async fn start(options: AdminOptions) -> Result<Self, AdminError> {
        let listen = options.listen;
        let failed = |error| AdminError { listen, error };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            guard: Guard::new(options.token, options.hosts, address),
            rate: Mutex::new(Throttle::new(Some(RATE), None)),
            began: Instant::now(),
            started_ms: clock::now_ms(),
            phase: Mutex::new(Phase::Starting),
            broker: Mutex::default(),
            asked: Asked::default(),
        });
        let serving = tokio::spawn(server::serve(listener, shared.clone()));
        Ok(Self {
            address,
            shared,
            _serving: AbortOnDropHandle::new(serving),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// This is the broker of the host, which may still wait for it.
    pub fn opened(&self, backend: Arc<dyn Backend>, store: Arc<dyn Store>) {
        *lock(&self.shared.broker) = Some(Opened { backend, store });
    }

    /// The host serves.
    pub fn serves(&self, host: Host, refusals: Refusals) {
        *lock(&self.shared.phase) = Phase::Serving(Arc::new(Serving { host, refusals }));
    }

    /// The host is about to stop.
    pub fn stops(&self) {
        let mut phase = lock(&self.shared.phase);
        if let Phase::Serving(serving) = &*phase {
            *phase = Phase::Stopping(serving.host.ports());
        }
    }
}

impl Shared {
    /// The answer to a request that came in at this address.
    async fn answer<B: Body>(&self, request: &Request<B>, local: SocketAddr) -> Answer {
        if !self.admits() {
            return Answer::refused(
                StatusCode::TOO_MANY_REQUESTS,
                format!("more than {RATE} requests came within a second"),
                "ask less often; the numbers change once a second at most",
            );
        }
        if let Err(refused) = self.guard.check(request, local) {
            return refused;
        }
        match request.uri().path() {
            "/livez" => Answer::json(StatusCode::OK, &serde_json::json!({ "status": "alive" })),
            "/readyz" => {
                let readiness = self.readiness().await;
                let status = match readiness.is_ready() {
                    true => StatusCode::OK,
                    false => StatusCode::SERVICE_UNAVAILABLE,
                };
                Answer::json(status, &readiness)
            }
            "/metrics" => match self.numbers().await.text() {
                Ok(text) => Answer::metrics(text),
                Err(error) => Answer::refused(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("the numbers cannot be written: {error}"),
                    "ask again",
                ),
            },
            _ => Answer::refused(
                StatusCode::NOT_FOUND,
                "there is nothing at this path".to_owned(),
                "ask for /livez, /readyz or /metrics",
            ),
        }
    }

    fn admits(&self) -> bool {
        let now = self.began.elapsed();
        let mut rate = lock(&self.rate);
        let admitted = matches!(rate.room(now), Room::Now(_));
        if admitted {
            rate.took(1, now);
        }
        admitted
    }

    fn phase(&self) -> Phase {
        lock(&self.phase).clone()
    }

    fn broker(&self) -> Option<Opened> {
        lock(&self.broker).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
