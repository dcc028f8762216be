//! How RabbitMQ delays a message without a plugin: a queue for each bit of the time that it has to wait.
//!
//! The queue of a bit holds a message for as long as the bit is worth and then passes it on to the exchange of the next
//! lower bit, which skips the queues of bits that are not set. Everything in one queue waits equally long, so that
//! nothing waits behind something else; and since it is the server that waits, no host has to be there.

use std::time::Duration;

use lapin::options::QueueDeleteOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use super::connect::Session;
use super::failure::{Failure, answer};
use super::topology::{DUE, Declaring, arguments, short, text};
use super::{registry, topology};

/// What the lowest bit is worth. Times are rounded up to it.
const UNIT: Duration = Duration::from_millis(50);
/// The highest bit; its queue holds a message for 38 days, and RabbitMQ takes no more than 49.
const HIGHEST: u32 = 26;
/// The longest delay: all bits.
pub(super) const LONGEST: Duration = Duration::from_millis(50 * ((1 << (HIGHEST + 1)) - 1));

/// The bits for less than two minutes, such as the pauses between attempts: they are declared together.
const USUAL: u32 = 10;
/// How long queues are left alone before they get their first message.
///
/// RabbitMQ (Ra 2.2 at least) writes the name of a new quorum queue to the disk up to four seconds after it has confirmed
/// that there is one. If it is killed before, the queue has lost its messages afterwards, and never takes any again.
const SETTLE: Duration = Duration::from_secs(5);

/// The exchange, and the queue, of a bit.
pub(super) fn name(bit: u32) -> String {
    format!("sandbar:delay-{bit}")
}

/// The header that says that a bit is set.
fn header(bit: u32) -> String {
    format!("sandbar-delay-{bit}")
}

/// Whether a header is one of ours.
pub(super) fn is_header(name: &str) -> bool {
    name.starts_with("sandbar-delay-")
}

/// The highest bit of those that are declared together with this one.
pub(super) fn highest_with(bit: u32) -> u32 {
    if bit <= USUAL { USUAL } else { HIGHEST }
}

/// The exchange that is declared once the queues up to a bit have settled.
fn settled(highest: u32) -> String {
    format!("sandbar:delays-{highest}")
}

/// Makes sure that the queues up to a bit are there to stay. The first time of all this takes a while.
pub(super) async fn prepare(session: &Session, highest: u32) -> Result<(), Failure> {
    if topology::exists(session, &settled(highest)).await? {
        return declare(&session.channel().await?, highest).await;
    }
    let channel = registry::lock(session, registry::LOCK).await?;
    let done = settle(session, &channel, highest).await;
    let unlocked = registry::unlock(&channel, registry::LOCK).await;
    done.and(unlocked)
}

async fn settle(session: &Session, channel: &Channel, highest: u32) -> Result<(), Failure> {
    if topology::exists(session, &settled(highest)).await? {
        return Ok(());
    }
    let first = match highest > USUAL && topology::exists(session, &settled(USUAL)).await? {
        true => USUAL + 1,
        false => 0,
    };
    // Nobody has published to these queues yet. If whoever declared them before did not get further, they may be broken.
    for bit in first..=highest {
        let queue = channel.queue_delete(short(&name(bit)), QueueDeleteOptions::default());
        answer(queue).await?;
    }
    declare(channel, highest).await?;
    tokio::time::sleep(SETTLE).await;
    let to = Declaring {
        channel,
        quorum: true,
    };
    to.exchange(&settled(highest), ExchangeKind::Fanout, None)
        .await
}

/// Declares the exchanges and queues of a bit and of all lower ones.
///
/// The queues are quorum queues whatever is chosen for others, since only those pass a message on without losing it when
/// the server ends at that moment.
async fn declare(channel: &Channel, highest: u32) -> Result<(), Failure> {
    let to = Declaring {
        channel,
        quorum: true,
    };
    for bit in 0..=highest {
        let (name, next) = (name(bit), next(bit));
        to.exchange(&name, ExchangeKind::Headers, Some(&next))
            .await?;
        let time = i64::try_from(UNIT.as_millis() << bit).unwrap_or(i64::MAX);
        let queue = arguments([
            ("x-message-ttl", AMQPValue::LongLongInt(time)),
            ("x-dead-letter-exchange", text(&next)),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ]);
        to.queue(&name, queue).await?;
        let set = [("x-match", text("all")), (&header(bit), text("1"))];
        to.bind(&name, &name, "", arguments(set)).await?;
    }
    Ok(())
}

fn next(bit: u32) -> String {
    match bit.checked_sub(1) {
        Some(lower) => name(lower),
        None => DUE.to_owned(),
    }
}

/// The highest bit of a delay; its exchange is where the message is published to. The headers for its way are added.
/// `None`: it is too long a delay.
pub(super) fn begin(delay: Duration, headers: &mut FieldTable) -> Option<u32> {
    let units = delay.as_nanos().div_ceil(UNIT.as_nanos()).max(1);
    let units = u32::try_from(units)
        .ok()
        .filter(|units| units.ilog2() <= HIGHEST)?;
    for bit in (0..=HIGHEST).filter(|bit| units & (1 << bit) != 0) {
        headers.insert(short(&header(bit)), text("1"));
    }
    Some(units.ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_the_sum_of_its_bits_and_never_less_than_asked() {
        for (milliseconds, highest, bits) in [
            (0, 0, &[0][..]),
            (1, 0, &[0]),
            (50, 0, &[0]),
            (51, 1, &[1]),
            (150, 1, &[0, 1]),
            (60_000, 10, &[4, 5, 7, 10]),
        ] {
            let mut headers = FieldTable::default();
            let delay = Duration::from_millis(milliseconds);
            assert_eq!(begin(delay, &mut headers), Some(highest));
            let names: Vec<String> = headers.inner().keys().map(ToString::to_string).collect();
            let mut expected: Vec<String> = bits.iter().map(|bit| header(*bit)).collect();
            expected.sort();
            assert_eq!(names, expected, "{delay:?}");
        }
        let mut headers = FieldTable::default();
        assert_eq!(begin(LONGEST, &mut headers), Some(HIGHEST));
        let too_long = LONGEST + Duration::from_millis(1);
        assert_eq!(begin(too_long, &mut headers), None);
    }
}
