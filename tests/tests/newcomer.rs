//! The first half hour: from an empty folder to a reply, and every mistake that is made on the way, each with its remedy.
//!
//! It does what README.md says, with the real compiler; what each mistake is answered is in `tests/golden`. What the SDK
//! can do is tested with the SDK.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure shall end the test"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use sandbar_tests::process::{Finished, Folder};
use sandbar_tests::{golden, guests};

const FILE: &str = "target/wasm32-wasip2/release/hello.wasm";

/// A handler that makes mistakes.
const MISTAKES: &str = r#"
use sandbar_guest::{Context, Result, command};

/// Ends badly.
#[command("hello.panic")]
fn panics(text: String) -> String {
    panic!("no {text} here")
}

/// Does not end.
#[command("hello.loop")]
fn loops() {
    loop {
        std::hint::spin_loop();
    }
}

/// Does what nobody has allowed.
#[command("hello.tell")]
fn tells(ctx: &Context) -> Result<()> {
    Ok(ctx.publish("hello.told", "me")?)
}

sandbar_guest::plugin!(panics, loops, tells);
"#;

/// What a newcomer has on the screen: a terminal in the folder of the plugin, and the output of commands.
struct Newcomer(Folder);

impl Newcomer {
    /// A cargo whose target folder outlives the test, so that the crates are compiled once. Everything that it needs was
    /// downloaded for this test itself.
    fn cargo(&self, arguments: &[&str]) -> (bool, String) {
        let mut cargo: Command = guests::cargo();
        cargo.args(arguments).arg("--offline");
        cargo
            .current_dir(self.folder())
            .env("CARGO_TARGET_DIR", target());
        let output = cargo.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            output.status.success(),
            said + &String::from_utf8_lossy(&output.stdout),
        )
    }

    /// Builds the component, and puts it where cargo would put it without a target folder of its own.
    fn build(&self) {
        let (done, said) = self.cargo(&["build", "--release", "--target", "wasm32-wasip2"]);
        assert!(done, "{said}");
        let built = target().join("wasm32-wasip2/release/hello.wasm");
        self.write(FILE, std::fs::read(built).unwrap());
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("hello")
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        self.0.write(&format!("hello/{name}"), content);
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder().join(name)).unwrap()
    }

    /// Runs a command in the folder of the plugin, and compares all of its end.
    fn check(&self, name: &str, arguments: &[&str]) -> Finished {
        let mut command = self.0.command(arguments);
        command.current_dir(self.folder());
        let finished = sandbar_tests::process::finish(command, b"");
        golden::check(&format!("newcomer_{name}"), self.0.path(), &finished);
        finished
    }
}

fn target() -> PathBuf {
    guests::target().join("newcomer")
}

#[test]
fn from_an_empty_folder_to_a_reply_and_through_every_mistake() {
    let newcomer = Newcomer(Folder::new());
    let created = newcomer.0.run(["new", "hello"]);
    golden::check("newcomer_new", newcomer.0.path(), &created);
    assert_eq!(created.code, Some(0));
    let again = newcomer.0.run(["new", "hello"]);
    golden::check("newcomer_again", newcomer.0.path(), &again);

    // Not built yet.
    assert_eq!(newcomer.check("not_built", &["run"]).code, Some(64));
    let (done, said) = newcomer.cargo(&["test"]);
    assert!(done && said.contains("2 passed"), "{said}");
    newcomer.build();
    assert_eq!(newcomer.check("config", &["config", "check"]).code, Some(0));
    assert_eq!(newcomer.check("check", &["check", FILE]).code, Some(0));
    {
        let _host = newcomer.0.host_in("hello", ["--log", "info"]);
        let ask = ["request", "hello.greet", r#"{"name":"Ada"}"#];
        let reply = newcomer.check("reply", &ask);
        assert_eq!(reply.stdout, "{\"text\":\"Hello Ada!\",\"visits\":1}\n");
        newcomer.check("malformed", &["request", "hello.greet", r#"{"name":"#]);
        newcomer.check("field", &["request", "hello.greet", r#"{"nme":"Ada"}"#]);
        newcomer.check("rejected", &["request", "hello.greet", r#"{"name":""}"#]);
        newcomer.check("topic", &["request", "hello.great", r#"{"name":"Ada"}"#]);
    }
    newcomer.check("no_host", &["request", "hello.greet", r#"{"name":"Ada"}"#]);

    forgets_a_grant(&newcomer);
    builds_something_else(&newcomer);
    serves_it_twice(&newcomer);
    does_not_compile(&newcomer);
    crashes(&newcomer);
}

fn forgets_a_grant(newcomer: &Newcomer) {
    let config = newcomer.read("sandbar.toml");
    let without: String = config
        .lines()
        .filter(|line| !line.starts_with("state"))
        .collect::<Vec<_>>()
        .join("\n");
    newcomer.write("sandbar.toml", &without);
    {
        let host = newcomer.0.host_in("hello", ["--log", "info"]);
        assert!(
            host.log().contains(
                "write into sandbar.toml:\n           [plugins.hello]\n           state = true"
            ),
            "{}",
            host.log()
        );
        let ask = ["request", "hello.greet", r#"{"name":"Ada"}"#];
        assert_eq!(newcomer.check("forbidden", &ask).code, Some(1));
    }
    newcomer.write("sandbar.toml", &config);
}

fn builds_something_else(newcomer: &Newcomer) {
    // Without a target it becomes a library of this machine.
    let (done, said) = newcomer.cargo(&["build"]);
    assert!(done, "{said}");
    let native = target().join("debug").join(format!(
        "{}hello{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    ));
    newcomer.write("native", std::fs::read(native).unwrap());
    assert_eq!(newcomer.check("native", &["check", "native"]).code, Some(1));
    newcomer.write("core.wasm", wat::parse_str("(module)").unwrap());
    assert_eq!(
        newcomer.check("core", &["check", "core.wasm"]).code,
        Some(1)
    );
    assert_eq!(
        newcomer.check("source", &["check", "src/lib.rs"]).code,
        Some(1)
    );
    let whole = std::fs::read(newcomer.folder().join(FILE)).unwrap();
    newcomer.write("half.wasm", &whole[..whole.len() / 2]);
    assert_eq!(
        newcomer.check("half", &["check", "half.wasm"]).code,
        Some(1)
    );
}

fn serves_it_twice(newcomer: &Newcomer) {
    newcomer.write(
        "old.wasm",
        std::fs::read(newcomer.folder().join(FILE)).unwrap(),
    );
    assert_eq!(newcomer.check("twice", &["run", "old.wasm"]).code, Some(1));
}

fn does_not_compile(newcomer: &Newcomer) {
    let good = newcomer.read("src/lib.rs");
    for (wrong, expected) in [
        (
            good.replace("Json(visitor): Json<Visitor>", "visitor: Visitor"),
            "`Visitor` cannot be a parameter of a handler",
        ),
        (
            good.replace("hello.greet\")]\nfn", "hello..greet\")]\nfn"),
            "has an empty token",
        ),
    ] {
        assert_ne!(wrong, good);
        newcomer.write("src/lib.rs", &wrong);
        let (done, said) = newcomer.cargo(&["build", "--release", "--target", "wasm32-wasip2"]);
        assert!(
            !done && said.contains(expected) && said.contains("src/lib.rs:"),
            "{said}"
        );
    }
    // It compiles, and has no handler.
    let end = good.find("sandbar_guest::plugin!").unwrap();
    newcomer.write("src/lib.rs", &good[..end]);
    newcomer.build();
    assert_eq!(newcomer.check("no_handler", &["check", FILE]).code, Some(1));
}

fn crashes(newcomer: &Newcomer) {
    newcomer.write("src/lib.rs", MISTAKES);
    newcomer.build();
    let limits =
        "\n[plugins.hello.limits]\ntime = \"100ms\"\n[plugins.hello.retry]\nmax_attempts = 1\n";
    newcomer.write("sandbar.toml", newcomer.read("sandbar.toml") + limits);
    let host = newcomer.0.host_in("hello", ["--log", "info"]);
    newcomer.check("panic", &["request", "hello.panic", "milk"]);
    // The place is in the log.
    let line = host.wait_for("handler panicked");
    assert!(
        line.contains("no milk here") && line.contains("src/lib.rs:7"),
        "{line}"
    );
    newcomer.check("loop", &["request", "hello.loop"]);
    host.wait_for("reason=timeout");
    newcomer.check("tell", &["request", "hello.tell"]);
}

#[test]
fn the_page_shows_what_is_written() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let folder = Folder::new();
    let created = folder.run(["new", "hello"]);
    let handler = std::fs::read_to_string(folder.path().join("hello/src/lib.rs")).unwrap();
    let from = handler.find("/// Greets a visitor.").unwrap();
    let to = handler.find("#[cfg(test)]").unwrap();
    assert!(
        readme.contains(handler[from..to].trim()),
        "README.md shows another handler"
    );
    // Every command that `sandbar new` names is there too.
    let commands = created.stderr.lines().filter(|line| line.starts_with("  "));
    let commands = commands.map(|line| line.split('#').next().unwrap().trim());
    for command in commands {
        assert!(
            readme.contains(command),
            "README.md does not say {command:?}"
        );
    }
}
