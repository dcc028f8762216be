//! What a handler can do through its context, and what the testing host makes of it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use sandbar_guest::testing::{Host, Outcome};
use sandbar_guest::{
    Context, Error, Json, Plugin, Request, RequestError, Response, Result, StateError, Status,
    Strategy, Uuid, command, context as ambient, log::Level,
};
use serde_json::{Value, json};

/// One handler whose body is the test's.
type Body = Rc<dyn Fn(&Context) -> Result<Response>>;

thread_local! {
    static BODY: Cell<Option<Body>> = const { Cell::new(None) };
}

#[command("run")]
fn run(_request: Request, ctx: &Context) -> Result<Response> {
    let body = BODY.take().ok_or_else(|| Error::failed("no body"))?;
    body(ctx)
}

sandbar_guest::plugin!(run);

const fn plugin() -> Plugin {
    PLUGIN
}

/// Runs `body` as the handler of a message without content.
fn check(host: &mut Host, body: impl Fn(&Context) -> Result<Response> + 'static) -> Outcome {
    BODY.set(Some(Rc::new(body)));
    host.send("run", ())
}

fn done() -> Result<Response> {
    Ok(Response::default())
}

#[test]
fn metadata_and_the_ambient_form() {
    let user = Uuid::from_u128(7);
    let mut host = Host::new(plugin());
    BODY.set(Some(Rc::new(move |ctx| {
        assert_eq!(ctx.user(), Some(user));
        assert_eq!(ambient::user(), Some(user));
        assert_eq!(ctx.reply_topic(), Some("replies"));
        assert_eq!(ambient::reply_topic().as_deref(), Some("replies"));
        assert_eq!(ctx.header("TRACE"), Some("t"));
        assert_eq!(ambient::headers(), *ctx.headers());
        assert_eq!((ctx.topic(), ctx.attempt()), ("run", 2));
        assert_eq!(ctx.id(), Uuid::from_u128(9).to_string());
        assert_eq!(ctx.budget(), Duration::from_secs(5));
        Ok(Response::text("x").header("m", "1").remove_header("Trace"))
    })));
    let outcome = host
        .message("run", ())
        .id(Uuid::from_u128(9))
        .user(user)
        .header("trace", "t")
        .reply_topic("replies")
        .attempt(2)
        .send();
    let reply = outcome.reply().unwrap();
    assert_eq!(reply.header("m"), Some("1"));
    assert_eq!(reply.header("trace"), None);
    assert_eq!(reply.header("user"), Some(user.to_string().as_str()));
    assert_eq!(ambient::headers().len(), 0);
    assert_eq!(ambient::user(), None);
}

#[test]
fn published_messages_keep_their_options() {
    let mut host = Host::new(plugin()).grant_publish("out.>");
    let outcome = check(&mut host, |ctx| {
        ctx.publish("out.a", Json(json!({"a": 1})))?;
        ctx.message("out.b", "text")
            .multicast()
            .key("k")
            .delay(Duration::from_millis(5))
            .id(Uuid::from_u128(1))
            .reply_topic("r")
            .header("h", "v")
            .status(Status::Error)
            .publish()?;
        done()
    });
    assert!(outcome.is_ok(), "{outcome:?}");
    let [a, b] = host.published() else {
        panic!("two messages expected")
    };
    assert_eq!(a.json::<Value>(), Ok(json!({"a": 1})));
    assert_eq!(
        (a.strategy, a.key.clone(), a.delay),
        (Strategy::Unicast, None, None)
    );
    assert_eq!(b.strategy, Strategy::Multicast);
    assert_eq!(b.key.as_deref(), Some("k"));
    assert_eq!(b.delay, Some(Duration::from_millis(5)));
    assert_eq!(b.id, Some(Uuid::from_u128(1).to_string()));
    assert_eq!(b.reply_topic.as_deref(), Some("r"));
    assert_eq!(b.headers.get("h"), Some("v"));
    assert_eq!(b.status, Status::Error);
}

#[test]
fn refused_messages() {
    let mut host = Host::new(plugin()).grant_publish("out");
    let outcome = check(&mut host, |ctx| {
        let refused = |topic: &str, content: Response| {
            ctx.publish(topic, content)
                .map_err(|error| error.to_string())
        };
        let text = |result: Result<(), String>| result.unwrap_err();
        assert!(text(refused("other", Response::default())).starts_with("publish forbidden"));
        assert!(text(refused("out.*", Response::default())).starts_with("publish invalid"));
        assert!(text(refused("out", Response::text("").header("a", "b\n"))).contains("malformed"));
        assert!(
            text(refused("out", Response::new(vec![0; (1 << 20) + 1]))).contains("1048577 bytes")
        );
        assert!(ctx.message("out", ()).id("x").publish().is_err());
        for _ in 0..64 {
            ctx.publish("out", ())?;
        }
        assert!(text(refused("out", Response::default())).starts_with("publish limit"));
        done()
    });
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(host.published().len(), 64);
}

#[test]
fn state_is_seen_at_once_inside_and_later_outside() {
    let mut host = Host::new(plugin())
        .grant_state()
        .stored("old", "1")
        .stored("word", "x");
    let outcome = check(&mut host, |ctx| {
        let state = ctx.state();
        assert_eq!(state.get("none")?, None);
        state.set("new", "v")?;
        assert_eq!(state.get("new")?, Some(b"v".to_vec()));
        state.delete("old")?;
        assert_eq!(state.get("old")?, None);
        assert_eq!(state.increment("n", 2)?, 2);
        assert_eq!(state.increment("n", -3)?, -1);
        assert_eq!(state.increment("word", 1), Err(StateError::NotANumber));
        state.set_json("j", &[1, 2])?;
        assert_eq!(state.get_json::<Vec<u8>>("j")?, Some(vec![1, 2]));
        assert!(
            matches!(state.get_json::<u8>("j"), Err(StateError::Malformed(text)) if text.starts_with("j: "))
        );
        for number in 0..40 {
            state.set(&format!("many/{number:02}"), "")?;
        }
        let keys = state.keys("many/")?;
        assert_eq!(keys.len(), 40);
        assert!(keys.is_sorted());
        assert_eq!(state.keys("")?.len(), 44);
        done()
    });
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(host.state()["n"], b"-1");
    assert!(!host.state().contains_key("old"));
}

#[test]
fn a_failing_call_leaves_nothing_but_its_log() {
    for error in [Error::rejected("r"), Error::failed("f"), Error::retry("t")] {
        let mut host = Host::new(plugin()).grant_state().grant_publish("out");
        let expected = error.clone();
        let outcome = check(&mut host, move |ctx| {
            ctx.publish("out", ())?;
            ctx.state().set("k", "v")?;
            sandbar_guest::warn!(answer = 42, "about to {}", "fail");
            Err(error.clone())
        });
        assert_eq!(outcome.error(), Some(&expected));
        assert!(host.published().is_empty() && host.state().is_empty());
        let [line] = host.logs() else {
            panic!("one line expected")
        };
        assert_eq!(
            (line.level, line.message.as_str()),
            (Level::Warn, "about to fail")
        );
        assert_eq!(line.fields, [("answer".to_owned(), "42".to_owned())]);
    }
}

#[test]
fn a_panicking_call_leaves_nothing_either() {
    let mut host = Host::new(plugin()).grant_state().stored("k", "before");
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        check(&mut host, |ctx| {
            ctx.state().set("k", "after")?;
            panic!("as a test may")
        })
    }));
    assert!(panic.is_err());
    assert_eq!(host.state()["k"], b"before");
    assert_eq!(ambient::headers().len(), 0);
}

#[test]
fn nothing_is_allowed_that_was_not_granted() {
    let outcome = check(&mut Host::new(plugin()), |ctx| {
        assert!(matches!(
            ctx.state().get("k"),
            Err(StateError::Forbidden(_))
        ));
        assert!(matches!(
            ctx.request("a", (), Duration::from_secs(1)),
            Err(RequestError::Forbidden(_))
        ));
        ctx.publish("a", ())?;
        done()
    });
    let error = outcome.error().unwrap();
    assert!(
        error.is_failed() && error.text().contains("grant_publish"),
        "{error}"
    );
}

#[test]
fn requests_are_answered_by_the_test() {
    let mut host = Host::new(plugin())
        .answer("twice", |content| [content.clone(), content].concat())
        .answer("no", |_| -> Result<()> { Err(Error::rejected("never")) })
        .answer("slow", |_| -> Result<()> { Err(Error::retry("later")) });
    let outcome = check(&mut host, |ctx| {
        let second = Duration::from_secs(1);
        assert_eq!(ctx.request("twice", "ab", second)?.text(), "abab");
        let no = ctx.request("no", (), second)?;
        assert_eq!(
            (no.status(), no.text()),
            (Status::Error, "never".to_owned())
        );
        ctx.request("slow", (), second)?;
        done()
    });
    // A request without an answer is worth another attempt.
    assert_eq!(outcome.error(), Some(&Error::retry("request timed out")));
}

#[test]
fn time_stands_still_and_chance_repeats_itself() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789);
    let draw = |attempt: u32| {
        let mut host = Host::new(plugin()).at(now);
        BODY.set(Some(Rc::new(move |ctx| {
            assert_eq!(ctx.now(), now);
            assert_eq!(ctx.uuid().get_version_num(), 4);
            assert_ne!(ctx.uuid(), ctx.uuid());
            assert_eq!(ctx.random(5).len(), 5);
            Response::json(&(ctx.random(16), ctx.uuid()))
        })));
        host.message("run", ()).attempt(attempt).send().text()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn configuration() {
    let mut host = Host::new(plugin()).config("b", "2").config("a", "1");
    let outcome = check(&mut host, |ctx| {
        assert_eq!(ctx.config().get("b").as_deref(), Some("2"));
        assert_eq!(ctx.config().get("c"), None);
        Response::json(&ctx.config().all())
    });
    assert_eq!(outcome.json::<Value>(), Ok(json!([["a", "1"], ["b", "2"]])));
}

#[test]
fn at_most_a_hundred_lines_and_a_megabyte() {
    let mut host = Host::new(plugin());
    let outcome = check(&mut host, |_| {
        for line in 0..200 {
            sandbar_guest::debug!("{line}");
        }
        Ok(Response::new(vec![0; (1 << 20) + 1]))
    });
    assert_eq!(host.logs().len(), 100);
    assert!(outcome.error().unwrap().is_failed());
    let outcome = host.send("run", vec![0; (1 << 20) + 1]);
    assert_eq!(outcome.status(), Status::Error);
}
