//! What a handler asked of the host and did, one line for each step.

use sandbar::store::{Answer, Blob, BodyEnd, Fetched, Step};

use super::preview::preview;

pub(super) fn as_text(step: &Step) -> String {
    match step {
        Step::Read { key, value: None } => format!("read {key}, which was not there"),
        Step::Read {
            key,
            value: Some(value),
        } => format!("read {key} = {}", shown(value)),
        Step::Listed {
            prefix,
            after,
            keys,
        } => {
            let after = after.iter().map(|after| format!(" after {after:?}"));
            let after: String = after.collect();
            let count = keys.len();
            format!("listed keys that begin with {prefix:?}{after}: {count} of them")
        }
        Step::Wrote { key, value: None } => format!("removed {key}"),
        Step::Wrote {
            key,
            value: Some(value),
        } => format!("wrote {key} = {}", shown(value)),
        Step::Published { topic, content } => format!("published {topic}: {}", shown(content)),
        Step::Asked {
            topic,
            content,
            answer,
        } => format!("asked {topic}: {}; {}", shown(content), answered(answer)),
        Step::Fetched {
            method,
            url,
            content,
            answer,
            ..
        } => format!(
            "sent {method} {url}: {}; {}",
            shown(content),
            fetched(answer)
        ),
    }
}

fn answered(answer: &Answer) -> String {
    match answer {
        Answer::Reply {
            status, content, ..
        } => format!("got {status}: {}", shown(content)),
        Answer::Timeout => "got no reply in time".to_owned(),
        Answer::Unavailable(why) => format!("got no reply: {why}"),
    }
}

fn fetched(answer: &Fetched) -> String {
    match answer {
        Fetched::Response {
            status,
            content,
            end,
            ..
        } => {
            let end = match end {
                BodyEnd::Whole => String::new(),
                BodyEnd::Unread => ", of which it read no more".to_owned(),
                BodyEnd::Missing => ", and more that is not in the journal".to_owned(),
                BodyEnd::Failed(failure) => format!(", which broke off: {failure}"),
            };
            format!("got {status}: {}{end}", shown(content))
        }
        Fetched::Failed(failure) => format!("got no response: {failure}"),
        Fetched::Pending => "got no response before it ended".to_owned(),
    }
}

fn shown(bytes: &Blob) -> String {
    match bytes.0.len() {
        0 => "no content".to_owned(),
        _ => preview(&bytes.0).1,
    }
}
