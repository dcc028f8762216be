//! The `sandbar` binary as a process: run to its end, or running as a host, in a folder of its own.
//!
//! Everything is bounded in time, and a host that a test forgets is killed when it is dropped.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::guests;

/// How long a command or a host may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary of the same profile, built once.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(&[]))
}

/// The same with the places at which it can be killed, under a name of its own.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn binary_with_kill_points() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // Nobody else of this process builds any more.
        let usual = binary();
        let own = usual.with_file_name("sandbar-kill-points");
        let built = build(&["--features", "sandbar/kill-points"]);
        std::fs::copy(built, &own).expect("the folder of the profile can be written");
        own
    })
}

/// Builds it where cargo puts it.
fn build(features: &[&str]) -> PathBuf {
    let target = guests::target();
    let exe = std::env::current_exe().expect("a test knows its own path");
    let profile = exe
        .ancestors()
        .nth(2)
        .and_then(Path::file_name)
        .expect("target/PROFILE/deps/TEST");
    let mut cargo = guests::cargo();
    cargo
        .args([
            "build",
            "--quiet",
            "-p",
            "sandbar",
            // With a test, so that its dependencies have the features that they have for tests, and are built once.
            "-p",
            "sandbar-tests",
            "--test",
            "invariants",
            "--bin",
            "sandbar",
            "--target-dir",
        ])
        .arg(&target)
        .args(features);
    // The folder of the profile `dev` has another name.
    cargo.arg("--profile").arg(if profile == "debug" {
        OsStr::new("dev")
    } else {
        profile
    });
    let output = cargo.output().expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    target.join(profile).join("sandbar")
}

/// A folder with its own plugins and data, gone with the value.
#[derive(Debug)]
pub struct Folder(tempfile::TempDir);

/// A command that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Folder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self(
            tempfile::Builder::new()
                .prefix("sandbar-test-")
                .tempdir()
                .expect("a temporary folder"),
        )
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let file = self.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a file is in a folder")).unwrap();
        std::fs::write(&file, content).unwrap();
        file
    }

    /// Copies the component of a plugin to `name`.
    pub fn guest(&self, plugin: &str, name: &str) -> PathBuf {
        self.write(name, std::fs::read(guests::guest(plugin)).unwrap())
    }

    /// The binary in this folder, with nothing of our own environment that it would read.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SANDBAR_") {
                command.env_remove(name);
            }
        }
        // What a user has compiled before is nothing for a test.
        command.env("XDG_CACHE_HOME", self.path().join("user-cache"));
        command.env("COLUMNS", "100").stdin(Stdio::null());
        command
    }

    /// Sends numbers to a topic, each as a message whose reply goes to `reply_to`.
    ///
    /// # Panics
    /// When they are not taken.
    pub fn send_numbers(&self, topic: &str, numbers: Range<usize>, reply_to: &str) {
        let lines: Vec<String> = numbers.map(|number| number.to_string()).collect();
        self.write("lines", lines.join("\n"));
        let sent = self.run(["send", topic, "--lines", "lines", "--reply-to", reply_to]);
        assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    }

    /// Runs a command to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Finished {
        finish(self.command(arguments), b"")
    }

    /// Runs a command to its end with this on its standard input.
    pub fn run_with<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Finished {
        finish(self.command(arguments), input)
    }

    /// Starts a host and waits until it is ready.
    pub fn host<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Host {
        self.host_in("", arguments)
    }

    /// Starts a host in a folder within this one and waits until it is ready.
    pub fn host_in<S: AsRef<OsStr>>(
        &self,
        folder: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Host {
        let mut command = self.command(["run"]);
        command
            .args(arguments)
            .current_dir(self.path().join(folder));
        Host::start(command)
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs a command to its end, at most for [`PATIENCE`].
///
/// # Panics
/// When it takes longer.
pub fn finish(mut command: Command, input: &[u8]) -> Finished {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let id = child.id();
    // A command that reads nothing closes its end; that is its right.
    child.stdin.take().unwrap().write_all(input).ok();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()).ok());
    let Ok(output) = receiver.recv_timeout(PATIENCE) else {
        signal(id, "KILL");
        panic!("{command:?} took longer than {PATIENCE:?}");
    };
    let output = output.unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Sends a signal such as `TERM` to a process that we started.
pub fn signal(id: u32, name: &str) {
    let killed = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(id.to_string())
        .status()
        .unwrap();
    assert!(killed.success(), "kill -{name} {id}");
}

/// A host that runs.
#[derive(Debug)]
pub struct Host {
    child: Child,
    log: Arc<Mutex<String>>,
    lines: Receiver<String>,
}

impl Host {
    /// Starts the command of a host and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, seen) = (child.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = seen.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
                drop(log);
                sender.send(line).ok();
            }
        });
        let host = Self { child, log, lines };
        host.wait_for("ready in ");
        host
    }

    /// Waits until a line of its log contains a text, and returns it. Each line is looked at once.
    ///
    /// # Panics
    /// When no such line comes.
    pub fn wait_for(&self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(error) => panic!(
                    "the host never said {text:?} ({error}); it said:\n{}",
                    self.log()
                ),
            }
        }
    }

    /// Waits until all that it has said fulfils a condition; lines that were waited for before are looked at as well.
    ///
    /// # Panics
    /// When it says nothing more and the condition is not fulfilled.
    pub fn wait_until(&self, what: &str, fulfilled: impl Fn(&str) -> bool) {
        while !fulfilled(&self.log()) {
            if let Err(error) = self.lines.recv_timeout(PATIENCE) {
                panic!("never {what} ({error}); the host said:\n{}", self.log());
            }
        }
    }

    /// Everything that it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The number of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it is asked over HTTP.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        let log = self.log();
        let line = log.lines().find(|line| line.contains(" answers /livez"));
        let place = line.and_then(|line| line.split("http://").nth(1)?.split(' ').next());
        let address: SocketAddr = place.and_then(|it| it.parse().ok()).expect(&log);
        // Where it listens everywhere, it is asked here.
        SocketAddr::from(([127, 0, 0, 1], address.port()))
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits until it has ended, and returns its exit code, what it wrote and what it said.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn ended(mut self) -> Finished {
        // The log ends when the process does.
        while self.lines.recv_timeout(PATIENCE) != Err(mpsc::RecvTimeoutError::Disconnected) {}
        let status: ExitStatus = self.child.wait().unwrap();
        let mut stdout = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut stdout)
            .unwrap();
        Finished {
            code: status.code(),
            stdout,
            stderr: self.log(),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
