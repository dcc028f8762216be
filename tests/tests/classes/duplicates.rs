//! Duplicates: recognised within one group, from the moment on when the first copy was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sandbar::backend::{Backend, BackendError, EmbeddedBackend, EmbeddedOptions, SettleError};
use sandbar::message::Message;
use sandbar::subscriber::{
    BackendSubscriber, FilteredSubscriber, MemorySubscriber, Subscriber, SubscriberBuilder,
};
use sandbar::validator::{DuplicateValidator, Validator, Validity, WindowLimits};
use sandbar_tests::contract::{Failure, NEVER, Outcome, spec};

use super::{memory, message, next, on_each, publish, text, waiting};

/// A validator without a store and one with it, each on every kind of broker.
async fn with_each<F>(case: F) -> Outcome
where
    F: AsyncFn(Arc<dyn Backend>, Arc<dyn Validator>) -> Outcome,
{
    for stored in [false, true] {
        on_each(async |backend, store| {
            let limits = WindowLimits::default();
            let validator = match stored {
                false => DuplicateValidator::in_memory(limits),
                true => DuplicateValidator::stored(store, "g", limits).await?,
            };
            let case = case(backend, Arc::new(validator)).await;
            case.map_err(|error| format!("stored: {stored}: {error}").into())
        })
        .await?;
    }
    Ok(())
}

async fn subscriber(
    backend: &Arc<dyn Backend>,
    validator: Arc<dyn Validator>,
) -> Result<Box<dyn Subscriber>, Failure> {
    let builder = SubscriberBuilder::new()
        .with_backend(backend.clone())
        .with_topics([">".parse()?])
        .with_group_id(Some("g".to_owned()))
        .with_validator(validator);
    Ok(builder.build().await?)
}

async fn nothing(subscriber: &mut dyn Subscriber) -> Outcome {
    match tokio::time::timeout(NEVER, subscriber.receive()).await {
        Err(_) => Ok(()),
        Ok(received) => Err(format!("nothing was to come, and there is {received:?}").into()),
    }
}

#[tokio::test]
async fn a_duplicate_is_acknowledged_and_counted() -> Outcome {
    with_each(async |backend, validator| {
        let mut subscriber = subscriber(&backend, validator).await?;
        let one = message("order.create", "1")?;
        for count in 0..3 {
            publish(&*backend, std::slice::from_ref(&one)).await?;
            if count == 0 {
                next(&mut *subscriber).await?.ack().await?;
            }
            nothing(&mut *subscriber).await?;
            assert_eq!(subscriber.refused().count(), count);
        }
        assert!(waiting(&*backend, "g.subscriber").await?.is_empty());
        Ok(())
    })
    .await
}

/// It was seen before, but not handled.
#[tokio::test]
async fn a_retry_is_not_its_own_duplicate() -> Outcome {
    with_each(async |backend, validator| {
        let mut subscriber = subscriber(&backend, validator).await?;
        publish(&*backend, &[message("t", "1")?]).await?;
        drop(next(&mut *subscriber).await?);
        next(&mut *subscriber)
            .await?
            .retry(Duration::ZERO, "not yet")
            .await?;
        let third = next(&mut *subscriber).await?;
        assert_eq!(third.attempt(), 2);
        third.ack().await?;
        assert_eq!(subscriber.refused().count(), 0);
        Ok(())
    })
    .await
}

/// While the first copy is handled, the second one neither passes nor blocks others.
#[tokio::test]
async fn the_second_copy_waits_for_the_first() -> Outcome {
    with_each(async |backend, validator| {
        let mut subscriber = subscriber(&backend, validator).await?;
        let one = message("t", "1")?;
        publish(&*backend, &[one.clone(), one.clone(), message("t", "2")?]).await?;
        let first = next(&mut *subscriber).await?;
        let other = next(&mut *subscriber).await?;
        assert_eq!(text(&other), "2");
        nothing(&mut *subscriber).await?;
        // The first one fails, so it is the turn of one of them again, and of one only.
        drop(first);
        let again = next(&mut *subscriber).await?;
        assert_eq!((text(&again).as_str(), again.attempt()), ("1", 1));
        nothing(&mut *subscriber).await?;
        again.ack().await?;
        nothing(&mut *subscriber).await?;
        assert_eq!(subscriber.refused().count(), 1);
        other.ack().await?;
        assert!(waiting(&*backend, "g.subscriber").await?.is_empty());
        Ok(())
    })
    .await
}

/// They have the same identifier.
#[tokio::test]
async fn a_request_and_its_reply_are_no_duplicates() -> Outcome {
    with_each(async |backend, validator| {
        let mut subscriber = subscriber(&backend, validator).await?;
        let request = message("user.get", "7")?;
        let reply = message("user.get.reply", "Ada")?.with_identifier(request.identifier);
        publish(&*backend, &[request, reply]).await?;
        for _ in 0..2 {
            next(&mut *subscriber).await?.ack().await?;
        }
        assert_eq!(subscriber.refused().count(), 0);
        Ok(())
    })
    .await
}

/// The window is on disk together with the acknowledgements.
#[tokio::test]
async fn a_stored_window_survives_the_end_of_the_process() -> Outcome {
    let folder = tempfile::tempdir()?;
    let handled = [message("t", "1")?, message("t", "2")?];
    let new = message("t", "3")?;
    for round in 0..2 {
        let embedded = EmbeddedBackend::open(folder.path(), EmbeddedOptions::default()).await?;
        let embedded = Arc::new(embedded);
        let backend: Arc<dyn Backend> = embedded.clone();
        let limits = WindowLimits::default();
        let validator = Arc::new(DuplicateValidator::stored(embedded, "g", limits).await?);
        assert_eq!(validator.remembered(), round * handled.len());
        let mut subscriber = subscriber(&backend, validator).await?;
        publish(&*backend, &handled).await?;
        if round == 0 {
            for _ in &handled {
                next(&mut *subscriber).await?.ack().await?;
            }
        } else {
            publish(&*backend, std::slice::from_ref(&new)).await?;
            assert_eq!(text(&*next(&mut *subscriber).await?), "3");
            assert_eq!(subscriber.refused().count(), 2);
        }
        backend.close().await;
    }
    Ok(())
}

/// What the window forgets goes from the store as well, and it is read back as it was.
#[tokio::test]
async fn a_stored_window_is_pruned() -> Outcome {
    on_each(async |backend, store| {
        let limits = WindowLimits {
            count: 3,
            age: Duration::from_secs(60),
        };
        let validator = DuplicateValidator::stored(store.clone(), "g", limits).await?;
        let mut subscriber = subscriber(&backend, Arc::new(validator)).await?;
        let all: Result<Vec<Message>, _> = (0..20).map(|n| message("t", &n.to_string())).collect();
        let all = all?;
        publish(&*backend, &all).await?;
        for _ in &all {
            next(&mut *subscriber).await?.ack().await?;
        }
        let keys = async |prefix: &str| store.state_keys("duplicates:g", prefix, None, 99).await;
        // The last one that was forgotten is deleted with the next acknowledgement.
        assert_eq!(
            (keys("age/").await?.len(), keys("seen/").await?.len()),
            (4, 4)
        );
        let again = DuplicateValidator::stored(store.clone(), "g", limits).await?;
        assert_eq!(again.remembered(), 3);
        for (position, message) in all.iter().enumerate() {
            let validity = again.validate(message).await?;
            let known = matches!(validity, Validity::Invalid(_));
            // The store still has the fourth: it is looked up there.
            assert_eq!(known, position >= 16, "message {position}");
        }
        Ok(())
    })
    .await
}

/// Each of two processes judges for itself; the store decides.
#[tokio::test]
async fn of_two_copies_in_two_processes_one_is_acknowledged() -> Outcome {
    on_each(async |backend, store| {
        let mut both = Vec::new();
        for _ in 0..2 {
            let limits = WindowLimits::default();
            let validator = DuplicateValidator::stored(store.clone(), "g", limits).await?;
            both.push(subscriber(&backend, Arc::new(validator)).await?);
        }
        let (mut second, mut first) = (both.pop().ok_or("two")?, both.pop().ok_or("two")?);
        let one = message("t", "1")?;
        publish(&*backend, &[one.clone(), one]).await?;
        let (here, there) = (next(&mut *first).await?, next(&mut *second).await?);
        here.ack().await?;
        assert_eq!(there.ack().await, Err(SettleError::Conflict));
        nothing(&mut *second).await?;
        assert_eq!(
            second.refused().count(),
            1,
            "it came again and was a duplicate"
        );
        assert!(waiting(&*backend, "g.subscriber").await?.is_empty());
        Ok(())
    })
    .await
}

/// Both bounds hold, by a clock that is passed in.
#[tokio::test]
async fn what_is_too_old_is_no_duplicate() -> Outcome {
    on_each(async |backend, store| {
        let clock = Arc::new(AtomicI64::new(1_000));
        let limits = WindowLimits {
            count: 9,
            age: Duration::from_secs(1),
        };
        let now = clock.clone();
        let validator = DuplicateValidator::stored(store, "g", limits)
            .await?
            .with_clock(move || now.load(Ordering::Relaxed));
        let mut subscriber = subscriber(&backend, Arc::new(validator)).await?;
        let one = message("t", "1")?;
        for (at, handled) in [(1_000, true), (1_999, false), (2_000, true), (2_999, false)] {
            clock.store(at, Ordering::Relaxed);
            publish(&*backend, std::slice::from_ref(&one)).await?;
            if handled {
                next(&mut *subscriber).await?.ack().await?;
            }
            nothing(&mut *subscriber).await?;
        }
        assert_eq!(subscriber.refused().count(), 2);
        Ok(())
    })
    .await
}

/// One acknowledgement has room for one record.
#[tokio::test]
async fn two_stored_validators_are_an_error() -> Outcome {
    let backend = memory();
    let mut validators: Vec<Arc<dyn Validator>> = Vec::new();
    for group in ["a", "b"] {
        let limits = WindowLimits::default();
        let validator = DuplicateValidator::stored(backend.clone(), group, limits).await?;
        validators.push(Arc::new(validator));
    }
    let inner = BackendSubscriber::subscribe(backend.clone(), spec("q", &["t"])?).await?;
    let mut subscriber = FilteredSubscriber::new(Box::new(inner), validators);
    publish(&*backend, &[message("t", "1")?]).await?;
    let refused = next(&mut subscriber).await?.ack().await;
    assert!(
        matches!(&refused, Err(SettleError::Unavailable(text)) if text.contains("two validators")),
        "{refused:?}"
    );
    assert_eq!(text(&*next(&mut subscriber).await?), "1", "it comes again");
    Ok(())
}

/// A subscription that ends does not wait for copies of what its user still holds.
#[tokio::test]
async fn copies_of_what_is_held_do_not_hold_up_the_end() -> Outcome {
    let one = message("t", "1")?;
    let inner = MemorySubscriber::new(vec!["t".parse()?], [one.clone(), one]).await?;
    let validator = Arc::new(DuplicateValidator::in_memory(WindowLimits::default()));
    let mut subscriber = FilteredSubscriber::new(Box::new(inner), vec![validator]);
    let held = next(&mut subscriber).await?;
    let end = subscriber.receive().await.map(drop);
    assert_eq!(end, Err(BackendError::Closed));
    held.ack().await?;
    assert!(subscriber.next().await.is_none());
    assert_eq!(subscriber.refused().count(), 1);
    Ok(())
}
