//! A private PgBouncer in front of a private PostgreSQL: a connection of the server for each transaction, and few of them.
//!
//! The package of Debian is of a release that knows nothing of prepared statements, which is the hard case.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

use super::missing;
use super::postgres::{Postgres, command_as_server};

/// Connections to the server for all clients together.
const CONNECTIONS: u32 = 3;

/// A pooler. It ends when this is dropped or the process ends, however that happens.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    watchman: Option<(Child, ChildStdin)>,
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    /// A pooler in transaction mode; `None` if PgBouncer isn't installed, which has been said then.
    ///
    /// # Panics
    /// When it is installed and doesn't start.
    #[must_use]
    pub fn start(server: &Postgres) -> Option<Self> {
        const BINARY: &str = "/usr/sbin/pgbouncer";
        const SCRIPT: &str = "\"$1\" -q \"$2\" & read -r line; kill -KILL $!";
        if !std::path::Path::new(BINARY).exists() {
            missing("PgBouncer", "pgbouncer");
            return None;
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("pgbouncer.ini");
        let mut ini = std::fs::File::create(&file).expect("a file");
        writeln!(
            ini,
            "[databases]\n\
             postgres = host=127.0.0.1 port={} dbname=postgres user=sandbar\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             default_pool_size = {CONNECTIONS}\n\
             max_client_conn = 100",
            server.port()
        )
        .expect("it is written");
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        std::fs::set_permissions(folder.path(), mode).expect("it is ours");
        let mut shell = command_as_server("setsid".as_ref());
        shell
            .args(["sh", "-c", SCRIPT, "sh", BINARY])
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = shell.spawn().expect("a shell starts");
        let stdin = child.stdin.take().expect("it has a standard input");
        let pooler = Self {
            port,
            watchman: Some((child, stdin)),
            _folder: folder,
        };
        pooler.wait();
        Some(pooler)
    }

    /// How to reach the database through it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://sandbar@127.0.0.1:{}/postgres", self.port)
    }

    #[expect(clippy::disallowed_methods, reason = "waits for another process")]
    fn wait(&self) {
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("PgBouncer doesn't listen on port {}", self.port);
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if let Some((mut watchman, stdin)) = self.watchman.take() {
            drop(stdin);
            watchman.wait().ok();
        }
    }
}
