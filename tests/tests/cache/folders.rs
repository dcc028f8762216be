//! Folders: private or not used, and no reason to fail.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::Command;

use sandbar::guest::{CacheOptions, look_at_cache};

use super::{Place, answers, cached, compiled, echo, entries, load_with, mode, set_mode};

#[tokio::test]
async fn nobody_else_has_access() {
    let place = Place::new();
    place.start().await;
    assert_eq!(mode(&place.dir()), 0o700);
    for file in [place.dir().join("key"), place.entry()] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn a_folder_that_was_open_to_others_is_begun_anew() {
    for bits in [0o750, 0o701, 0o777] {
        let place = Place::new();
        place.start().await;
        let secret = fs::read(place.dir().join("key")).unwrap();
        set_mode(&place.dir(), bits);
        let state = look_at_cache(&place.options());
        assert_eq!(state.trouble.as_deref(), Some("others have access to it"));
        assert_eq!(place.start().await, compiled(0), "{bits:o}");
        assert_eq!(mode(&place.dir()), 0o700);
        assert_ne!(fs::read(place.dir().join("key")).unwrap(), secret);
        assert_eq!(place.start().await, cached());
    }
}

#[tokio::test]
async fn a_key_that_others_could_read_is_replaced() {
    let place = Place::new();
    place.start().await;
    let key = place.dir().join("key");
    let secret = fs::read(&key).unwrap();
    set_mode(&key, 0o640);
    assert!(look_at_cache(&place.options()).trouble.is_some());
    assert_eq!(place.start().await, compiled(0));
    assert_eq!(mode(&key), 0o600);
    assert_ne!(fs::read(&key).unwrap(), secret);
    assert_eq!(place.start().await, cached());
}

#[tokio::test]
async fn an_entry_that_others_could_change_is_replaced() {
    let place = Place::new();
    place.start().await;
    set_mode(&place.entry(), 0o620);
    assert_eq!(place.start().await, compiled(1));
    assert_eq!(mode(&place.entry()), 0o600);
    assert_eq!(place.start().await, cached());
}

#[tokio::test]
async fn an_entry_that_is_a_link_is_not_followed() {
    let place = Place::new();
    place.start().await;
    let (file, elsewhere) = (place.entry(), place.0.path().join("elsewhere"));
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    assert_eq!(place.start().await, compiled(1));
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
    assert_eq!(place.start().await, cached());
}

/// Somebody hands over a data folder, or a backup is played back: with it comes no machine code.
#[tokio::test]
async fn a_copy_of_a_folder_brings_no_code() {
    let (place, copy) = (Place::new(), Place::new());
    place.start().await;
    let copied = Command::new("cp")
        .arg("-a")
        .args([place.dir(), copy.dir()])
        .status();
    assert!(copied.unwrap().success());
    let key = |place: &Place| fs::read(place.dir().join("key")).unwrap();
    assert_eq!(key(&place), key(&copy));
    assert_eq!(look_at_cache(&copy.options()).refused, 1);
    assert_eq!(copy.start().await, compiled(1));
    assert_eq!(copy.start().await, cached());
    // One that is moved is the same.
    let moved = place.0.path().join("moved");
    fs::rename(place.dir(), &moved).unwrap();
    let (_, counts) = load_with(CacheOptions::new(moved), &echo());
    assert_eq!(counts, cached());
}

#[tokio::test]
async fn a_folder_that_is_used_for_something_else_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.dir()).unwrap();
    fs::write(place.dir().join("letter.txt"), "dear Ann").unwrap();
    set_mode(&place.dir(), 0o755);
    assert_eq!(place.start().await, compiled(0));
    assert_eq!(mode(&place.dir()), 0o755);
    assert_eq!(fs::read_dir(place.dir()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_folder_of_somebody_else_is_not_used() {
    let place = Place::new();
    place.start().await;
    if chown(place.dir(), Some(65_534), None).is_err() {
        eprintln!("SKIPPED: folders cannot be given to others here; run it as root");
        return;
    }
    let before = fs::read(place.entry()).unwrap();
    let trouble = look_at_cache(&place.options()).trouble.unwrap();
    assert!(trouble.contains("belongs to user 65534"), "{trouble}");
    assert_eq!(place.start().await, compiled(0));
    assert_eq!(fs::read(place.entry()).unwrap(), before);
    // Nor is a file of somebody else in a folder of ours.
    chown(place.dir(), Some(0), None).unwrap();
    chown(place.entry(), Some(65_534), None).unwrap();
    assert_eq!(place.start().await, compiled(1));
    assert_eq!(place.start().await, cached());
}

#[tokio::test]
async fn a_place_that_cannot_be_a_folder_is_no_reason_to_fail() {
    let place = Place::new();
    let file = place.0.path().join("file");
    fs::write(&file, "x").unwrap();
    for dir in [
        file.clone(),
        file.join("below"),
        Path::new("/proc/cache").to_owned(),
    ] {
        let (guest, counts) = load_with(CacheOptions::new(dir), &echo());
        assert_eq!(counts, compiled(0));
        answers(&guest).await;
    }
}

/// Whoever only looks uses what is there, and writes nothing.
#[tokio::test]
async fn what_is_only_read_is_not_changed() {
    let place = Place::new();
    let reading = CacheOptions {
        write: false,
        ..place.options()
    };
    assert_eq!(load_with(reading.clone(), &echo()).1, compiled(0));
    assert!(!place.dir().exists());
    place.start().await;
    assert_eq!(load_with(reading.clone(), &echo()).1, cached());
    set_mode(&place.dir(), 0o755);
    assert_eq!(load_with(reading, &echo()).1, compiled(0));
    assert_eq!(mode(&place.dir()), 0o755);
    assert_eq!(entries(&place.dir()).len(), 1);
}
