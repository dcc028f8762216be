//! The little of WASI 0.2 that language runtimes import for themselves: clocks, randomness, standard output into the
//! log; an empty environment, no files, no sockets.
//!
//! Nothing here is a way out of the sandbox: handlers act on the world through their own interfaces, and through HTTP
//! (`guest/http.rs`) where that is granted.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::State;
use super::chance::Chance;
use crate::plugin::Limits;

/// Interfaces that may be imported; everything else of WASI is refused at load.
pub(super) const OFFERED: [&str; 7] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/outgoing-handler@",
    "wasi:http/types@",
    "wasi:io/",
    "wasi:random/",
];

/// What a guest may print at once, and the random bytes that come at once; more is printed, and asked for, in pieces.
const PIECE: usize = 64 * 1024;

pub(super) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
    output: Output,
}

impl Wasi {
    pub(super) fn new(chance: &Chance, limits: &Limits) -> Self {
        let output = Output(Arc::new(Mutex::new(Printed {
            most: limits.log_bytes,
            ..Printed::default()
        })));
        let mut builder = WasiCtxBuilder::new();
        builder
            .stdout(output.clone())
            .stderr(output.clone())
            .wall_clock(Still(chance.clone()))
            .secure_random(chance.clone())
            .insecure_random(chance.clone())
            .insecure_random_seed(0)
            .max_random_size(PIECE as u64)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.resources);
        Self {
            context: builder.build(),
            table,
            output,
        }
    }

    pub(super) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// What was printed since the last time, to become lines of the log, and whether there was more than is kept.
    pub(super) fn take_output(&self) -> (Vec<u8>, bool) {
        let mut printed = self.output.lock();
        let cut = std::mem::take(&mut printed.cut);
        (std::mem::take(&mut printed.bytes), cut)
    }
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // Made when it is first used, because most guests import no WASI at all.
        let wasi = self
            .wasi
            .get_or_insert_with(|| Box::new(Wasi::new(&self.chance, &self.limits)));
        WasiCtxView {
            ctx: &mut wasi.context,
            table: &mut wasi.table,
        }
    }
}

/// The wall clock of one call.
struct Still(Chance);

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.now_ns())
    }
}

/// Standard output and error, kept until the call ends.
#[derive(Clone)]
struct Output(Arc<Mutex<Printed>>);

#[derive(Default)]
struct Printed {
    bytes: Vec<u8>,
    most: usize,
    /// There was more.
    cut: bool,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Printed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, bytes: &[u8]) {
        let mut printed = self.lock();
        let room = printed.most.saturating_sub(printed.bytes.len());
        printed.bytes.extend(bytes.iter().take(room));
        printed.cut |= bytes.len() > room;
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PIECE)
    }
}
