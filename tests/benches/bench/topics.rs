//! From one topic to a hundred thousand, and from one binding to a hundred thousand: what each message costs.

use std::sync::Arc;

use sandbar::backend::{Backend, MemoryBackend, QueueSpec};
use sandbar::topic::{Pattern, TopicName};
use tokio::runtime::Runtime;

use super::components::one;
use super::driver::{Handler, Work, drive, host, stop};
use super::measure::{now, resident};
use super::memory::{headings, row};
use super::report::{Section, Table};
use super::settings::Settings;
use super::stats::bytes;
use super::{embedded, memory};

/// What the plugin handles.
const PATTERN: &str = "tt.>";

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "From one topic to a hundred thousand",
        "One plugin handles `tt.>`; messages go to so many topics in turn. Then the topics of other queues: so many queues \
         that are bound to one topic each, or to one pattern each, while the messages go to 1 or to 100,000 topics.",
    );
    let runtime = super::runtime(super::cores());
    let folder = tempfile::tempdir().unwrap();
    let plugin = || Handler::Plugins(vec![one(folder.path(), PATTERN, "echo")]);
    let counts: &[usize] = settings.pick(&[1, 100, 10_000, 100_000], &[1, 1_000]);
    let mut table = Table::new(headings("topics"));
    for count in counts {
        let work = work(*count, settings.pick(300_000, 10_000));
        let loads = [memory::load(&runtime, plugin(), &work)];
        table.row(row(&format!("{count}, memory"), &loads));
    }
    for count in counts {
        let work = work(*count, settings.pick(100_000, 5_000));
        let loads = [embedded::load(&runtime, plugin(), &work)];
        table.row(row(&format!("{count}, embedded"), &loads));
    }
    section.table(table);
    let headings = headings("other bindings").into_iter();
    let mut table = Table::new(headings.chain(["bound in", "memory for each"]));
    let most = *counts.last().unwrap_or(&1);
    for (kind, queues, topics) in [
        ("exact", most, 1),
        ("exact", most, most),
        ("pattern", most / 100, 1),
        ("pattern", most / 100, most),
    ] {
        let work = work(topics, settings.pick(300_000, 10_000));
        table.row(bound(&runtime, plugin(), &work, (kind, queues)));
    }
    section.table(table);
    section
}

fn work(topics: usize, count: usize) -> Work {
    let topic = |number| format!("tt.{number}").parse::<TopicName>().unwrap();
    Work {
        topics: (0..topics).map(topic).collect(),
        ..Work::echo(count)
    }
}

/// The same load beside many queues that get none of it.
fn bound(
    runtime: &Runtime,
    plugin: Handler,
    work: &Work,
    (kind, queues): (&str, usize),
) -> Vec<String> {
    runtime.block_on(async {
        let backend = Arc::new(MemoryBackend::new());
        let (began, before) = (now(), resident(std::process::id()));
        for number in 0..queues {
            let topic = match kind {
                "exact" => format!("other.{number}"),
                _ => format!("*.other.{number}"),
            };
            let topic: Pattern = topic.parse().unwrap();
            let name = format!("other-{number}").parse().unwrap();
            let spec = QueueSpec::new(name, vec![topic]);
            backend.declare_queue(spec).await.unwrap();
        }
        let took = began.elapsed();
        let memory = resident(std::process::id()).saturating_sub(before);
        let host = host(&backend, plugin).await;
        let warm_up = Work {
            count: work.count / 10,
            ..work.clone()
        };
        drive(&backend, &warm_up).await;
        let load = drive(&backend, work).await;
        stop(host, &backend).await;
        let name = format!("{queues} {kind}; topics in use: {}", work.topics.len());
        let mut row = row(&name, &[load]);
        row.push(format!("{:.2} s", took.as_secs_f64()));
        row.push(bytes(memory as f64 / queues as f64));
        row
    })
}
