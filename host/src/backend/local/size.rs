//! How many bytes values take on the socket, a little more rather than less: where batches and lists are cut.

use crate::backend::{Delivery, Outgoing, Settlement, Verdict};
use crate::message::Message;
use crate::store::{DeadLetter, StateEffects};
use crate::topic::TopicName;
use crate::wire::Packet;

/// Numbers, flags and lengths around a value, with the names, which are at most 255 bytes each.
const AROUND: usize = 1 << 10;
/// What a settlement counts at least, so that no piece of a batch has more than [`super::MAX_LIST`] of them.
const SETTLEMENT: usize = 256;
/// The lengths of a name and a value.
const PAIR: usize = 10;

fn message(message: &Message) -> usize {
    let headers = &message.payload.headers;
    let topics = message
        .reply_topic
        .as_ref()
        .map_or(0, |topic| topic.as_str().len())
        + TopicName::as_str(&message.topic).len();
    message.payload.content.len() + headers.size() + headers.len() * PAIR + topics + 64
}

fn packet(packet: &Packet) -> usize {
    match packet {
        Packet::Message(inner) => message(inner),
        Packet::Raw(raw) => {
            let pairs = raw
                .properties
                .iter()
                .map(|(name, value)| name.len() + value.len() + PAIR);
            raw.body.len() + pairs.sum::<usize>() + raw.topic.len() + AROUND
        }
    }
}

pub(super) fn outgoing(outgoing: &Outgoing) -> usize {
    let queue = 255;
    message(&outgoing.message) + outgoing.key.as_ref().map_or(0, |key| key.len()) + queue + 64
}

pub(super) fn delivery(delivery: &Delivery) -> usize {
    packet(&delivery.packet) + delivery.key.as_ref().map_or(0, |key| key.len()) + 64
}

pub(super) fn letter(letter: &DeadLetter) -> usize {
    packet(&letter.packet) + letter.error.len() + AROUND
}

pub(super) fn settlement(settlement: &Settlement) -> usize {
    let verdict = match &settlement.verdict {
        Verdict::DeadLetter(inner) => letter(inner),
        Verdict::Retry { failed, .. } => failed.error.len(),
        Verdict::Ack => 0,
    };
    let publishes: usize = settlement.effects.publishes.iter().map(outgoing).sum();
    verdict + publishes + settlement.effects.state.as_deref().map_or(0, changes) + SETTLEMENT
}

fn changes(state: &StateEffects) -> usize {
    let reads = state.reads.iter().map(|(key, _)| key.len() + PAIR);
    let value = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let writes = state
        .writes
        .iter()
        .map(|(key, bytes)| key.len() + value(bytes) + PAIR);
    reads.chain(writes).sum::<usize>() + state.plugin.len()
}

/// Cuts a list into pieces that take at most so many bytes each, unless a single item takes more.
pub(super) fn pieces<T>(list: &[T], most: usize, size: fn(&T) -> usize) -> Vec<&[T]> {
    let mut pieces = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|item| {
            bytes += size(item);
            bytes <= most
        });
        let (piece, next) = rest
            .split_at_checked(fitting.count().max(1))
            .unwrap_or((rest, &[]));
        pieces.push(piece);
        rest = next;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_are_as_long_as_allowed_and_never_empty() {
        for (list, expected) in [
            (&[][..], vec![]),
            (&[3, 3, 4, 1], vec![&[3, 3, 4][..], &[1]]),
            (&[11, 1, 20], vec![&[11], &[1], &[20]]),
        ] {
            assert_eq!(pieces(list, 10, |n| *n), expected);
        }
    }
}
