//! Whose turn it is: how many calls of a plugin run at once, and what each takes over from the one before.
//!
//! Threads have a shelf each, so that calls on different cores don't write to the same memory. Who finds every shelf empty
//! waits in line, woken by whoever is done. It knows nothing of instances: what lies on the shelves is up to the pool.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Turns, each perhaps with something left by the call that had it before.
#[derive(Debug)]
pub(super) struct Turns<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    shelves: Box<[Shelf<T>]>,
    line: Mutex<Line<T>>,
    /// The length of the line, so that nobody who is done has to look at it when it is empty; as long as it can be when it
    /// is closed, so that everybody looks.
    waiting: AtomicUsize,
}

/// Those who wait.
#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<oneshot::Sender<Grant<T>>>,
    /// Nobody gets a turn any more.
    closed: bool,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            closed: false,
        }
    }
}

impl<T> Line<T> {
    fn len(&self) -> usize {
        if self.closed {
            usize::MAX
        } else {
            self.waiting.len()
        }
    }
}

/// As far from its neighbours as two lines of a cache.
#[derive(Debug)]
#[repr(align(128))]
struct Shelf<T>(Mutex<Free<T>>);

#[derive(Debug)]
struct Free<T> {
    /// Turns without anything.
    bare: usize,
    /// Turns with what was left.
    left: Vec<T>,
}

/// A turn; it goes back when this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a, T> {
    turns: &'a Turns<T>,
    left: Option<T>,
}

/// A turn on its way to somebody who waited, and back if that one is gone.
#[derive(Debug)]
struct Grant<T> {
    shared: Arc<Shared<T>>,
    turn: Option<Option<T>>,
}

impl<T> Drop for Grant<T> {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            give_back(&self.shared, turn);
        }
    }
}

impl<T> Turn<'_, T> {
    /// Takes what the call before left.
    pub(super) fn take(&mut self) -> Option<T> {
        self.left.take()
    }

    /// Leaves something for the next call.
    pub(super) fn leave(&mut self, left: T) {
        self.left = Some(left);
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        give_back(&self.turns.0, self.left.take());
    }
}

impl<T> Turns<T> {
    /// So many turns, at least one.
    pub(super) fn new(count: usize) -> Self {
        let shelves = std::thread::available_parallelism().map_or(2, usize::from);
        let count = count.max(1);
        let shelf = |number: usize| {
            let share = count / shelves + usize::from(number < count % shelves);
            Shelf(Mutex::new(Free {
                bare: share,
                left: Vec::new(),
            }))
        };
        Self(Arc::new(Shared {
            shelves: (0..shelves).map(shelf).collect(),
            line: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// Ends the waiting, also from now on if it is to `close`, and drops what was left. Turns that are out go on.
    pub(super) fn send_away(&self, close: bool) {
        let shared = &self.0;
        let mut line = shared.line();
        line.closed |= close;
        let waiting = std::mem::take(&mut line.waiting);
        shared.waiting.store(line.len(), Ordering::SeqCst);
        drop(line);
        drop(waiting);
        for shelf in &shared.shelves {
            let left = shelf.lock().clear();
            drop(left);
        }
    }

    /// A turn that nobody has or waits for.
    pub(super) fn free(&self) -> Option<Turn<'_, T>> {
        let shared = &self.0;
        // Nobody overtakes those who wait.
        if shared.waiting.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let left = shared.find()?;
        Some(Turn { turns: self, left })
    }

    /// Waits for a turn, in the order of the calls; `None` for who was sent away.
    pub(super) async fn next(&self) -> Option<Turn<'_, T>> {
        if let Some(turn) = self.free() {
            return Some(turn);
        }
        let shared = &self.0;
        loop {
            let (sender, receiver) = oneshot::channel();
            {
                let mut line = shared.line();
                if line.closed {
                    return None;
                }
                line.waiting.push_back(sender);
                shared.waiting.store(line.len(), Ordering::SeqCst);
            }
            // Whoever was done before that did not see the line.
            hand_over(shared);
            let mut grant = receiver.await.ok()?;
            if let Some(left) = grant.turn.take() {
                return Some(Turn { turns: self, left });
            }
        }
    }
}

impl<T> Shelf<T> {
    fn lock(&self) -> MutexGuard<'_, Free<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Free<T> {
    fn clear(&mut self) -> Vec<T> {
        self.bare += self.left.len();
        std::mem::take(&mut self.left)
    }
}

impl<T> Shared<T> {
    fn line(&self) -> MutexGuard<'_, Line<T>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shelves, that of this thread first.
    fn nearest(&self) -> impl Iterator<Item = &Shelf<T>> {
        let own = shelf_of_thread() % self.shelves.len().max(1);
        let (before, after) = self.shelves.split_at_checked(own).unwrap_or_default();
        after.iter().chain(before)
    }

    /// A free turn; one with something left first, since what is left is warm.
    fn find(&self) -> Option<Option<T>> {
        self.nearest().find_map(|shelf| {
            let mut free = shelf.lock();
            match free.left.pop() {
                Some(left) => Some(Some(left)),
                None if free.bare > 0 => {
                    free.bare -= 1;
                    Some(None)
                }
                None => None,
            }
        })
    }
}

fn give_back<T>(shared: &Arc<Shared<T>>, turn: Option<T>) {
    let waiting = shared.waiting.load(Ordering::SeqCst);
    // Nobody comes for what is left when it is closed.
    let turn = turn.filter(|_| waiting < usize::MAX);
    if let Some(shelf) = shared.nearest().next() {
        let mut free = shelf.lock();
        match turn {
            Some(left) => free.left.push(left),
            None => free.bare += 1,
        }
    }
    if shared.waiting.load(Ordering::SeqCst) > 0 {
        hand_over(shared);
    }
}

/// Gives free turns to those who wait, as many as there are.
fn hand_over<T>(shared: &Arc<Shared<T>>) {
    loop {
        let mut line = shared.line();
        // Whoever has stopped waiting leaves the line here.
        line.waiting.retain(|sender| !sender.is_closed());
        let turn = if line.waiting.is_empty() {
            None
        } else {
            shared.find()
        };
        let first = if turn.is_some() {
            line.waiting.pop_front()
        } else {
            None
        };
        shared.waiting.store(line.len(), Ordering::SeqCst);
        drop(line);
        let (Some(turn), Some(first)) = (turn, first) else {
            return;
        };
        let grant = Grant {
            shared: shared.clone(),
            turn: Some(turn),
        };
        // Who has gone in this very moment drops it, and it comes back.
        drop(first.send(grant));
    }
}

/// Threads count themselves; those of the runtime have numbers of their own.
fn shelf_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    OWN.with(|own| *own)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_run_at_once_than_there_are_turns_and_none_is_lost() {
        let turns = Arc::new(Turns::<u32>::new(3));
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..200).map(|number: u64| {
            let (turns, running, most) = (turns.clone(), running.clone(), most.clone());
            tokio::spawn(async move {
                for _ in 0..50 {
                    let next = turns.next();
                    // Some stop waiting.
                    let turn = if number.is_multiple_of(7) {
                        tokio::time::timeout(Duration::from_micros(number), next).await
                    } else {
                        Ok(next.await)
                    };
                    let Ok(Some(mut turn)) = turn else { continue };
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    let left = turn.take().unwrap_or(0);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    turn.leave(left + 1);
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), 3);
        let all = [turns.next().await, turns.next().await, turns.next().await];
        let all = all.into_iter().flatten();
        let count: u32 = all.filter_map(|mut turn| turn.take()).sum();
        assert!(count >= 171 * 50, "{count} calls have had a turn");
    }

    #[tokio::test]
    async fn who_waits_first_is_first() {
        let turns = Turns::<()>::new(1);
        let first = turns.next().await;
        let mut second = Box::pin(turns.next());
        let mut third = Box::pin(turns.next());
        assert!(futures_util::poll!(&mut second).is_pending());
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(first);
        let mut fourth = Box::pin(turns.next());
        assert!(futures_util::poll!(&mut fourth).is_pending());
        assert!(futures_util::poll!(&mut third).is_pending());
        assert!(futures_util::poll!(&mut second).is_ready());
        // `second` gave its turn back as its result was dropped.
        assert!(futures_util::poll!(&mut third).is_ready());
        assert!(futures_util::poll!(&mut fourth).is_ready());
    }

    #[tokio::test]
    async fn nobody_waits_for_what_is_closed_and_nothing_is_kept_there() {
        let turns = Turns::<Arc<()>>::new(2);
        let (left, kept) = (Arc::new(()), Arc::new(()));
        let mut out = turns.next().await.unwrap();
        out.leave(left.clone());
        turns.next().await.unwrap().leave(kept.clone());
        let other = turns.next().await.unwrap();
        let mut waiting = Box::pin(turns.next());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        turns.send_away(false);
        assert!(waiting.await.is_none());
        let mut waiting = Box::pin(turns.next());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        turns.send_away(true);
        assert!(waiting.await.is_none());
        assert!(turns.next().await.is_none());
        drop((out, other));
        assert!(turns.next().await.is_none());
        assert_eq!(Arc::strong_count(&kept), 1, "what was left is gone");
    }
}
