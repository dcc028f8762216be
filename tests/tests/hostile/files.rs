//! Files that are no components, or not any more.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sandbar::guest::{Engine, inspect};
use sandbar::plugin::Loader;
use sandbar_tests::contract::Outcome;
use sandbar_tests::guests::guest;
use sandbar_tests::settings::seed;

use super::neighbourhood::{Neighbourhood, spec};

/// Loads such a file beside a host that serves; returns the error.
async fn file(bytes: &[u8]) -> Result<Option<String>, sandbar_tests::contract::Failure> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file.wasm");
    std::fs::write(&file, bytes)?;
    let loaded = Loader::new(Engine::new()?).load(spec(&file)).await;
    Ok(loaded.err().map(|error| error.to_string()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_file() -> Outcome {
    let error = file(b"").await?.ok_or("it was loaded")?;
    assert!(error.contains("the file is empty"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_file() -> Outcome {
    let bytes = std::fs::read(guest("echo"))?;
    // After 8 bytes it is whole, and there is nothing in it.
    for keep in [4, 9, 100, bytes.len() / 2, bytes.len() - 1] {
        let error = file(&bytes[..keep]).await?.ok_or("it was loaded")?;
        assert!(error.contains("build or copy it again"), "{keep}: {error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_of_100_megabytes() -> Outcome {
    let error = file(&vec![0; 100 << 20]).await?.ok_or("it was loaded")?;
    assert!(error.contains("`limits.file` is"), "{error}");
    Ok(())
}

/// Loaded or refused; never more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits() -> Outcome {
    let there = Neighbourhood::misbehaving().await?;
    let mut random = StdRng::seed_from_u64(seed("SANDBAR_TEST_HOSTILE_SEED"));
    let original = std::fs::read(guest("echo"))?;
    let (mut loaded, mut refused) = (0, 0);
    for _ in 0..40 {
        let mut bytes = original.clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
        }
        match file(&bytes).await? {
            None => loaded += 1,
            Some(_) => refused += 1,
        }
        there.is_served().await?;
    }
    println!("{loaded} loaded, {refused} refused");
    Ok(())
}

/// Sizes are the file's to claim and not to be computed with.
#[test]
fn memories_of_impossible_sizes() -> Outcome {
    for text in [
        "(component (core module (memory i64 0x1000000000000)))",
        "(component (core module (memory i64 0xffffffffffff)) (core module (memory i64 0xffffffffffff)))",
    ] {
        let bytes = wat::parse_str(text)?;
        assert_eq!(inspect(&bytes)?.initial_memory, u64::MAX);
        assert!(Engine::new()?.load(&bytes).is_err());
    }
    Ok(())
}
