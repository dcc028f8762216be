//! Shares over many random hosts: cores, queues, weights and turns as long as they happen to be.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

/// Cores that take tasks from the front of one line and put them back at its end, as the runtime does.
struct Machine {
    shares: Shares,
    random: StdRng,
    line: VecDeque<(usize, Patience)>,
    cores: Vec<Core>,
    now: Duration,
    queues: Vec<Queue>,
}

struct Core {
    free: Duration,
    running: Option<(usize, Turn, Duration)>,
}

struct Queue {
    id: u64,
    weight: u32,
    demand: Arc<Demand>,
    /// Its tasks end after their turn.
    rests: bool,
    /// How long its turns are.
    turn: std::ops::Range<u64>,
    got: Duration,
    /// When it had its last turn, and the longest that it waited for one.
    last: Duration,
    waited: Duration,
}

impl Machine {
    fn new(seed: u64, cores: usize) -> Self {
        let core = || Core {
            free: Duration::ZERO,
            running: None,
        };
        Self {
            shares: Shares::default(),
            random: StdRng::seed_from_u64(seed),
            line: VecDeque::new(),
            cores: (0..cores).map(|_| core()).collect(),
            now: Duration::ZERO,
            queues: Vec::new(),
        }
    }

    fn queue(&mut self, weight: u32, tasks: usize, turn: std::ops::Range<u64>) -> usize {
        let demand = Arc::new(Demand::default());
        let id = self.shares.join(weight, demand.clone());
        let index = self.queues.len();
        self.queues.push(Queue {
            id,
            weight,
            demand,
            rests: false,
            turn,
            got: Duration::ZERO,
            last: self.now,
            waited: Duration::ZERO,
        });
        self.works(index, tasks);
        index
    }

    fn works(&mut self, index: usize, tasks: usize) {
        let queue = &mut self.queues[index];
        queue.rests = false;
        let before = queue.demand.tasks.fetch_add(tasks, Ordering::Relaxed);
        if before == 0 && tasks > 0 {
            self.shares.wakes(queue.id);
        }
        self.line
            .extend(std::iter::repeat_with(|| (index, Patience::default())).take(tasks));
    }

    fn rests(&mut self, index: usize) {
        let before = self.line.len();
        self.line.retain(|(it, _)| *it != index);
        let queue = &mut self.queues[index];
        queue.rests = true;
        let gone = before - self.line.len();
        queue.demand.tasks.fetch_sub(gone, Ordering::Relaxed);
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        for queue in &mut self.queues {
            (queue.got, queue.waited, queue.last) = (Duration::ZERO, Duration::ZERO, self.now);
        }
        while self.now < until {
            let core = (0..self.cores.len()).min_by_key(|it| self.cores[*it].free);
            let core = &mut self.cores[core.unwrap()];
            self.now = self.now.max(core.free);
            if let Some((index, turn, took)) = core.running.take() {
                self.shares.ended(&turn, took);
                let queue = &mut self.queues[index];
                queue.got += took;
                if queue.rests {
                    queue.demand.tasks.fetch_sub(1, Ordering::Relaxed);
                } else {
                    self.line.push_back((index, Patience::default()));
                }
            }
            // Asking costs something, so that time passes even if all of them let the others go first.
            core.free = self.now + Duration::from_nanos(500);
            let Some((index, mut patience)) = self.line.pop_front() else {
                continue;
            };
            let queue = &mut self.queues[index];
            match self.shares.turn(queue.id, &mut patience) {
                None => self.line.push_back((index, patience)),
                Some(turn) => {
                    let took = self.random.random_range(queue.turn.clone());
                    let took = Duration::from_micros(took);
                    core.running = Some((index, turn, took));
                    core.free += took;
                    queue.waited = queue.waited.max(self.now - queue.last);
                    queue.last = self.now;
                }
            }
        }
    }

    fn all(&self) -> f64 {
        self.queues.iter().map(|it| it.got.as_secs_f64()).sum()
    }
}

#[test]
fn saturated_queues_get_their_shares_and_none_is_starved() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let cores = random.random_range(1..=4);
        let mut machine = Machine::new(seed, cores);
        for _ in 0..random.random_range(2..=6) {
            let longest = random.random_range(50..3000);
            let shortest = random.random_range(25..longest);
            let weight = random.random_range(WEIGHTS);
            // Enough to keep every core busy by itself: fewer can use less than their share.
            let tasks = random.random_range(2 * cores..=20);
            machine.queue(weight, tasks, shortest..longest);
        }
        machine.run(Duration::from_secs(10));
        let weights: u32 = machine.queues.iter().map(|it| it.weight).sum();
        for queue in &machine.queues {
            let share = queue.got.as_secs_f64() / machine.all();
            let meant = f64::from(queue.weight) / f64::from(weights);
            assert!(
                (meant * 0.8..=meant * 1.25).contains(&share),
                "seed {seed}: weight {} of {weights} has {share:.3}",
                queue.weight
            );
            assert!(
                queue.waited < Duration::from_secs(1),
                "seed {seed}: weight {} waited {:?}",
                queue.weight,
                queue.waited
            );
        }
        let most = 10.0 * f64::from(u32::try_from(cores).unwrap());
        assert!(machine.all() > most * 0.9, "seed {seed}: the host rested");
    }
}

#[test]
fn one_that_has_nothing_to_do_costs_nothing_and_saves_nothing() {
    let mut machine = Machine::new(1, 2);
    let light = machine.queue(1, 4, 500..1000);
    let heavy = machine.queue(9, 8, 500..1000);
    machine.run(Duration::from_secs(1));
    machine.rests(heavy);
    machine.run(Duration::from_secs(5));
    let got = machine.queues[light].got.as_secs_f64();
    assert!(got > 9.8, "it had {got} of 10 seconds");
    // Now it is not given what it left.
    machine.works(heavy, 8);
    machine.run(Duration::from_secs(1));
    let share = machine.queues[light].got.as_secs_f64() / machine.all();
    assert!((0.08..0.12).contains(&share), "{share}");
}

#[test]
fn one_that_waits_for_something_else_holds_up_nobody() {
    let mut machine = Machine::new(2, 2);
    let light = machine.queue(1, 4, 500..1000);
    let heavy = machine.queue(9, 0, 1..2);
    // It has tasks, but none of them can run.
    let demand = machine.queues[heavy].demand.clone();
    demand.tasks.store(5, Ordering::Relaxed);
    machine.run(Duration::from_secs(5));
    let got = machine.queues[light].got.as_secs_f64();
    assert!(got > 9.8, "it had {got} of 10 seconds");
}

#[test]
fn one_that_uses_a_single_core_leaves_the_other_and_is_owed_little() {
    let mut machine = Machine::new(3, 2);
    let light = machine.queue(1, 4, 500..1000);
    let heavy = machine.queue(9, 1, 500..1000);
    machine.run(Duration::from_secs(5));
    let [light_got, heavy_got] = [light, heavy].map(|it| machine.queues[it].got.as_secs_f64());
    assert!(
        light_got > 4.5 && heavy_got > 4.5,
        "{light_got} {heavy_got}"
    );
    machine.works(heavy, 7);
    machine.run(Duration::from_secs(2));
    let waited = machine.queues[light].waited;
    assert!(waited < Duration::from_millis(200), "it waited {waited:?}");
}

#[test]
fn where_all_weigh_the_same_there_is_nothing_to_decide() {
    let mut shares = Shares::default();
    let [a, b] = [7, 7].map(|weight| shares.join(weight, Arc::default()));
    assert!(!shares.uneven());
    shares.weigh(a, 1);
    assert!(shares.uneven());
    shares.leave(b);
    assert!(!shares.uneven());
}

#[test]
fn a_lighter_queue_has_less_in_flight_while_a_heavier_one_presses() {
    let mut shares = Shares::default();
    let demands = [Arc::new(Demand::default()), Arc::new(Demand::default())];
    let light = shares.join(1, demands[0].clone());
    let heavy = shares.join(9, demands[1].clone());
    demands[0].in_flight.store(2000, Ordering::Relaxed);
    assert_eq!(shares.most_in_flight(light, 2048), 2048);
    demands[1].in_flight.store(2048, Ordering::Relaxed);
    assert_eq!(shares.most_in_flight(light, 2048), 227);
    assert_eq!(shares.most_in_flight(heavy, 2048), 2048);
    assert_eq!(shares.most_in_flight(light, 3), 1, "never none");
}
