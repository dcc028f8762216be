//! A plugin and its versions on a running host: what the verbs say then is in `docs/plugins.md`, to the letter.
//!
//! One story, told in sessions; what the verbs do is tested in `reload_files.rs`.

use sandbar_tests::golden;
use sandbar_tests::guests::version;
use sandbar_tests::process::{Finished, Folder, finish};

/// What every golden file of the story begins with.
const PREFIX: &str = "plugins_";

fn session(name: &str, folder: &Folder, arguments: &[&str]) -> Finished {
    let mut command = folder.command(arguments);
    command.env("USER", "ada");
    let finished = finish(command, b"");
    let name = format!("{PREFIX}{name}");
    golden::session(&name, folder.path(), arguments, &finished);
    finished
}

#[test]
fn versions_come_and_go_back() {
    let folder = Folder::new();
    folder.write("plugins/swap.wasm", version(&[]));
    folder.write("two.wasm", version(&[("version one", "version two")]));
    folder.write("broken.wasm", &version(&[])[..3_000]);
    folder.write(
        "sandbar.toml",
        "[plugins.swap]\nstate = true\npublish = [\"out.>\"]\n",
    );
    let host = folder.host::<&str>([]);
    let says = |name: &str, arguments: &[&str], code: i32| {
        let said = session(name, &folder, arguments);
        assert_eq!(said.code, Some(code), "{said:?}");
    };
    says("list", &["plugins", "list"], 0);
    says("deploy", &["plugins", "deploy", "swap", "two.wasm"], 0);
    says("ask", &["request", "swap.ask"], 0);
    says("refused", &["plugins", "deploy", "swap", "broken.wasm"], 1);
    says("history", &["plugins", "history", "swap"], 0);
    says("show", &["plugins", "show", "swap"], 0);
    says("rollback", &["plugins", "rollback", "swap"], 0);
    says("pause", &["plugins", "pause", "swap"], 0);
    says("paused", &["plugins", "list"], 0);
    says("resume", &["plugins", "resume", "swap"], 0);
    says("remove", &["plugins", "remove", "swap"], 0);
    says("back", &["plugins", "rollback", "swap", "--to", "2"], 0);
    says("unknown", &["plugins", "show", "swop"], 1);
    drop(host);
    says("nobody", &["plugins", "list"], 1);
}

/// The manual quotes every session, to the letter.
#[test]
fn the_page_about_plugins_quotes_what_is_said() {
    golden::quoted("docs/plugins.md", PREFIX);
}
