//! What a publisher may rely on once its message was accepted, for each kind of broker.
//!
//! A table for people: what a broker does is decided where it does it.

/// The kinds, with what an accepted message survives.
pub const DURABILITY: [(&str, &str); 4] = [
    (
        "embedded",
        "kill -9 and a power cut: it was flushed to the disk (fsync) before it was accepted; lost only with the disk",
    ),
    ("memory", "nothing: it is gone with the process"),
    (
        "postgres",
        "kill -9 of hosts, and a crash of the server with `fsync` and `synchronous_commit` on, as they are by default",
    ),
    (
        "rabbitmq",
        "kill -9 of hosts and of the server: it was confirmed when it was on the disk of one node, or of most with `quorum`",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::KINDS;

    #[test]
    fn every_kind_says_what_it_survives() {
        for kind in KINDS {
            assert!(
                DURABILITY.iter().any(|(named, _)| named == kind),
                "say in DURABILITY what a message survives that `{kind}` has accepted"
            );
        }
    }
}
