//! A private PostgreSQL server, and psql sessions that disturb others.
//!
//! It runs as the user `postgres` when the tests run as root, for it refuses to run as root.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::missing;
use crate::disk::Small;
use crate::process::{finish, signal};

/// A server. It ends when this is dropped or the process ends, however that happens.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    /// What its data is on, if that is something of its own.
    disk: Option<Small>,
    /// Its end tells the watchman that nobody needs the server any more.
    watchman: Option<(Child, ChildStdin)>,
}

impl Postgres {
    /// The server that the tests of one process share; each uses a [schema](Self::schema) of its own.
    #[must_use]
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[])).as_ref()
    }

    /// A server of one's own with these settings; `None` if PostgreSQL isn't installed, which has been said then.
    ///
    /// # Panics
    /// When it is installed and doesn't start.
    #[must_use]
    pub fn start(settings: &[(&str, &str)]) -> Option<Self> {
        Self::on(settings, None)
    }

    /// The same with its data on a small file system of its own; what is written ahead (WAL) is on it only if `all` of it is.
    /// `None` also where that cannot be mounted, which has been said then.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn on_a_small_disk(size: &str, all: bool) -> Option<Self> {
        // A segment less to begin with.
        let settings = [("min_wal_size", "32MB"), ("max_wal_size", "32MB")];
        Self::on(&settings, Some((size, all)))
    }

    fn on(settings: &[(&str, &str)], disk: Option<(&str, bool)>) -> Option<Self> {
        if binaries().is_none() {
            missing("PostgreSQL", "postgresql");
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("sandbar-postgres-")
            .tempdir()
            .expect("a temporary folder")
            .keep();
        if root() {
            let mut chown = Command::new("chown");
            run(chown.arg("postgres").arg(&folder));
        }
        let mut server = Self {
            watchman: Some(watch(&folder)),
            disk: None,
            folder,
            port: 0,
        };
        let data = server.data();
        if let Some((size, _)) = disk {
            server.disk = Some(Small::mount_at(data.clone(), size)?);
            let mut chown = Command::new("chown");
            run(chown.arg("postgres").arg(&data));
        }
        let mut initdb = command("initdb");
        initdb.args([
            "-A",
            "trust",
            "-U",
            "sandbar",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]);
        if disk.is_some_and(|(_, all)| !all) {
            initdb.arg("-X").arg(server.folder.join("wal"));
        }
        run(initdb.args(["--no-sync", "-D"]).arg(&data));
        server.port = free_port();
        let mut options = format!(
            "-p {} -k '{}' -c listen_addresses=127.0.0.1",
            server.port,
            server.folder.display()
        );
        for (name, value) in settings {
            options.push_str(&format!(" -c {name}={value}"));
        }
        server.control(&["-o", &options, "start"]);
        Some(server)
    }

    /// How to reach its database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://sandbar@127.0.0.1:{}/postgres", self.port)
    }

    /// Its port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What its data is on.
    ///
    /// # Panics
    /// When that is nothing of its own.
    #[must_use]
    pub fn disk(&self) -> &Small {
        self.disk.as_ref().expect("a disk of its own")
    }

    /// Has it write so many bytes ahead, of which nothing comes; it may not survive that.
    pub fn writes_ahead(&self, bytes: usize) {
        let sql = format!("SELECT pg_logical_emit_message(false, 'test', repeat('x', {bytes}))");
        drop(self.connect("sandbar", &sql));
    }

    /// Whether it answers.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.try_session_as("sandbar").is_some()
    }

    /// The name of a schema that nobody else uses.
    #[must_use]
    pub fn schema(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Ends it without writing anything, as a crash does, and starts it again.
    pub fn crash(&self) {
        self.control(&["-m", "immediate", "restart"]);
    }

    /// Ends it without writing anything.
    pub fn stop(&self) {
        self.control(&["-m", "immediate", "stop"]);
    }

    /// Starts it again as it was.
    pub fn again(&self) {
        // `restart` starts what doesn't run with the options of the last start.
        self.control(&["restart"]);
    }

    /// Runs statements and returns what they print.
    ///
    /// # Panics
    /// When one of them fails.
    pub fn psql(&self, sql: &str) -> String {
        let mut psql = self.client("sandbar");
        let done = finish(
            {
                psql.args(["-v", "ON_ERROR_STOP=1", "-c", sql]);
                psql
            },
            b"",
        );
        assert_eq!(done.code, Some(0), "{sql}: {}", done.stderr);
        done.stdout.trim().to_owned()
    }

    /// A session that does these statements and then keeps its connection, and its transaction if it has begun one.
    ///
    /// # Panics
    /// When psql doesn't start.
    #[must_use]
    pub fn session(&self, sql: &str) -> Session {
        self.connect("sandbar", sql).expect("it is connected")
    }

    /// A session of this user that does nothing; `None` when the server has no connection for it.
    ///
    /// # Panics
    /// When psql doesn't start.
    #[must_use]
    pub fn try_session_as(&self, user: &str) -> Option<Session> {
        self.connect(user, "SELECT 1")
    }

    fn connect(&self, user: &str, sql: &str) -> Option<Session> {
        let mut psql = self.client(user);
        psql.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = psql.spawn().expect("psql starts");
        let mut stdin = child.stdin.take().expect("it has a standard input");
        // It may have ended already.
        writeln!(stdin, "{sql};\n\\echo done").ok();
        let stdout = child.stdout.take().expect("it has a standard output");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
        let done = lines.any(|line| line.is_ok_and(|line| line == "done"));
        let session = Session {
            child,
            stdin: Some(stdin),
        };
        done.then_some(session)
    }

    fn client(&self, user: &str) -> Command {
        let mut psql = Command::new(binaries().expect("it runs").join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-U", user, "-p"])
            .arg(self.port.to_string())
            .arg("postgres");
        psql
    }

    /// Stops all its processes where they are.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Has all its processes go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid"));
        let file = file.expect("it runs");
        let first = file
            .lines()
            .next()
            .and_then(|line| line.parse::<u32>().ok());
        let first = first.expect("the file begins with a number");
        // The first process makes the others, so it stops first.
        signal(first, name);
        let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            // It may have ended meanwhile.
            let mut kill = Command::new("kill");
            let kill = kill.arg(format!("-{name}")).arg(child);
            kill.stderr(Stdio::null()).status().ok();
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn control(&self, arguments: &[&str]) {
        let mut control = command("pg_ctl");
        control.args(["-s", "-w", "-D"]).arg(self.data());
        control.arg("-l").arg(self.folder.join("log"));
        run(control.args(arguments));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some((mut watchman, stdin)) = self.watchman.take() {
            drop(stdin);
            watchman.wait().ok();
        }
        // What is mounted could not be removed with the rest.
        if self.disk.take().is_some() {
            std::fs::remove_dir_all(&self.folder).ok();
        }
    }
}

/// A session of psql.
#[derive(Debug)]
pub struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Session {
    /// Does these statements as well, and ends.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn end(mut self, sql: &str) {
        let mut stdin = self.stdin.take().expect("it goes on until here");
        writeln!(stdin, "{sql};").expect("it reads");
        drop(stdin);
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{sql}");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Stops the server and removes its folder when its standard input ends, which happens however this process ends.
fn watch(folder: &Path) -> (Child, ChildStdin) {
    const SCRIPT: &str =
        "read -r line; \"$1\" -s -m immediate -D \"$2/data\" stop; cd /; rm -rf \"$2\"";
    let mut shell = command_as_server("setsid".as_ref());
    let control = binaries().expect("it is installed").join("pg_ctl");
    shell
        .args(["sh", "-c", SCRIPT, "sh"])
        .arg(control)
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = shell.spawn().expect("a shell starts");
    let stdin = child.stdin.take().expect("it has a standard input");
    (child, stdin)
}

fn command(binary: &str) -> Command {
    command_as_server(&binaries().expect("it is installed").join(binary))
}

pub(super) fn command_as_server(program: &Path) -> Command {
    let mut command = if root() {
        let mut runuser = Command::new("runuser");
        runuser.args(["-u", "postgres", "--"]).arg(program);
        runuser
    } else {
        Command::new(program)
    };
    // It cannot enter every folder of ours.
    command.current_dir("/");
    command
}

fn run(command: &mut Command) {
    let mut owned = Command::new(command.get_program());
    owned.args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        owned.current_dir(folder);
    }
    let text = format!("{owned:?}");
    let done = finish(owned, b"");
    assert_eq!(done.code, Some(0), "{text}: {}{}", done.stdout, done.stderr);
}

fn root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// The newest version that is installed, as Debian has it, or that of the search path.
fn binaries() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten();
        let mut folders: Vec<PathBuf> = versions
            .flatten()
            .map(|version| version.path().join("bin"))
            .collect();
        let version = |folder: &PathBuf| {
            let name = folder.parent().and_then(Path::file_name);
            name.and_then(|name| name.to_str()?.parse::<u32>().ok())
        };
        folders.sort_by_key(version);
        let path = std::env::var_os("PATH").unwrap_or_default();
        folders.reverse();
        folders.extend(std::env::split_paths(&path));
        folders
            .into_iter()
            .find(|folder| folder.join("initdb").is_file() && folder.join("psql").exists())
    };
    FOUND.get_or_init(find).as_deref()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}
