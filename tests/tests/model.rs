//! M1: a small executable model of claim → heartbeat → expire → complete → drain, run beside the real brokers with random
//! schedules; and deliberately broken brokers, which the model must catch.
//!
//! The model says what is *legal*, not what comes next: a delivery must be of a message that is neither done nor with
//! somebody else, with the attempt that it has come to, in order. The seed of a failing schedule is printed; set `SEED` to
//! run it again and `SCHEDULES` to run more of them.

#[path = "model/broken.rs"]
mod broken;
#[path = "model/rules.rs"]
mod rules;

use std::sync::Arc;
use std::time::Duration;

use broken::{Broken, Defect};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rules::{Model, Violation};
use sandbar::backend::{Backend, Delivery, Effects, Queue, SettleError, Token, Verdict, open};
use sandbar_tests::contract::{Broker, again, content, keyed, letter, message, spec};
use sandbar_tests::settings::chosen;

/// Steps of one schedule.
const STEPS: usize = 120;

/// A schedule in progress: the real broker, the model, and what is in flight.
struct Run {
    broker: Broker,
    queue: Queue,
    model: Model,
    held: Vec<Delivery>,
    /// Tokens whose delivery is over: settled, dropped or run out.
    old: Vec<Token>,
    rng: StdRng,
}

impl Run {
    async fn step(&mut self) -> Result<(), Violation> {
        match self.rng.random_range(0..100) {
            0..25 => self.publish().await,
            25..50 => {
                let most = self.rng.random_range(1..6);
                self.receive(most, Duration::ZERO).await.map(|_| ())
            }
            50..68 => self.settle(|_| Verdict::Ack).await,
            68..76 => {
                self.settle(|delivery| again(delivery, Duration::ZERO))
                    .await
            }
            76..79 => {
                self.settle(|delivery| Verdict::DeadLetter(Box::new(letter(delivery, "no"))))
                    .await
            }
            79..86 => {
                if let Some(delivery) = self.pick() {
                    self.model.back(delivery.token());
                    self.old.push(delivery.token());
                    drop(delivery);
                }
                Ok(())
            }
            86..91 => self.heartbeat().await,
            91..95 => self.expire().await,
            _ => self.settle_late().await,
        }
    }

    fn pick(&mut self) -> Option<Delivery> {
        let count = self.held.len();
        (count > 0).then(|| self.held.swap_remove(self.rng.random_range(0..count)))
    }

    async fn publish(&mut self) -> Result<(), Violation> {
        let number = self.model.published();
        let key = self
            .rng
            .random_bool(0.5)
            .then(|| format!("k{}", self.rng.random_range(0..3)));
        let text = number.to_string();
        let outgoing = match &key {
            Some(key) => keyed("t", key, &text),
            None => message("t", &text),
        };
        self.broker.publish(outgoing.unwrap()).await.unwrap();
        self.model.publish(key);
        Ok(())
    }

    async fn receive(&mut self, most: usize, wait: Duration) -> Result<usize, Violation> {
        let batch = self.broker.backend.receive(&self.queue, most, wait).await;
        let batch = batch.unwrap();
        let count = batch.len();
        for delivery in batch {
            let text =
                String::from_utf8_lossy(&content(&delivery).unwrap().payload.content).into_owned();
            let number = text.parse().unwrap();
            self.model
                .deliver(number, delivery.token(), delivery.attempt)?;
            self.held.push(delivery);
        }
        Ok(count)
    }

    async fn settle(&mut self, verdict: impl Fn(&Delivery) -> Verdict) -> Result<(), Violation> {
        let Some(delivery) = self.pick() else {
            return Ok(());
        };
        let (token, verdict) = (delivery.token(), verdict(&delivery));
        let kind = verdict.clone();
        let settled = self
            .broker
            .settle(delivery.settle(verdict, Effects::default()))
            .await;
        self.old.push(token);
        self.model.settled(token, &kind, settled)
    }

    async fn heartbeat(&mut self) -> Result<(), Violation> {
        let tokens: Vec<Token> = self.held.iter().map(Delivery::token).collect();
        let extended = self
            .broker
            .backend
            .extend(&tokens, Duration::from_secs(30))
            .await;
        for (token, extended) in tokens.iter().zip(extended) {
            self.model.extended(*token, extended)?;
        }
        Ok(())
    }

    /// The lease of one delivery runs out; its owner does not know.
    async fn expire(&mut self) -> Result<(), Violation> {
        let Some(delivery) = self.pick() else {
            return Ok(());
        };
        let token = delivery.token();
        let extended = self
            .broker
            .backend
            .extend(&[token], Duration::from_millis(1))
            .await;
        assert_eq!(extended, [Ok(())], "it was held");
        // No step is taken before it has run out.
        tokio::time::sleep(Duration::from_millis(3)).await;
        self.model.back(token);
        self.old.push(token);
        // Its own attempt to end it comes too late.
        let late = delivery.settle(Verdict::Ack, Effects::default());
        match self.broker.settle(late).await {
            Err(SettleError::Stale) => Ok(()),
            other => Err(Violation(format!(
                "a delivery whose lease ran out was settled: {other:?}"
            ))),
        }
    }

    /// A token of an earlier delivery is used again.
    async fn settle_late(&mut self) -> Result<(), Violation> {
        let count = self.old.len();
        if count == 0 {
            return Ok(());
        }
        let token = self.old[self.rng.random_range(0..count)];
        let settlement = sandbar::backend::Settlement {
            token,
            verdict: Verdict::Ack,
            effects: Effects::default(),
        };
        match self.broker.settle(settlement).await {
            Err(SettleError::Stale) => Ok(()),
            other => Err(Violation(format!("a stale token was accepted: {other:?}"))),
        }
    }

    /// Gives everything back and takes until every message has ended.
    async fn drain(mut self) -> Result<(), Violation> {
        for delivery in std::mem::take(&mut self.held) {
            self.model.back(delivery.token());
        }
        while self.model.open() > 0 {
            let patience = Duration::from_secs(5);
            if self.receive(3, patience).await? == 0 {
                return Err(Violation(format!(
                    "{} messages never came",
                    self.model.open()
                )));
            }
            while !self.held.is_empty() {
                self.settle(|_| Verdict::Ack).await?;
            }
        }
        match self.receive(1, Duration::from_millis(5)).await? {
            0 => Ok(()),
            _ => Err(Violation(
                "something came after everything had ended".to_owned(),
            )),
        }
    }
}

async fn schedule(kind: &str, seed: u64, defect: Option<Defect>) -> Result<(), Violation> {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(kind, folder.path()).await.unwrap();
    let backend: Arc<dyn Backend> = match defect {
        None => opened.backend,
        Some(defect) => Arc::new(Broken::new(opened.backend, defect)),
    };
    let broker = Broker {
        backend,
        store: opened.store,
    };
    let queue = broker.declare(spec("q", &["t"]).unwrap()).await.unwrap();
    let mut run = Run {
        broker: broker.clone(),
        queue,
        model: Model::default(),
        held: Vec::new(),
        old: Vec::new(),
        rng: StdRng::seed_from_u64(seed),
    };
    for _ in 0..STEPS {
        run.step().await?;
    }
    let drained = run.drain().await;
    broker.backend.close().await;
    drained
}

async fn many(kind: &str, schedules: u64) {
    let first = chosen("SEED", 1);
    let schedules = chosen("SCHEDULES", schedules);
    for seed in first..first + schedules {
        if let Err(Violation(what)) = schedule(kind, seed, None).await {
            panic!("{kind}, SEED={seed}: {what}");
        }
    }
    println!("{kind}: {schedules} schedules of {STEPS} steps from SEED={first}, no violation");
}

#[tokio::test]
async fn m1_memory_keeps_to_the_model() {
    many("memory", 200).await;
}

#[tokio::test]
async fn m1_embedded_keeps_to_the_model() {
    many("embedded", 12).await;
}

#[tokio::test]
async fn m1_broken_brokers_are_caught() {
    for defect in Defect::ALL {
        let mut caught = None;
        for seed in 1..=50 {
            if let Err(violation) = schedule("memory", seed, Some(defect)).await {
                caught = Some((seed, violation));
                break;
            }
        }
        let Some((seed, Violation(what))) = caught else {
            panic!("{defect:?} was not caught in 50 schedules");
        };
        println!("{defect:?} caught with SEED={seed}: {what}");
    }
}
