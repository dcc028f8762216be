//! What a handler may try while it has a message.

use sandbar::message::Message;
use sandbar::store::{KeptLetter, Reason};
use sandbar_tests::contract::{Failure, Outcome};
use sandbar_tests::raw::{Raw, TOPIC};
use sandbar_tests::servers::web::Web;
use sandbar_tests::traffic::take;

use super::neighbourhood::{MEMORY, Neighbourhood};

/// Has it for this reason, with an error that says so.
fn ended(kept: &KeptLetter, reason: Reason, error: &str) {
    let letter = &kept.letter;
    assert_eq!(letter.reason, reason, "{letter:?}");
    assert!(letter.error.contains(error), "{}", letter.error);
}

async fn misbehaves(topic: &str, content: &str) -> Result<KeptLetter, Failure> {
    let there = Neighbourhood::misbehaving().await?;
    there.spoils(topic, content).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_loop() -> Outcome {
    let kept = misbehaves("bad.loop", "").await?;
    ended(&kept, Reason::Timeout, "longer than 500ms");
    Ok(())
}

/// It waits for what nobody ends, and runs no instruction meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_sleep() -> Outcome {
    let kept = Neighbourhood::raw_spoils(&Raw {
        handle: "(call $sleep) (i32.const 1024)".to_owned(),
        ..Raw::sleeper()
    })
    .await?;
    ended(&kept, Reason::Timeout, "longer than 500ms");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_by_growing() -> Outcome {
    let handle = "(loop $more
            (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
        (unreachable)";
    let kept = Neighbourhood::raw_spoils(&Raw {
        handle: handle.to_owned(),
        ..Raw::default()
    })
    .await?;
    ended(
        &kept,
        Reason::Memory,
        &format!("`limits.memory` is {MEMORY}"),
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_at_one_stroke() -> Outcome {
    let kept = Neighbourhood::raw_spoils(&Raw {
        handle: "(drop (memory.grow (i32.const 65000))) (unreachable)".to_owned(),
        ..Raw::default()
    })
    .await?;
    ended(&kept, Reason::Memory, "bytes of memory");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_in_small_pieces() -> Outcome {
    let kept = misbehaves("bad.memory", "small").await?;
    ended(&kept, Reason::Memory, "bytes of memory");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_grow() -> Outcome {
    let kept = Neighbourhood::raw_spoils(&Raw {
        more: "(table $t 1 funcref)".to_owned(),
        handle: "(loop $more
                (br_if $more (i32.ne
                    (table.grow $t (ref.null func) (i32.const 10000)) (i32.const -1))))
            (unreachable)"
            .to_owned(),
        ..Raw::default()
    })
    .await?;
    ended(&kept, Reason::Limit, "`limits.table_elements` is 100000");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_recursion() -> Outcome {
    let kept = Neighbourhood::raw_spoils(&Raw {
        more: "(func $down (param i32) (result i32)
                (i32.add (i32.const 1) (call $down (i32.add (local.get 0) (i32.const 1)))))"
            .to_owned(),
        handle: "(call $down (i32.const 0))".to_owned(),
        ..Raw::default()
    })
    .await?;
    ended(
        &kept,
        Reason::Limit,
        "call stack exhausted, `engine.stack` is 524288",
    );
    let report = kept.history.report.ok_or("a report")?;
    assert!(report.trace.len() > 10, "{:?}", report.trace);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreachable() -> Outcome {
    let kept = misbehaves("bad.trap", "abort").await?;
    ended(&kept, Reason::Trap, "unreachable");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn division_by_zero() -> Outcome {
    let kept = Neighbourhood::raw_spoils(&Raw {
        handle: "(i32.div_u (i32.const 1) (i32.const 0))".to_owned(),
        ..Raw::default()
    })
    .await?;
    ended(&kept, Reason::Trap, "divide by zero");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_of_others() -> Outcome {
    let kept = Neighbourhood::raw_spoils(&Raw {
        handle: "(i32.load (i32.const -4))".to_owned(),
        ..Raw::default()
    })
    .await?;
    ended(&kept, Reason::Trap, "out of bounds");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_reply() -> Outcome {
    let kept = misbehaves("bad.huge-reply", "1000000").await?;
    ended(&kept, Reason::Limit, "`limits.content` is 65536");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_message_published() -> Outcome {
    let kept = misbehaves("bad.publish-huge", "1000000").await?;
    ended(&kept, Reason::Limit, "`limits.content` is 65536");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_published() -> Outcome {
    let there = Neighbourhood::misbehaving().await?;
    let kept = there.spoils("bad.publish-many", "10000").await?;
    ended(&kept, Reason::Limit, "raise `limits.publishes`");
    assert!(take(&*there.opened.backend, "out.many").await.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_flood_with_terminal_escapes() -> Outcome {
    let there = Neighbourhood::misbehaving().await?;
    let reply = there.ask("bad.log-flood", "100000").await?;
    assert!(reply.ok(), "what is too much is dropped: {reply:?}");
    there.is_served().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_flood() -> Outcome {
    let there = Neighbourhood::misbehaving().await?;
    let kept = there.spoils("bad.state-flood", "100000 1").await?;
    ended(&kept, Reason::Limit, "raise `limits.state_writes`");
    let kept = there.spoils("bad.state-flood", "1 1000000").await?;
    ended(&kept, Reason::Limit, "raise `limits.state_value`");
    let keys = there.opened.store.state_keys("misbehave", "", None, 10);
    assert!(keys.await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_to_a_forbidden_topic() -> Outcome {
    let kept = misbehaves("bad.publish-forbidden", "audit").await?;
    ended(&kept, Reason::Forbidden, "add `publish = [\"audit\"]`");
    Ok(())
}

/// Nobody replies in the name of somebody else: reply topics are granted like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reply_of_another_spoofed() -> Outcome {
    let there = Neighbourhood::misbehaving().await?;
    let context = there.ask("bad.context", "").await?;
    let context: serde_json::Value = serde_json::from_slice(&context.payload.content)?;
    let waiting = context["reply_topic"].as_str().ok_or("a reply topic")?;
    let kept = there.spoils("bad.publish-forbidden", waiting).await?;
    ended(&kept, Reason::Forbidden, "may not publish");
    Ok(())
}

/// A reply whose one header has this name and value, as bytes.
fn header(name: &str, value: &str, length: u32) -> Raw {
    let more = format!(
        r#"(data (i32.const 3000) "{name}") (data (i32.const 3200) "{value}")
           (data (i32.const 2048) "\b8\0b\00\00\01\00\00\00\80\0c\00\00")
           (data (i32.const 1032) "\01")
           (data (i32.const 1044) "\00\08\00\00\01\00\00\00")"#
    );
    Raw {
        more,
        handle: format!("(i32.store (i32.const 2060) (i32.const {length})) (i32.const 1024)"),
        ..Raw::default()
    }
}

/// The raw reply is as it should be, so that the tests below fail for what they change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_component_that_behaves_is_served() -> Outcome {
    let there = Neighbourhood::raw(&header("h", "abc", 3)).await?;
    let reply: Message = there.ask(TOPIC, "x").await?;
    assert!(reply.ok(), "{reply:?}");
    assert_eq!(reply.payload.headers.get("h"), Some("abc"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_with_a_line_break() -> Outcome {
    let kept = Neighbourhood::raw_spoils(&header("h", "a\\r\\nb", 4)).await?;
    ended(&kept, Reason::Failed, "header");
    let kept = Neighbourhood::raw_spoils(&header("\\n", "abc", 3)).await?;
    ended(&kept, Reason::Failed, "header");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_of_a_mebibyte() -> Outcome {
    let mut raw = header("h", "x", 1 << 20);
    raw.handle = format!(
        "(memory.fill (i32.const 3200) (i32.const 120) (i32.const 1048576)) {}",
        raw.handle
    );
    let kept = Neighbourhood::raw_spoils(&raw).await?;
    ended(&kept, Reason::Limit, "`limits.header_bytes` is 16384");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_that_is_no_text() -> Outcome {
    let kept = Neighbourhood::raw_spoils(&header("h", "a\\ff\\fe", 3)).await?;
    ended(&kept, Reason::Trap, "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_beyond_its_memory() -> Outcome {
    let kept = Neighbourhood::raw_spoils(&header("h", "abc", u32::MAX)).await?;
    ended(&kept, Reason::Trap, "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reply_out_of_bounds_or_unaligned() -> Outcome {
    for at in ["-8", "2097150", "1025"] {
        let kept = Neighbourhood::raw_spoils(&Raw {
            handle: format!("(i32.const {at})"),
            ..Raw::default()
        })
        .await?;
        ended(&kept, Reason::Trap, "");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reply_of_no_known_kind() -> Outcome {
    let kept = Neighbourhood::raw_spoils(&Raw {
        more: r#"(data (i32.const 1024) "\07")"#.to_owned(),
        ..Raw::default()
    })
    .await?;
    ended(&kept, Reason::Trap, "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn allocator_that_lies() -> Outcome {
    for (at, error) in [("-16", "realloc"), ("1", "realloc"), ("2097151", "realloc")] {
        let kept = Neighbourhood::raw_spoils(&Raw {
            realloc: format!("(i32.const {at})"),
            ..Raw::default()
        })
        .await?;
        ended(&kept, Reason::Trap, error);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn allocator_that_traps_or_never_returns() -> Outcome {
    for (realloc, reason) in [
        ("(unreachable)", Reason::Trap),
        (
            "(loop $for_ever (br $for_ever)) (unreachable)",
            Reason::Timeout,
        ),
    ] {
        let kept = Neighbourhood::raw_spoils(&Raw {
            realloc: realloc.to_owned(),
            ..Raw::default()
        })
        .await?;
        ended(&kept, reason, "");
    }
    Ok(())
}

/// The host writes the message into the guest, whose allocator turns back to the host meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_entered_from_the_allocator() -> Outcome {
    let kept = Neighbourhood::raw_spoils(&Raw {
        imports: r#"(import "sandbar:messaging/log@0.1.0" "log"
            (func $log (param i32 i32 i32 i32 i32)))"#
            .to_owned(),
        realloc:
            "(call $log (i32.const 0) (i32.const 16) (i32.const 6) (i32.const 0) (i32.const 0))
            (i32.const 8192)"
                .to_owned(),
        ..Raw::default()
    })
    .await?;
    ended(&kept, Reason::Trap, "");
    Ok(())
}

/// Nothing of an instance that trapped is ever seen again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instance_after_a_trap() -> Outcome {
    // It traps at its second call, and every instance is called once only if the trapped one never comes back.
    let there = Neighbourhood::raw(&Raw {
        more: "(global $calls (mut i32) (i32.const 0))".to_owned(),
        handle: "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (if (i32.gt_u (global.get $calls) (i32.const 2)) (then
                (loop $for_ever (br $for_ever))))
            (if (i32.eq (global.get $calls) (i32.const 2)) (then (unreachable)))
            (i32.const 1024)"
            .to_owned(),
        ..Raw::default()
    })
    .await?;
    for turn in 0..20 {
        // The second attempt of what trapped is the first call of another instance.
        let reply = there.ask(TOPIC, "x").await?;
        let letters = there.opened.store.dead_letters(10).await?;
        assert!(reply.ok(), "{turn}: {reply:?}, {letters:?}");
    }
    assert!(there.opened.store.dead_letters(10).await?.is_empty());
    there.is_served().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_over_http() -> Outcome {
    let web = Web::start().await;
    let there = Neighbourhood::fetching(&web).await?;
    let content = format!("10000 {}", web.url("/held"));
    let kept = there.spoils("fetch.many", &content).await?;
    ended(&kept, Reason::Limit, "raise `limits.http_requests`");
    // Two attempts, of 16 requests at most.
    assert!(web.asked().len() <= 32, "{}", web.asked().len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn response_without_end() -> Outcome {
    let web = Web::start().await;
    let there = Neighbourhood::fetching(&web).await?;
    let kept = there.spoils("fetch.get", &web.url("/endless")).await?;
    ended(&kept, Reason::Limit, "raise `limits.http_bytes`");
    let kept = there.spoils("fetch.get", &web.url("/drip")).await?;
    ended(&kept, Reason::Timeout, "longer than 500ms");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_to_where_it_may_not() -> Outcome {
    let web = Web::start().await;
    let other = Web::start().await;
    let there = Neighbourhood::fetching(&web).await?;
    for url in [other.url("/ok"), web.url("/ok").replace("http", "https")] {
        let kept = there.spoils("fetch.get", &url).await?;
        ended(&kept, Reason::Forbidden, "HttpRequestDenied");
    }
    assert!(web.asked().is_empty() && other.asked().is_empty());
    Ok(())
}
