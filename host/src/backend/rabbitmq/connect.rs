//! One connection to RabbitMQ: made within a deadline, and ended for good when it is given up.
//!
//! It never connects twice; that is the business of `link`.

use std::fmt;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::tcp::{AsyncTcpStream, TLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, Event};

use super::failure::{Failure, answer};

/// How long connecting may take, the handshake included.
const CONNECT: Duration = Duration::from_secs(10);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// How often we look whether the connection still is one, besides being told.
const LOOK: Duration = Duration::from_secs(1);

/// Where a server is, and how to tell that it is the right one.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) uri: AMQPUri,
    /// Who signed its certificate, besides those that the system knows.
    pub(super) ca: Option<String>,
}

/// Without the password.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())
    }
}

/// A connection that was made. Everything that belongs to it carries its number.
#[derive(Debug)]
pub(super) struct Session {
    /// Differs from that of every other connection of this process.
    pub(super) epoch: u64,
    connection: Connection,
    plug: Plug,
    blocked: Mutex<Option<String>>,
}

/// A second handle of the socket. The client waits for a silent server until its heartbeat fails, and during the
/// handshake for ever; this ends it now.
#[derive(Debug, Clone, Default)]
struct Plug(Arc<Mutex<Option<TcpStream>>>);

impl Plug {
    fn hold(&self, socket: OwnedFd) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket.into());
    }

    fn pull(&self) {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(socket) = socket {
            // It may have ended already.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

/// Pulls the plug of a connection that nobody waits for any more.
struct Attempt(Option<Plug>);

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(plug) = &self.0 {
            plug.pull();
        }
    }
}

impl Session {
    /// Connects. `purpose` is shown beside the connection in the server's own tools.
    pub(super) async fn open(server: &Server, purpose: &str, epoch: u64) -> Result<Self, Failure> {
        let plug = Plug::default();
        let mut attempt = Attempt(Some(plug.clone()));
        let name = format!("sandbar {purpose} {}", std::process::id());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connecting = connect(server.clone(), properties, plug.clone());
        let connection = match tokio::time::timeout(CONNECT, connecting).await {
            Ok(connection) => connection.map_err(|error| server.explain(&error))?,
            Err(_) => {
                let place = server.place();
                return Err(Failure::new(format!(
                    "RabbitMQ at {place} has not answered for {CONNECT:?}"
                )));
            }
        };
        attempt.0 = None;
        Ok(Self {
            epoch,
            connection,
            plug,
            blocked: Mutex::default(),
        })
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel, Failure> {
        answer(self.connection.create_channel()).await
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection.status().connected()
    }

    /// Why the server takes no messages at the moment, if that is so.
    pub(super) fn blocked(&self) -> Option<String> {
        let blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        blocked.clone()
    }

    /// Waits until the connection has ended, and says why. The client gives up a server that is silent for two
    /// heartbeats.
    pub(super) async fn ended(&self) -> Failure {
        let mut events = std::pin::pin!(self.connection.events_listener());
        let mut reason = None;
        loop {
            if !self.is_up() {
                return reason
                    .unwrap_or_else(|| Failure::new("the connection to RabbitMQ has ended"));
            }
            match tokio::time::timeout(LOOK, events.next()).await {
                Ok(Some(Event::ConnectionBlocked(why))) => {
                    tracing::warn!(why, "RabbitMQ takes no messages at the moment");
                    self.set_blocked(Some(why));
                }
                Ok(Some(Event::ConnectionUnblocked)) => {
                    tracing::info!("RabbitMQ takes messages again");
                    self.set_blocked(None);
                }
                Ok(Some(Event::Error(error))) => reason = Some(error.into()),
                Ok(Some(_)) | Err(_) => {}
                Ok(None) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    fn set_blocked(&self, why: Option<String>) {
        *self.blocked.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Ends the connection at once. The server gives everything that was not acknowledged to somebody else.
    pub(super) fn give_up(&self) {
        self.plug.pull();
    }

    /// Ends the connection in good order, or at once if the server doesn't answer.
    pub(super) async fn close(&self) {
        let goodbye = self.connection.close(200, "goodbye".into());
        drop(tokio::time::timeout(GOODBYE, goodbye).await);
        self.give_up();
    }
}

async fn connect(
    server: Server,
    properties: ConnectionProperties,
    plug: Plug,
) -> Result<Connection, lapin::Error> {
    let runtime = lapin::runtime::default_runtime()?;
    let Server { uri, ca } = server;
    Connection::connector(
        uri,
        runtime,
        async move |uri, runtime| {
            let AMQPUri {
                scheme, authority, ..
            } = uri;
            let place = (authority.host.as_str(), authority.port);
            let addresses: Vec<_> = tokio::net::lookup_host(place).await?.collect();
            let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
            if let AsyncTcpStream::Plain(plain) = &stream {
                plug.hold(plain.get_ref().as_fd().try_clone_to_owned()?);
            }
            Ok(match scheme {
                AMQPScheme::AMQP => stream,
                AMQPScheme::AMQPS => {
                    let trusted = TLSConfig {
                        identity: None,
                        cert_chain: ca.as_deref(),
                    };
                    stream.into_tls(&authority.host, trusted).await?
                }
            })
        },
        properties,
    )
    .await
}

impl Server {
    /// Host and port, without the password that a URL may carry.
    pub(super) fn place(&self) -> String {
        let authority = &self.uri.authority;
        format!("{}:{}", authority.host, authority.port)
    }

    fn explain(&self, error: &lapin::Error) -> Failure {
        let (place, uri) = (self.place(), &self.uri);
        let failure = Failure::from(error.clone());
        if failure.refused() {
            let user = &uri.authority.userinfo.username;
            return Failure::new(format!(
                "RabbitMQ at {place} refuses user `{user}` or virtual host `{}`: {failure}; correct the url",
                uri.vhost
            ));
        }
        Failure::new(format!("RabbitMQ at {place} cannot be reached: {failure}"))
    }
}
