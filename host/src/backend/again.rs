//! From a dead letter back to a message on its way.
//!
//! Whether it may be published, and in which transaction the letter goes, is up to each backend.

use super::{Destination, Outgoing, QueueName};
use crate::store::{KeptLetter, ReplayTo};
use crate::topic::TopicName;
use crate::wire::{self, Form};

/// The message of a letter as it was, with its destination; `exists` says whether there is such a queue.
pub(super) fn outgoing(
    kept: &KeptLetter,
    to: &ReplayTo,
    exists: impl FnOnce(&QueueName) -> bool,
) -> Result<Outgoing, String> {
    let message = wire::decode(Form::Native, &kept.letter.packet)
        .map_err(|error| format!("it is no message: {error}; purge it"))?;
    let mut outgoing = Outgoing {
        key: kept.key.clone(),
        ..Outgoing::new((*message).clone())
    };
    match to {
        ReplayTo::Origin => {
            let queue = kept.letter.queue.parse::<QueueName>().ok();
            if let Some(name) = queue.filter(exists) {
                outgoing.to = Destination::Queue(name);
                outgoing.route = kept.route;
            }
        }
        ReplayTo::Topic => {}
        ReplayTo::Other(topic) => outgoing.message.topic = topic.clone(),
    }
    Ok(outgoing)
}

/// Why a reply is not replayed that nobody waits for: it would be gone.
pub(super) fn nobody_waits(topic: &TopicName) -> String {
    format!(
        "nobody waits for replies on `{topic}` any more; replay it to another topic, or purge it"
    )
}
