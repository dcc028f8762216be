//! Whose components a host loads when it is told whom to trust: real signatures, as `minisign` makes them.
//!
//! What is wrong with components themselves is elsewhere.

use std::io::Cursor;
use std::path::Path;

use minisign::KeyPair;
use sandbar::guest::Engine;
use sandbar::plugin::{Loader, PluginSpec, TrustedKey};
use sandbar_tests::guests::{guest, version};
use sandbar_tests::process::Folder;

/// What is tried, the signature, who is trusted, and why it is refused.
type Case<'a> = (&'a str, Option<String>, &'a [&'a Signer], Option<&'a str>);

struct Signer(KeyPair);

impl Signer {
    fn new() -> Self {
        Self(KeyPair::generate_unencrypted_keypair().unwrap())
    }

    fn key(&self) -> TrustedKey {
        self.text().parse().unwrap()
    }

    fn text(&self) -> String {
        self.0.pk.to_base64()
    }

    /// Signs a file as `minisign -Sm FILE` does.
    fn sign(&self, file: &Path) {
        let signature = self.signature(&std::fs::read(file).unwrap());
        std::fs::write(beside(file), signature).unwrap();
    }

    fn signature(&self, bytes: &[u8]) -> String {
        let signed = minisign::sign(
            Some(&self.0.pk),
            &self.0.sk,
            Cursor::new(bytes),
            Some("a trusted comment"),
            None,
        );
        signed.unwrap().into_string()
    }
}

fn beside(file: &Path) -> std::path::PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

#[tokio::test]
async fn only_what_a_trusted_key_signed_is_loaded() {
    let loader = Loader::new(Engine::new().unwrap());
    let (ours, theirs) = (Signer::new(), Signer::new());
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(guest("echo")).unwrap();
    let other = ours.signature(b"another component");
    let good = ours.signature(&bytes);
    // The comment is signed too, but may be replaced as a whole; a changed one is no signature of anything.
    let changed = good.replace("a trusted comment", "another comment");
    let cases: [Case<'_>; 10] = [
        ("nobody is asked", None, &[], None),
        ("signed", Some(good.clone()), &[&ours], None),
        ("one of two", Some(good.clone()), &[&theirs, &ours], None),
        ("not signed", None, &[&ours], Some("it is not signed")),
        (
            "by others",
            Some(good.clone()),
            &[&theirs],
            Some("somebody else signed it"),
        ),
        (
            "of others",
            Some(other),
            &[&ours],
            Some("was changed after it"),
        ),
        (
            "comment changed",
            Some(changed),
            &[&ours],
            Some("was changed after it"),
        ),
        (
            "empty",
            Some(String::new()),
            &[&ours],
            Some("none of minisign's"),
        ),
        (
            "text",
            Some("no\nsignature\nat\nall\n".to_owned()),
            &[&ours],
            Some("none of minisign's"),
        ),
        (
            "huge",
            Some("x".repeat(1 << 20)),
            &[&ours],
            Some("too large"),
        ),
    ];
    for (case, signature, trusted, refused) in cases {
        let file = folder
            .path()
            .join(format!("{}.wasm", case.replace(' ', "-")));
        std::fs::write(&file, &bytes).unwrap();
        if let Some(signature) = signature {
            std::fs::write(beside(&file), signature).unwrap();
        }
        let mut spec = PluginSpec::from_file(&file);
        spec.trusted = trusted.iter().map(|signer| signer.key()).collect();
        match (loader.load(spec).await, refused) {
            (Ok(_), None) => {}
            (Err(error), Some(why)) => {
                let error = error.to_string();
                assert!(error.contains(why), "{case}: {error}");
                assert!(
                    error.contains(&file.display().to_string()),
                    "{case}: {error}"
                );
            }
            (outcome, _) => panic!("{case}: {outcome:?}"),
        }
    }
    // A byte that is changed afterwards.
    let file = folder.path().join("signed.wasm");
    let mut bytes = bytes;
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let mut spec = PluginSpec::from_file(&file);
    spec.trusted = [ours.key()].into();
    let error = loader.load(spec).await.unwrap_err().to_string();
    assert!(error.contains("was changed after it"), "{error}");
}

#[test]
fn a_key_that_is_none_is_found_in_the_configuration() {
    let folder = Folder::new();
    folder.write("sandbar.toml", "trusted_keys = [\"RWnonsense\"]\n");
    let refused = folder.run(["config", "check"]);
    assert_eq!(refused.code, Some(64), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("second line of minisign.pub"),
        "{}",
        refused.stderr
    );
}

/// A host that is told whom to trust goes on with what it has until the right signature is there, and what was deployed
/// is trusted again after a crash.
#[test]
fn a_running_host_swaps_only_to_what_is_signed() {
    let (ours, theirs) = (Signer::new(), Signer::new());
    let folder = Folder::new();
    let keys = format!("trusted_keys = [\"{}\"]\n", ours.text());
    let settings = "[plugins.swap]\nstate = true\npublish = [\"out.>\"]\n";
    folder.write("sandbar.toml", keys + settings);
    let file = folder.write("plugins/swap.wasm", version(&[]));
    let unsigned = folder.run(["check", "plugins/swap.wasm"]);
    assert_ne!(unsigned.code, Some(0));
    assert!(
        unsigned.stderr.contains("it is not signed"),
        "{}",
        unsigned.stderr
    );
    ours.sign(&file);
    let mut host = folder.host::<&str>([]);
    let ask = |expected: &str| {
        let reply = folder.run(["request", "swap.ask"]);
        assert_eq!(reply.stdout.trim(), expected, "{}", reply.stderr);
    };
    ask("version one");

    // Whoever can write the file, but has no key, gets nothing loaded.
    std::fs::write(&file, version(&[("version one", "version two")])).unwrap();
    host.wait_for("is not the signature of this component");
    ask("version one");
    theirs.sign(&file);
    ask("version one");
    ours.sign(&file);
    host.wait_for("serving a new version");
    ask("version two");

    // Deployed from elsewhere, with its signature, which is needed again at the next start.
    let third = folder.write(
        "elsewhere/x.wasm",
        version(&[("version one", "version 333")]),
    );
    let deploy = ["plugins", "deploy", "swap", "elsewhere/x.wasm"];
    let refused = folder.run(deploy);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("it is not signed"),
        "{}",
        refused.stderr
    );
    ours.sign(&third);
    let deployed = folder.run(deploy);
    assert_eq!(deployed.code, Some(0), "{}", deployed.stderr);
    ask("version 333");
    std::fs::remove_dir_all(folder.path().join("elsewhere")).unwrap();
    host.signal("KILL");
    host = {
        drop(host.ended());
        folder.host::<&str>([])
    };
    ask("version 333");
    host.signal("INT");
    assert_eq!(host.ended().code, Some(0));
}
