//! The exchanges and queues of our own on a RabbitMQ server, and how a message finds its way through them.
//!
//! ```text
//! sandbar:multicast ─ every queue whose pattern matches
//! sandbar:unicast ─▶ sandbar:unicast.0 ─▶ sandbar:unicast.1 ─▶ … ─▶ sandbar:ephemeral
//!                    (queues of one group)  (of the next group)
//! both ─▶ sandbar:unrouted ─ sandbar:kept, if the message says so
//! sandbar:delay-26 ─▶ … ─▶ sandbar:delay-0 ─▶ sandbar:due ─ sandbar:unicast, sandbar:multicast or sandbar:queues
//! ```
//!
//! `─▶` is an alternate exchange: it gets what the exchange before it routed to nobody. Bindings of plugins are made in
//! `declare`, exchanges that delay in `delay`; docs/brokers/rabbitmq.md explains the whole.

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, ExchangeUnbindOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use super::connect::Session;
use super::failure::{Failure, answer};

/// Where a message for one group is published to.
pub(super) const UNICAST: &str = "sandbar:unicast";
/// Where a message for all groups is published to.
pub(super) const MULTICAST: &str = "sandbar:multicast";
/// Queues that end with their process; for a message to one group they are the last one.
pub(super) const EPHEMERAL: &str = "sandbar:ephemeral";
/// Each queue by its name.
pub(super) const QUEUES: &str = "sandbar:queues";
/// Where what was delayed comes out.
pub(super) const DUE: &str = "sandbar:due";
/// Queues for messages that no queue was bound to: those that were published just now, and those that were delayed.
pub(super) const KEPT: [&str; 2] = ["sandbar:kept", "sandbar:kept-late"];

/// What begins like this is ours; no group and plugin make such a name.
pub(super) const OURS: &str = "sandbar:";
const UNROUTED: &str = "sandbar:unrouted";
const DISCARDED: &str = "sandbar:discarded";
/// Declared when everything else is there.
const COMPLETE: &str = "sandbar:complete-1";

/// The header that has a message kept, with the number of its queue in [`KEPT`].
pub(super) const KEEP: &str = "sandbar-keep";
/// The header that says where a delayed message goes.
pub(super) const TO: &str = "sandbar-to";

/// Messages that are kept at most, and for how long.
const KEPT_MESSAGES: i64 = 10_000;
const KEPT_BYTES: i64 = 64 << 20;
const KEPT_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// The exchange of the group with this number.
pub(super) fn group_exchange(number: usize) -> String {
    format!("{UNICAST}.{number}")
}

/// Arguments of a declaration.
pub(super) fn arguments<const N: usize>(all: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in all {
        table.insert(short(name), value);
    }
    table
}

/// A text as an argument.
pub(super) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A name; what is longer than AMQP allows has been refused before, or is cut.
pub(super) fn short(name: &str) -> ShortString {
    ShortString::try_new(name).unwrap_or_default()
}

/// Whether everything but the groups has been declared before.
pub(super) async fn is_complete(session: &Session) -> Result<bool, Failure> {
    exists(session, COMPLETE).await
}

/// Whether there is an exchange of this name.
pub(super) async fn exists(session: &Session, exchange: &str) -> Result<bool, Failure> {
    // The server closes the channel if there is none.
    let channel = session.channel().await?;
    let options = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    let (kind, nothing) = (ExchangeKind::Fanout, FieldTable::default());
    match answer(channel.exchange_declare(short(exchange), kind, options, nothing)).await {
        Ok(()) => Ok(true),
        Err(failure) if failure.not_found() => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Declares everything, with the exchanges of so many groups. Whoever calls it holds the lock of the registry.
pub(super) async fn declare(to: Declaring<'_>, groups: usize) -> Result<(), Failure> {
    to.exchange(UNROUTED, ExchangeKind::Headers, None).await?;
    for (number, (name, overflow)) in (0..).zip(KEPT.iter().zip(["reject-publish", "drop-head"])) {
        let limits = arguments([
            ("x-max-length", AMQPValue::LongLongInt(KEPT_MESSAGES)),
            ("x-max-length-bytes", AMQPValue::LongLongInt(KEPT_BYTES)),
            ("x-message-ttl", AMQPValue::LongLongInt(KEPT_MS)),
            ("x-overflow", text(overflow)),
        ]);
        to.queue(name, limits).await?;
        let all = [("x-match", text("all")), (KEEP, AMQPValue::LongInt(number))];
        to.bind(name, UNROUTED, "", arguments(all)).await?;
    }
    to.exchange(EPHEMERAL, ExchangeKind::Topic, Some(UNROUTED))
        .await?;
    to.exchange(MULTICAST, ExchangeKind::Topic, Some(UNROUTED))
        .await?;
    for number in 0..groups {
        to.group(number).await?;
    }
    to.last_group(groups).await?;
    to.exchange(UNICAST, ExchangeKind::Topic, Some(&group_exchange(0)))
        .await?;
    // What waited for a retry in a queue that was deleted meanwhile is deleted with it.
    to.exchange(DISCARDED, ExchangeKind::Fanout, None).await?;
    let nothing = arguments([
        ("x-message-ttl", AMQPValue::LongInt(0)),
        ("x-max-length", AMQPValue::LongInt(1)),
    ]);
    to.queue(DISCARDED, nothing).await?;
    to.bind(DISCARDED, DISCARDED, "", FieldTable::default())
        .await?;
    to.exchange(QUEUES, ExchangeKind::Direct, Some(DISCARDED))
        .await?;
    to.exchange(DUE, ExchangeKind::Headers, None).await?;
    for exchange in [UNICAST, MULTICAST, QUEUES] {
        let all = [("x-match", text("all")), (TO, text(exchange))];
        to.bind_exchange(exchange, DUE, "", arguments(all)).await?;
    }
    to.exchange(COMPLETE, ExchangeKind::Fanout, None).await
}

/// Makes a place for one more group. What is published meanwhile is routed to those that were there before, or kept.
pub(super) async fn add_group(to: Declaring<'_>, number: usize) -> Result<(), Failure> {
    to.last_group(number + 1).await?;
    to.group(number).await
}

/// Declares over a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declaring<'a> {
    pub(super) channel: &'a Channel,
    /// Queues are replicated over the nodes of a cluster.
    pub(super) quorum: bool,
}

impl Declaring<'_> {
    pub(super) async fn exchange(
        &self,
        name: &str,
        kind: ExchangeKind,
        otherwise: Option<&str>,
    ) -> Result<(), Failure> {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let arguments = match otherwise {
            Some(exchange) => arguments([("alternate-exchange", text(exchange))]),
            None => FieldTable::default(),
        };
        answer(
            self.channel
                .exchange_declare(short(name), kind, options, arguments),
        )
        .await
    }

    pub(super) async fn queue(&self, name: &str, mut arguments: FieldTable) -> Result<(), Failure> {
        if self.quorum {
            arguments.insert(short("x-queue-type"), text("quorum"));
        }
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        answer(self.channel.queue_declare(short(name), options, arguments))
            .await
            .map(drop)
    }

    pub(super) async fn bind(
        &self,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: FieldTable,
    ) -> Result<(), Failure> {
        let options = QueueBindOptions::default();
        answer(self.channel.queue_bind(
            short(queue),
            short(exchange),
            short(key),
            options,
            arguments,
        ))
        .await
    }

    pub(super) async fn unbind(
        &self,
        queue: &str,
        exchange: &str,
        key: &str,
    ) -> Result<(), Failure> {
        let arguments = FieldTable::default();
        answer(
            self.channel
                .queue_unbind(short(queue), short(exchange), short(key), arguments),
        )
        .await
    }

    async fn bind_exchange(
        &self,
        to: &str,
        from: &str,
        key: &str,
        arguments: FieldTable,
    ) -> Result<(), Failure> {
        let options = ExchangeBindOptions::default();
        answer(
            self.channel
                .exchange_bind(short(to), short(from), short(key), options, arguments),
        )
        .await
    }

    /// The exchange of a group that exists.
    async fn group(&self, number: usize) -> Result<(), Failure> {
        let (name, next) = (group_exchange(number), group_exchange(number + 1));
        self.exchange(&name, ExchangeKind::Topic, Some(&next))
            .await?;
        let options = ExchangeUnbindOptions::default();
        let arguments = FieldTable::default();
        answer(self.channel.exchange_unbind(
            short(EPHEMERAL),
            short(&name),
            short("#"),
            options,
            arguments,
        ))
        .await
    }

    /// The place of the next group, which until then leads on to where everybody comes after all groups.
    async fn last_group(&self, number: usize) -> Result<(), Failure> {
        let (name, next) = (group_exchange(number), group_exchange(number + 1));
        self.exchange(&name, ExchangeKind::Topic, Some(&next))
            .await?;
        self.bind_exchange(EPHEMERAL, &name, "#", FieldTable::default())
            .await
    }
}
