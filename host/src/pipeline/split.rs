//! An event with several handlers in one plugin becomes one message for each, so that each has attempts of its own.
//!
//! The copies keep the identifier and go back to the queue that they came from, together with the acknowledgement of the
//! original.

use super::{Conclusion, Delivery, Message, Queue, Route};
use crate::backend::{Destination, Effects, Outgoing, Verdict};

pub(super) fn split(
    delivery: &Delivery,
    message: &Message,
    routes: &[&Route],
    queue: &Queue,
) -> Conclusion {
    let copy = |route: &&Route| Outgoing {
        to: Destination::Queue(queue.name.clone()),
        key: delivery.key.clone(),
        route: Some(route.number),
        ..Outgoing::new(message.clone())
    };
    Conclusion {
        verdict: Verdict::Ack,
        effects: Effects {
            publishes: routes.iter().map(copy).collect(),
            state: None,
        },
    }
}
