//! Time and randomness as a guest sees them: a function of the host's secret, the message and the attempt.
//!
//! Within one call time stands still, so that a failed message can be replayed exactly. It knows nothing of WebAssembly.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _, TryRng};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Shared with the WASI interfaces of the same instance.
#[derive(Debug, Clone, Default)]
pub(super) struct Chance(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    now_ms: i64,
    seed: Seed,
    /// Behind a pointer, since it is large and most calls need none.
    generator: Option<Box<StdRng>>,
}

/// What the randomness of one call depends on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seed {
    /// The call itself.
    Call {
        /// Of this host and this start; nobody else can tell what a guest will draw.
        secret: [u8; 32],
        message: Uuid,
        attempt: u32,
        route: u32,
    },
    /// That of an earlier call.
    Again([u8; 32]),
}

impl Default for Seed {
    fn default() -> Self {
        Self::Again([0; 32])
    }
}

impl Seed {
    /// What the generator begins with.
    pub(super) fn bytes(self) -> [u8; 32] {
        match self {
            Self::Again(bytes) => bytes,
            Self::Call {
                secret,
                message,
                attempt,
                route,
            } => {
                let mut hash = Sha256::new();
                hash.update(secret);
                hash.update(message.as_bytes());
                hash.update(attempt.to_le_bytes());
                hash.update(route.to_le_bytes());
                hash.finalize().into()
            }
        }
    }
}

impl Chance {
    /// Begins a call. The generator is made only if it is used.
    pub(super) fn begin(&self, now_ms: i64, seed: Seed) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.now_ms = now_ms;
        inner.seed = seed;
        inner.generator = None;
    }

    /// Nanoseconds since 1970-01-01 UTC.
    pub(super) fn now_ns(&self) -> u64 {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        u64::try_from(inner.now_ms)
            .unwrap_or(0)
            .saturating_mul(1_000_000)
    }

    pub(super) fn bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.with(|generator| generator.fill_bytes(&mut bytes));
        bytes
    }

    pub(super) fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.with(|generator| generator.fill_bytes(&mut bytes));
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    fn with<T>(&self, f: impl FnOnce(&mut StdRng) -> T) -> T {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seed = inner.seed;
        f(inner
            .generator
            .get_or_insert_with(|| Box::new(StdRng::from_seed(seed.bytes()))))
    }
}

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.with(|generator| generator.next_u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.with(|generator| generator.next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.with(|generator| generator.fill_bytes(bytes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_call_has_the_same_chance() {
        let seed = |attempt| Seed::Call {
            secret: [1; 32],
            message: Uuid::nil(),
            attempt,
            route: 0,
        };
        let draw = |seed: Seed| {
            let chance = Chance::default();
            chance.begin(7, seed);
            (chance.now_ns(), chance.bytes(8), chance.uuid())
        };
        assert_eq!(draw(seed(1)), draw(seed(1)));
        assert_ne!(draw(seed(1)).1, draw(seed(2)).1);
        assert_eq!(draw(seed(1)).0, 7_000_000);
        assert_eq!(draw(Seed::Again(seed(1).bytes())), draw(seed(1)));
    }
}
