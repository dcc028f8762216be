//! A disk that cannot be written, and one that is full.

use sandbar_tests::disk::Small;
use sandbar_tests::process::Folder;

use crate::check;

#[test]
fn a_read_only_disk_is_an_error() {
    let folder = Folder::new();
    let Some(small) = Small::mount(&folder, "small", "4m") else {
        return;
    };
    small.remount_read_only();
    assert_eq!(
        check(
            "disk_read_only",
            &folder,
            &["send", "t", "1", "--data", "small/data"]
        )
        .code,
        Some(1)
    );
}

#[test]
fn a_file_in_place_of_the_folder_is_an_error() {
    let folder = Folder::new();
    folder.write("data", "a file");
    assert_eq!(
        check("disk_file", &folder, &["send", "t", "1", "--data", "data"]).code,
        Some(1)
    );
    folder.write(
        "other/README",
        "a folder with something else is used all the same",
    );
    assert_eq!(
        folder.run(["send", "t", "1", "--data", "other"]).code,
        Some(0)
    );
}

#[test]
fn a_full_disk_is_an_error_and_what_was_accepted_stays() {
    let folder = Folder::new();
    let Some(small) = Small::mount(&folder, "small", "8m") else {
        return;
    };
    let data = small.path().join("data").display().to_string();
    let line = format!("\"{}\"\n", "x".repeat(1000));
    folder.write("lines", line.repeat(20_000));
    let sent = folder.run(["send", "t", "--lines", "lines", "--data", &data, "--json"]);
    assert_eq!(sent.code, Some(1), "{}", sent.stderr);
    let account: serde_json::Value = serde_json::from_str(&sent.stdout).unwrap();
    let accepted = account["accepted"].as_u64().unwrap();
    assert!(
        sent.stderr.contains("go on from there with `--skip"),
        "{}",
        sent.stderr
    );
    assert_eq!(
        account["next_line"].as_u64(),
        Some(accepted + 1),
        "{}",
        sent.stderr
    );

    // With room again, everything that was accepted is there, and nothing else.
    small.grow();
    let count = accepted.to_string();
    let received = folder.run([
        "receive",
        "t",
        "--count",
        &count,
        "--timeout",
        "30s",
        "--data",
        &data,
    ]);
    assert_eq!(received.code, Some(0), "{}", received.stderr);
    let more = folder.run(["receive", "t", "--timeout", "300ms", "--data", &data]);
    assert_eq!(more.stdout, "");
}
