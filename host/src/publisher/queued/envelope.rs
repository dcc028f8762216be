//! How a message waits in an outbox without losing where it goes.
//!
//! Pure. Its key, its delay and its route wait with it as they are; a destination that is a queue, and that a queue is
//! mandatory, become headers for as long as it waits.

use crate::backend::{Delivery, Destination, Outgoing, QueueName};
use crate::wire::{self, Form, Malformed};

const QUEUE: &str = "sandbar-outbox-queue";
const MANDATORY: &str = "sandbar-outbox-mandatory";

/// On its way into the outbox.
pub(super) fn wrap(mut outgoing: Outgoing, outbox: &QueueName) -> Outgoing {
    let headers = &mut outgoing.message.payload.headers;
    headers.remove(QUEUE);
    headers.remove(MANDATORY);
    if let Destination::Queue(queue) = &outgoing.to {
        headers.put(QUEUE, queue.as_str());
    }
    if outgoing.mandatory {
        headers.put(MANDATORY, "true");
    }
    Outgoing {
        to: Destination::Queue(outbox.clone()),
        mandatory: false,
        ..outgoing
    }
}

/// On its way out of it. The delay has passed.
pub(super) fn unwrap(delivery: &Delivery) -> Result<Outgoing, Malformed> {
    let message = wire::decode(Form::Native, &delivery.packet)?;
    let mut outgoing = Outgoing::new((*message).clone());
    outgoing.key.clone_from(&delivery.key);
    outgoing.route = delivery.route;
    let headers = &mut outgoing.message.payload.headers;
    if let Some(queue) = headers.get(QUEUE) {
        let queue: QueueName = queue
            .parse()
            .map_err(|error| Malformed(format!("header `{QUEUE}`: {error}")))?;
        outgoing.to = Destination::Queue(queue);
    }
    outgoing.mandatory = headers.get(MANDATORY).is_some();
    headers.remove(QUEUE);
    headers.remove(MANDATORY);
    Ok(outgoing)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::backend::{Release, Token};
    use crate::message::{Message, Payload};
    use crate::wire::Packet;

    #[derive(Debug)]
    struct Nobody;

    impl Release for Nobody {
        fn release(&self, _: Token) {}
    }

    #[test]
    fn a_message_comes_out_as_it_went_in() {
        let outbox: QueueName = "outbox".parse().unwrap();
        let mut message = Message::new("t".parse().unwrap(), Payload::text("x")).multicast();
        message.payload.headers.insert("mine", "1").unwrap();
        let plain = Outgoing::new(message);
        for outgoing in [
            plain.clone(),
            Outgoing {
                to: Destination::Queue("q".parse().unwrap()),
                mandatory: true,
                key: Some("k".into()),
                route: Some(2),
                ..plain
            },
        ] {
            let wrapped = wrap(outgoing.clone(), &outbox);
            assert_eq!(wrapped.to, Destination::Queue(outbox.clone()));
            assert_eq!((wrapped.mandatory, wrapped.delay), (false, Duration::ZERO));
            let packet = Packet::Message(Arc::new(wrapped.message));
            let token = Token { id: 1, fence: 1 };
            let mut delivery = Delivery::new(packet, 1, token, Arc::new(Nobody));
            delivery.key = wrapped.key;
            delivery.route = wrapped.route;
            assert_eq!(unwrap(&delivery), Ok(outgoing));
        }
    }
}
