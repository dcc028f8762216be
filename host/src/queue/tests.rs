//! The queue against a naive model of it, over many random histories; and the rules one by one.

use std::collections::BTreeMap;

use super::*;

/// What the model knows of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Waiting,
    Leased {
        fence: u64,
        end: i64,
    },
    /// `retry`: it holds its key.
    Delayed {
        due: i64,
        retry: bool,
    },
    Claimed,
}

/// Every message in one map; every question is answered by looking at all of them.
#[derive(Debug, Default)]
struct Model {
    messages: BTreeMap<u64, (Option<Arc<str>>, u32, At)>,
    /// Which message has the turn of a key.
    turns: BTreeMap<Arc<str>, u64>,
}

impl Model {
    fn enter(&mut self, id: u64) {
        if let Some((Some(key), _, _)) = self.messages.get(&id) {
            self.turns.entry(key.clone()).or_insert(id);
        }
    }

    fn has_turn(&self, id: u64, key: Option<&Arc<str>>) -> bool {
        key.is_none_or(|key| self.turns.get(key) == Some(&id))
    }

    fn expire(&mut self, now: i64) {
        let mut due: Vec<(i64, u64)> = Vec::new();
        for (id, (_, _, at)) in &mut self.messages {
            match *at {
                At::Leased { end, .. } if end <= now => *at = At::Waiting,
                At::Delayed { due: moment, .. } if moment <= now => {
                    *at = At::Waiting;
                    due.push((moment, *id));
                }
                _ => {}
            }
        }
        due.sort_unstable();
        for (_, id) in due {
            self.enter(id);
        }
    }

    fn ready(&self) -> Vec<u64> {
        let ready = |id: u64, key, at| at == At::Waiting && self.has_turn(id, key);
        self.messages
            .iter()
            .filter(|(id, (key, _, at))| ready(**id, key.as_ref(), *at))
            .map(|(id, _)| *id)
            .collect()
    }

    fn finish(&mut self, id: u64) {
        let Some((Some(key), _, _)) = self.messages.remove(&id) else {
            return;
        };
        self.turns.remove(&key);
        let next = self
            .messages
            .iter()
            .find(|(_, (other, _, at))| other.as_ref() == Some(&key) && *at == At::Waiting)
            .map(|(id, _)| *id);
        if let Some(next) = next {
            self.turns.insert(key, next);
        }
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = self.roll(from.len().max(1) as u64);
        from.get(usize::try_from(index).unwrap()).copied()
    }
}

fn item(id: u64, key: Option<Arc<str>>) -> Item<()> {
    Item {
        id,
        attempts: 0,
        key,
        value: (),
    }
}

fn take(fifo: &mut Fifo<()>, max: usize, end: i64) -> Vec<Token> {
    let mut tokens = Vec::new();
    fifo.take(max, end, |_, token| tokens.push(token));
    tokens
}

fn history(seed: u64) {
    let mut dice = Dice(seed);
    let (mut fifo, mut model, mut now, mut next) =
        (Fifo::new(7, seed), Model::default(), 0_i64, 1_u64);
    let keys: Vec<Option<Arc<str>>> =
        vec![None, Some("a".into()), Some("b".into()), Some("c".into())];
    let mut known: Vec<Token> = Vec::new();
    let mut claimed: Vec<Item<()>> = Vec::new();
    for step in 0..400 {
        now += i64::try_from(dice.roll(3)).unwrap();
        let later = now + 1 + i64::try_from(dice.roll(8)).unwrap();
        fifo.expire(now);
        model.expire(now);
        let token = dice.pick(&known);
        let valid = token.is_some_and(|token| {
            matches!(model.messages.get(&token.id), Some((_, _, At::Leased { fence, .. })) if *fence == token.fence)
        });
        match dice.roll(9) {
            0..=2 => {
                let key = keys[usize::try_from(dice.roll(4)).unwrap()].clone();
                let delayed = dice.roll(4) == 0;
                let at = if delayed {
                    At::Delayed {
                        due: later,
                        retry: false,
                    }
                } else {
                    At::Waiting
                };
                model.messages.insert(next, (key.clone(), 0, at));
                if delayed {
                    fifo.push_delayed(item(next, key), later);
                } else {
                    model.enter(next);
                    fifo.push(item(next, key));
                }
                next += 1;
            }
            3 | 4 => {
                let max = usize::try_from(dice.roll(4)).unwrap();
                let tokens = take(&mut fifo, max, later);
                let expected: Vec<u64> = model.ready().into_iter().take(max).collect();
                assert_eq!(
                    tokens.iter().map(|t| t.id).collect::<Vec<_>>(),
                    expected,
                    "seed {seed} step {step}"
                );
                for token in tokens {
                    assert_eq!(slot_of(token), 7);
                    model.messages.get_mut(&token.id).unwrap().2 = At::Leased {
                        fence: token.fence,
                        end: later,
                    };
                    known.push(token);
                }
            }
            5 => {
                let Some(token) = token else { continue };
                match fifo.claim(token) {
                    Ok(item) => {
                        assert!(valid);
                        model.messages.get_mut(&token.id).unwrap().2 = At::Claimed;
                        claimed.push(item);
                    }
                    Err(Stale) => assert!(!valid, "seed {seed} step {step}"),
                }
            }
            6 => {
                let Some(item) = claimed.pop() else { continue };
                let id = item.id;
                assert_eq!(
                    item.attempts, model.messages[&id].1,
                    "seed {seed} step {step}"
                );
                match dice.roll(3) {
                    0 => {
                        fifo.finish(id, item.key.as_ref());
                        model.finish(id);
                    }
                    1 => {
                        fifo.put_back(item);
                        model.messages.get_mut(&id).unwrap().2 = At::Waiting;
                    }
                    _ => {
                        fifo.retry(item, later);
                        let message = model.messages.get_mut(&id).unwrap();
                        message.1 += 1;
                        message.2 = At::Delayed {
                            due: later,
                            retry: true,
                        };
                    }
                }
            }
            7 => {
                let Some(token) = token else { continue };
                assert_eq!(
                    fifo.release(token).is_ok(),
                    valid,
                    "seed {seed} step {step}"
                );
                if valid {
                    model.messages.get_mut(&token.id).unwrap().2 = At::Waiting;
                }
            }
            _ => {
                let Some(token) = token else { continue };
                assert_eq!(
                    fifo.extend(token, later).is_ok(),
                    valid,
                    "seed {seed} step {step}"
                );
                if valid {
                    model.messages.get_mut(&token.id).unwrap().2 = At::Leased {
                        fence: token.fence,
                        end: later,
                    };
                }
            }
        }
        assert_eq!(fifo.ready(), model.ready().len(), "seed {seed} step {step}");
        assert_eq!(
            fifo.len() + claimed.len(),
            model.messages.len(),
            "seed {seed} step {step}"
        );
        let due = model.messages.values().filter_map(|(_, _, at)| match *at {
            At::Leased { end: due, .. } | At::Delayed { due, .. } => Some(due),
            _ => None,
        });
        if let Some(due) = due.min() {
            assert!(
                fifo.next_due().is_some_and(|told| told <= due),
                "seed {seed} step {step}"
            );
        }
    }
}

#[test]
fn it_behaves_as_the_model_in_random_histories() {
    for seed in 0..2_000 {
        history(seed);
    }
}

#[test]
fn a_message_that_comes_back_is_ahead_of_newer_ones() {
    let mut fifo = Fifo::new(0, 0);
    for id in 1..=4 {
        fifo.push(item(id, None));
    }
    let tokens = take(&mut fifo, 2, 10);
    fifo.release(tokens[1]).unwrap();
    assert_eq!(
        take(&mut fifo, 9, 10)
            .iter()
            .map(|token| token.id)
            .collect::<Vec<_>>(),
        [2, 3, 4]
    );
    fifo.expire(10);
    assert_eq!(
        take(&mut fifo, 9, 20)
            .iter()
            .map(|token| token.id)
            .collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert_eq!(fifo.claim(tokens[0]), Err(Stale));
}

#[test]
fn a_key_is_held_by_a_message_that_is_away() {
    let key: Arc<str> = "k".into();
    let mut fifo = Fifo::new(0, 0);
    fifo.hold(key.clone(), 1);
    fifo.push(item(2, Some(key.clone())));
    assert_eq!(fifo.ready(), 0);
    fifo.push(item(1, Some(key)));
    let tokens = take(&mut fifo, 9, 10);
    assert_eq!(tokens.iter().map(|token| token.id).collect::<Vec<_>>(), [1]);
    let done = fifo.claim(tokens[0]).unwrap();
    assert_eq!(fifo.ready(), 0);
    fifo.finish(done.id, done.key.as_ref());
    assert_eq!(take(&mut fifo, 9, 10)[0].id, 2);
}
