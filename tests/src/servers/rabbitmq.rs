//! A private RabbitMQ server that can be killed, frozen and started again.
//!
//! A shell watches over it: it starts and signals the Erlang machine on request, and when this process ends, however that
//! happens, it ends the server and removes its folder. What an operator would do with `rabbitmqctl`, which takes seconds,
//! is done with `erl_call`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::missing;
use crate::process::finish;

/// For 127.0.0.1 and good for nothing else.
const CERTIFICATE: &str = include_str!("rabbitmq/certificate.pem");
const KEY: &str = include_str!("rabbitmq/key.pem");
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// How long the server may take to boot. Machines on which everything is tested at once are slow.
const BOOT: Duration = Duration::from_secs(180);
const STEP: Duration = Duration::from_millis(50);

/// Reads one word a line, and answers each with one. The folder is `$1`, the server's command the rest.
const WATCHMAN: &str = r#"
folder=$1; shift
epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 >/dev/null 2>&1 & names=$!
node=
while read -r word; do
    case $word in
        start) "$@" </dev/null >>"$folder/out" 2>&1 & node=$! ;;
        kill) kill -KILL $node; wait $node 2>/dev/null; node= ;;
        freeze) kill -STOP $node ;;
        thaw) kill -CONT $node ;;
    esac
    echo "$node"
done
[ -n "$node" ] && kill -KILL $node
kill -KILL $names
wait
cd /; rm -rf "$folder"
"#;

/// A server. It ends when this is dropped or the process ends.
#[derive(Debug)]
pub struct RabbitMq {
    folder: PathBuf,
    port: u16,
    tls: u16,
    distribution: u16,
    watchman: Mutex<Watchman>,
}

#[derive(Debug)]
struct Watchman {
    child: Child,
    /// Its end tells that nobody needs the server any more.
    words: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl RabbitMq {
    /// The server that the tests of one process share; each uses a virtual host of its own.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<RabbitMq>> = OnceLock::new();
        let server = SHARED.get_or_init(Self::prepare).as_ref()?;
        // Whoever is first has begun to start it.
        server.booted().await;
        Some(server)
    }

    /// A server of one's own; `None` if RabbitMQ isn't installed, which has been said then.
    pub async fn start() -> Option<Self> {
        let server = Self::prepare()?;
        server.booted().await;
        Some(server)
    }

    /// One that is about to run, on ports that are free.
    fn prepare() -> Option<Self> {
        let server = Self::stopped()?;
        server.word("start");
        Some(server)
    }

    /// One that has not been started; `None` if RabbitMQ isn't installed, which has been said then.
    ///
    /// # Panics
    /// When there is no shell, or no free port.
    #[must_use]
    pub fn stopped() -> Option<Self> {
        if !Path::new(SERVER).is_file() || erl_call().is_none() {
            missing("RabbitMQ", "rabbitmq-server");
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("sandbar-rabbitmq-")
            .tempdir()
            .expect("a temporary folder")
            .keep();
        let [port, tls, distribution, names] = free_ports();
        let file = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "log.file.level = warning\n\
             raft.wal_max_size_bytes = 16777216\n\
             listeners.ssl.1 = 127.0.0.1:{tls}\n\
             ssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\n",
            file("certificate"),
            file("key")
        );
        for (file, text) in [
            ("plugins", "[].\n"),
            ("certificate", CERTIFICATE),
            ("key", KEY),
            ("rabbitmq.conf", &config),
        ] {
            std::fs::write(folder.join(file), text).expect("the folder is ours");
        }
        // In a session of its own, so that it outlives an interrupt of the tests and can clean up.
        let mut shell = Command::new("setsid");
        shell
            .args(["sh", "-c", WATCHMAN, "sh"])
            .arg(&folder)
            .arg(SERVER);
        environment(&mut shell, &folder, [port, distribution, names]);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.stderr(Stdio::null()).spawn().expect("a shell starts");
        let answers = child.stdout.take().expect("it has a standard output");
        let watchman = Watchman {
            words: child.stdin.take(),
            answers: BufReader::new(answers),
            child,
        };
        Some(Self {
            folder,
            port,
            tls,
            distribution,
            watchman: Mutex::new(watchman),
        })
    }

    /// Where it listens for clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// How to reach its default virtual host.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.address(), "%2f")
    }

    /// How to reach its default virtual host over TLS.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("amqps://guest:guest@127.0.0.1:{}/%2f", self.tls)
    }

    /// The file with the certificate that it shows, which it has signed itself.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("certificate")
    }

    /// How to reach a virtual host that nobody else uses.
    pub fn vhost(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.erlang(&format!(
            "V = <<\"{name}\">>, U = <<\"guest\">>, A = <<\".*\">>, rabbit_vhost:add(V, U), \
             rabbit_auth_backend_internal:set_permissions(U, V, A, A, A, U)."
        ));
        url(self.address(), &name)
    }

    /// Starts the server, again if it was killed, and waits until it answers.
    pub async fn boot(&self) {
        self.word("start");
        self.booted().await;
    }

    /// kill -9.
    pub fn kill(&self) {
        self.word("kill");
    }

    /// Stops it from doing anything, without its connections noticing.
    pub fn freeze(&self) {
        self.word("freeze");
    }

    /// The reverse of [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.word("thaw");
    }

    /// Evaluates Erlang in the server, as its operator.
    ///
    /// # Panics
    /// When it cannot.
    pub fn erlang(&self, code: &str) -> String {
        // Two at a time have the same name, and the server lets only one of them in.
        let _one = self.watchman.lock().unwrap_or_else(PoisonError::into_inner);
        let cookie = self.folder.join("home/.erlang.cookie");
        let cookie = std::fs::read_to_string(cookie).expect("a server that runs has a cookie");
        let mut call = Command::new(erl_call().expect("it is installed"));
        call.args(["-c", cookie.trim(), "-e", "-address"]);
        call.arg(format!("127.0.0.1:{}", self.distribution));
        let done = finish(call, format!("{code}\n").as_bytes());
        assert!(
            done.code == Some(0) && done.stdout.starts_with("{ok"),
            "{code}: {} {}",
            done.stdout,
            done.stderr
        );
        done.stdout
    }

    async fn booted(&self) {
        let greeted = async {
            while !greets(self.address()).await {
                tokio::time::sleep(STEP).await;
            }
        };
        if tokio::time::timeout(BOOT, greeted).await.is_err() {
            let out = std::fs::read_to_string(self.folder.join("out")).unwrap_or_default();
            panic!("RabbitMQ has not booted for {BOOT:?}: {out}");
        }
    }

    fn word(&self, word: &str) {
        let mut watchman = self.watchman.lock().unwrap_or_else(PoisonError::into_inner);
        let words = watchman.words.as_mut().expect("it listens");
        writeln!(words, "{word}").expect("it listens");
        let mut answer = String::new();
        watchman.answers.read_line(&mut answer).expect("it answers");
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        let watchman = self.watchman.get_mut();
        let watchman = watchman.unwrap_or_else(PoisonError::into_inner);
        drop(watchman.words.take());
        watchman.child.wait().ok();
    }
}

/// How to reach a virtual host through an address.
#[must_use]
pub fn url(address: SocketAddr, vhost: &str) -> String {
    format!("amqp://guest:guest@{address}/{vhost}")
}

fn environment(shell: &mut Command, folder: &Path, [port, distribution, names]: [u16; 3]) {
    let path = |name: &str| folder.join(name);
    std::fs::create_dir_all(path("home")).expect("the folder is ours");
    for (name, value) in [
        ("HOME", path("home")),
        ("RABBITMQ_MNESIA_BASE", path("data")),
        ("RABBITMQ_LOG_BASE", path("log")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
        ("RABBITMQ_CONFIG_FILE", path("rabbitmq")),
        ("RABBITMQ_PID_FILE", path("pid")),
        // There is none, so that nothing of the system's own server is read.
        ("RABBITMQ_CONF_ENV_FILE", path("environment")),
    ] {
        shell.env(name, value);
    }
    let loopback = "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false";
    for (name, value) in [
        ("RABBITMQ_NODENAME", format!("sandbar{port}@localhost")),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_NODE_PORT", port.to_string()),
        ("RABBITMQ_DIST_PORT", distribution.to_string()),
        ("ERL_EPMD_PORT", names.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback.to_owned()),
        // The script then becomes the Erlang machine, which gets our signals itself.
        ("RABBITMQ_ALLOW_INPUT", "1".to_owned()),
        ("RABBITMQ_SERVER_START_ARGS", "-noinput".to_owned()),
    ] {
        shell.env(name, value);
    }
}

/// Whether something at this address speaks AMQP.
async fn greets(address: SocketAddr) -> bool {
    let greeted = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"AMQP\0\0\x09\x01").await?;
        stream.read_u8().await
    };
    let method = 1;
    let greeted = tokio::time::timeout(Duration::from_secs(5), greeted).await;
    greeted.is_ok_and(|byte| byte.is_ok_and(|byte| byte == method))
}

/// Asks an Erlang machine for something, and comes with it.
fn erl_call() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib/erlang").ok()?;
    let call = folders
        .flatten()
        .map(|folder| folder.path().join("bin/erl_call"));
    call.into_iter().find(|call| call.is_file())
}

/// Ports that are free now, all different.
fn free_ports() -> [u16; 4] {
    let listener = || TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let listeners = [listener(), listener(), listener(), listener()];
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}
