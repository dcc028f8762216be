//! Entries: believed when they are what was written, refused when anything about them is otherwise.

use std::fs;
use std::sync::Arc;

use sandbar::guest::{CacheOptions, Engine, LoadCounts, look_at_cache};
use sandbar_tests::guests::{guest, version};

use super::{Place, answers, cached, compiled, echo, entries, load_with};

#[tokio::test]
async fn what_was_compiled_is_not_compiled_again() {
    let place = Place::new();
    assert_eq!(place.start().await, compiled(0));
    assert_eq!(place.start().await, cached());
    assert_eq!(place.start().await, cached());
    let state = look_at_cache(&place.options());
    assert_eq!((state.entries, state.refused, state.trouble), (1, 0, None));
    assert_eq!(state.bytes, fs::metadata(place.entry()).unwrap().len());
}

#[tokio::test]
async fn plugins_of_one_component_share_its_code() {
    let place = Place::new();
    let engine = Engine::with_cache(Some(place.options())).unwrap();
    let bytes: Arc<[u8]> = echo().into();
    let loading: Vec<_> = (0..8)
        .map(|_| {
            let (engine, bytes) = (engine.clone(), bytes.clone());
            tokio::task::spawn_blocking(move || engine.load(&bytes).unwrap())
        })
        .collect();
    let mut guests = Vec::new();
    for guest in loading {
        guests.push(guest.await.unwrap());
    }
    for guest in &guests {
        answers(guest).await;
    }
    let counts = LoadCounts {
        compiled: 1,
        shared: 7,
        ..LoadCounts::default()
    };
    assert_eq!(engine.counts(), counts);
    // The code goes with the last of them.
    drop(guests);
    answers(&engine.load(&bytes).unwrap()).await;
    assert_eq!(
        engine.counts(),
        LoadCounts {
            cached: 1,
            ..counts
        }
    );
}

#[tokio::test]
async fn without_a_cache_everything_is_compiled() {
    for _ in 0..2 {
        let engine = Engine::new().unwrap();
        answers(&engine.load(&echo()).unwrap()).await;
        assert_eq!(engine.counts(), compiled(0));
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_found() {
    let place = Place::new();
    place.start().await;
    let (file, whole) = (place.entry(), fs::read(place.entry()).unwrap());
    // The label, the code of authentication, the beginning of the code, its end, and places in between.
    let mut at = vec![0, 15, 16, 47, 48, 79, 80, 87, 88, 119, 120, 121, 184];
    at.extend((1..24).map(|part| whole.len() / 24 * part + part));
    at.push(whole.len() - 1);
    for (number, at) in at.into_iter().enumerate() {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (number % 8);
        fs::write(&file, &changed).unwrap();
        assert_eq!(place.start().await, compiled(1), "byte {at}");
        // What stands there now is good again.
        assert_eq!(place.start().await, cached(), "byte {at}");
    }
}

#[tokio::test]
async fn what_is_cut_off_added_or_something_else_is_found() {
    let place = Place::new();
    place.start().await;
    let (file, whole) = (place.entry(), fs::read(place.entry()).unwrap());
    let mut cases: Vec<Vec<u8>> = [
        0,
        1,
        16,
        87,
        88,
        119,
        120,
        121,
        whole.len() / 2,
        whole.len() - 1,
    ]
    .map(|length| whole[..length].to_vec())
    .into();
    cases.push([&whole[..], b"more"].concat());
    cases.push(vec![0; whole.len()]);
    cases.push(whole[120..].to_vec());
    cases.push(echo());
    for (number, content) in cases.into_iter().enumerate() {
        fs::write(&file, content).unwrap();
        assert_eq!(place.start().await, compiled(1), "case {number}");
        assert_eq!(place.start().await, cached(), "case {number}");
    }
}

#[tokio::test]
async fn the_code_of_another_component_is_refused() {
    let place = Place::new();
    place.start().await;
    let file = place.entry();
    let other = fs::read(guest("stock")).unwrap();
    place.load(&other);
    let entry_of_other = entries(&place.dir()).into_iter().find(|it| *it != file);
    // It was written here, with the right key.
    fs::copy(entry_of_other.unwrap(), &file).unwrap();
    assert_eq!(place.start().await, compiled(1));
}

#[tokio::test]
async fn what_was_written_with_another_key_is_refused() {
    let (place, other) = (Place::new(), Place::new());
    place.start().await;
    other.start().await;
    let (file, forged) = (place.entry(), other.entry());
    assert_eq!(file.file_name(), forged.file_name());
    fs::copy(forged, &file).unwrap();
    assert_eq!(look_at_cache(&place.options()).refused, 1);
    assert_eq!(place.start().await, compiled(1));
    assert_eq!(look_at_cache(&place.options()).refused, 0);
}

#[tokio::test]
async fn a_key_that_is_lost_or_replaced_costs_a_compilation() {
    let place = Place::new();
    place.start().await;
    let key = place.dir().join("key");
    let secret = fs::read(&key).unwrap();
    assert_eq!(secret.len(), 32);
    fs::remove_file(&key).unwrap();
    assert_eq!(place.start().await, compiled(1));
    assert_ne!(fs::read(&key).unwrap(), secret);
    assert_eq!(place.start().await, cached());
    for content in [&b"short"[..], &[7; 33], &[]] {
        fs::write(&key, content).unwrap();
        // Everything that was written with it goes with it.
        assert_eq!(place.start().await, compiled(0));
        assert_eq!(place.start().await, cached());
    }
    // Another key of the right length makes nothing of what was written before.
    fs::write(&key, [7; 32]).unwrap();
    assert_eq!(place.start().await, compiled(1));
    assert_eq!(place.start().await, cached());
}

#[tokio::test]
async fn what_was_used_longest_ago_goes_first() {
    let place = Place::new();
    let versions: Vec<Vec<u8>> = ["version two", "version 333", "version 444"]
        .map(|other| version(&[("version one", other)]))
        .into();
    place.load(&versions[0]);
    let size = fs::metadata(place.entry()).unwrap().len();
    // Room for two of them.
    let options = CacheOptions {
        size: size * 5 / 2,
        ..place.options()
    };
    let load = |number: usize| load_with(options.clone(), &versions[number]).1;
    assert_eq!(load(1), compiled(0));
    assert_eq!(load(0), cached());
    // The one that was used last stays.
    assert_eq!(load(2), compiled(0));
    assert_eq!(entries(&place.dir()).len(), 2);
    assert_eq!(load(0), cached());
    assert_eq!(load(1), compiled(0));
    assert_eq!(load(2), compiled(0));
    let all: u64 = entries(&place.dir())
        .iter()
        .map(|entry| fs::metadata(entry).unwrap().len())
        .sum();
    assert!(all <= options.size, "{all} of {}", options.size);
    // Looking at them is not using them.
    assert_eq!(look_at_cache(&options).entries, 2);
    assert_eq!(load(0), compiled(0));
    assert_eq!(load(2), cached());
    // One that has no room at all is not kept, and takes nobody else's.
    let small = CacheOptions {
        size: size / 2,
        ..options
    };
    let (guest, counts) = load_with(small, &echo());
    assert_eq!(counts, compiled(0));
    answers(&guest).await;
    assert_eq!(entries(&place.dir()).len(), 2);
}

#[tokio::test]
async fn a_component_that_is_refused_leaves_nothing() {
    let place = Place::new();
    let engine = Engine::with_cache(Some(place.options())).unwrap();
    for broken in [&echo()[..5_000], b"", b"\0asm\x01\0\0\0"] {
        engine.load(broken).unwrap_err();
        engine.load(broken).unwrap_err();
    }
    assert_eq!(engine.counts(), LoadCounts::default());
    assert!(!place.dir().exists());
}
