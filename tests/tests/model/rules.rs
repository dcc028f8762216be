//! The model: what each message may do next. Pure; it knows no broker.

use std::collections::HashMap;

use sandbar::backend::{SettleError, Token, Verdict};

/// What the broker did that it must not do.
#[derive(Debug)]
pub(crate) struct Violation(pub(crate) String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Has been ready since it was published or given back.
    Ready,
    /// Was put off and becomes ready by itself.
    Later,
    Held(Token),
    Ended,
}

#[derive(Debug)]
struct Known {
    key: Option<String>,
    stage: Stage,
    /// Attempts that have failed.
    failed: u32,
}

/// All messages of one queue in the order in which they were published.
#[derive(Debug, Default)]
pub(crate) struct Model {
    messages: Vec<Known>,
    held: HashMap<Token, usize>,
}

impl Model {
    /// How many were published; the number of the next one.
    pub(crate) fn published(&self) -> usize {
        self.messages.len()
    }

    /// How many have not ended.
    pub(crate) fn open(&self) -> usize {
        let open = |known: &&Known| known.stage != Stage::Ended;
        self.messages.iter().filter(open).count()
    }

    pub(crate) fn publish(&mut self, key: Option<String>) {
        self.messages.push(Known {
            key,
            stage: Stage::Ready,
            failed: 0,
        });
    }

    /// Message `number` was delivered.
    pub(crate) fn deliver(
        &mut self,
        number: usize,
        token: Token,
        attempt: u32,
    ) -> Result<(), Violation> {
        let fail = |what: String| Err(Violation(format!("message {number}: {what}")));
        let Some(known) = self.messages.get(number) else {
            return fail("was never published".to_owned());
        };
        if !matches!(known.stage, Stage::Ready | Stage::Later) {
            return fail(format!("delivered while {:?}", known.stage));
        }
        if attempt != known.failed + 1 {
            return fail(format!("attempt {attempt} after {} failures", known.failed));
        }
        for (other, before) in self.messages.iter().enumerate() {
            let same_key = known.key.is_some() && before.key == known.key;
            if same_key && matches!(before.stage, Stage::Held(_)) {
                return fail(format!("{other} of the same key is in flight"));
            }
            if other >= number {
                continue;
            }
            if same_key && before.stage != Stage::Ended {
                return fail(format!("overtook {other} of the same key"));
            }
            // A keyed message may wait for another one, and what was put off may not be ready yet.
            if before.key.is_none() && before.stage == Stage::Ready {
                return fail(format!("overtook {other}, which was ready"));
            }
        }
        if self.held.insert(token, number).is_some() {
            return fail("two deliveries have one token".to_owned());
        }
        if let Some(known) = self.messages.get_mut(number) {
            known.stage = Stage::Held(token);
        }
        Ok(())
    }

    /// A delivery was dropped, or its lease ran out: no attempt is counted.
    pub(crate) fn back(&mut self, token: Token) {
        if let Some(known) = self.holder(token) {
            known.stage = Stage::Ready;
        }
    }

    /// A delivery that was held was settled.
    pub(crate) fn settled(
        &mut self,
        token: Token,
        verdict: &Verdict,
        settled: Result<(), SettleError>,
    ) -> Result<(), Violation> {
        if let Err(error) = settled {
            return Err(Violation(format!(
                "a held delivery was not settled: {error}"
            )));
        }
        if let Some(known) = self.holder(token) {
            match verdict {
                Verdict::Retry { .. } => {
                    known.failed += 1;
                    known.stage = Stage::Later;
                }
                Verdict::Ack | Verdict::DeadLetter(_) => known.stage = Stage::Ended,
            }
        }
        Ok(())
    }

    /// A lease was extended.
    pub(crate) fn extended(
        &self,
        token: Token,
        extended: Result<(), SettleError>,
    ) -> Result<(), Violation> {
        match (self.held.contains_key(&token), extended) {
            (true, Ok(())) => Ok(()),
            (held, result) => Err(Violation(format!(
                "extended a lease (held: {held}): {result:?}"
            ))),
        }
    }

    fn holder(&mut self, token: Token) -> Option<&mut Known> {
        let number = self.held.remove(&token)?;
        self.messages.get_mut(number)
    }
}
